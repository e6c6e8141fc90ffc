const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The model. `weights`: its file's address or its bytes, where they are not beside this module. */
export async function load(weights = WEIGHTS ?? new URL(`./${DESCRIPTION.name}.bin`, import.meta.url)) {
  const bytes = typeof weights === "string" || weights instanceof URL ? await read(new URL(weights, import.meta.url)) : weights;
  return new Model(bytes);
}

async function read(url) {
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return readFile(url);
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} cannot be read: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

function asNumbers(bytes) {
  if (!LITTLE) throw new Error("the weights are little-endian, and this machine is not");
  const copy = ArrayBuffer.isView(bytes) ? bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) : bytes;
  if (copy.byteLength !== 4 * DESCRIPTION.numbers) {
    throw new RangeError(`the weights of ${DESCRIPTION.name} are ${4 * DESCRIPTION.numbers} bytes, not ${copy.byteLength}`);
  }
  return new Float32Array(copy);
}

/** The weights, and one stream; `stream()` makes others, which share the weights. */
class Model {
  #numbers;
  #own;

  constructor(bytes) {
    this.#numbers = asNumbers(bytes);
    if (DESCRIPTION.vocabulary) this.vocabulary = new Vocabulary(DESCRIPTION.vocabulary);
    this.#own = this.stream();
  }

  stream() {
    return new Stream(this.#numbers);
  }

  step(x, further) {
    return this.#own.step(x, further);
  }

  run(chunk, further) {
    return this.#own.run(chunk, further);
  }

  reset(constants) {
    this.#own.reset(constants);
  }

  get state() {
    return this.#own.state;
  }

  set state(state) {
    this.#own.state = state;
  }

  get outputs() {
    return this.#own.outputs;
  }

  encode(text) {
    const vocabulary = this.#text();
    const { tokens, unknown } = vocabulary.encode(text);
    if (unknown.length && vocabulary.kind !== "word") {
      throw new RangeError(`the model never saw ${unknown.map((symbol) => JSON.stringify(symbol)).join(", ")}`);
    }
    return tokens;
  }

  decode(tokens) {
    const { kind, symbols } = this.#text();
    for (const token of tokens) checkToken(token);
    if (kind === "byte") return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(tokens));
    return Array.from(tokens, (token) => symbols[token]).join("");
  }

  #text() {
    if (!this.vocabulary) throw new Error(`${DESCRIPTION.name} was exported without a vocabulary`);
    return this.vocabulary;
  }
}

/** A sequence that goes on from call to call. */
class Stream {
  #numbers;
  #code;
  #states;
  #at = 0;
  #begun = !DESCRIPTION.constants.length;

  constructor(numbers) {
    this.#numbers = numbers;
    this.#code = steps[0](arithmetic, DESCRIPTION.weights.map((tensor) => this.#tensor(tensor)));
    this.#code.prepare();
    this.outputs = {};
    this.#start();
  }

  #tensor({ at, size }) {
    return this.#numbers.subarray(at, at + size);
  }

  #start() {
    this.#states = DESCRIPTION.states.map(({ initial }) => this.#tensor(initial).slice());
    this.#at = 0;
  }

  /** Before the first step of a sequence. `constants`: what is the same at all its steps, by name. */
  reset(constants = {}) {
    checkNames(constants, DESCRIPTION.constants);
    for (const place of DESCRIPTION.constants) checkSize(place, constants[place.name], 1);
    for (const place of DESCRIPTION.constants) this.#put(place, constants[place.name], 0);
    this.#begun = true;
    this.#start();
  }

  step(x, further = {}) {
    return this.#go(DESCRIPTION.tokens ? [x] : x, further, 1);
  }

  run(chunk, further = {}) {
    const width = DESCRIPTION.tokens ? 1 : DESCRIPTION.streams[0].size;
    const many = chunk.length / width;
    if (!Number.isInteger(many)) throw new RangeError(`a chunk has ${width} numbers a step, and not ${chunk.length} in all`);
    return this.#go(chunk, further, many);
  }

  #go(chunk, further, many) {
    if (!this.#begun) throw new Error(`call reset({ ${DESCRIPTION.constants.map(({ name }) => name).join(", ")} }) first`);
    const [first, ...others] = DESCRIPTION.streams;
    checkNames(further, others);
    const given = [[first, chunk], ...others.map((place) => [place, further[place.name]])];
    for (const [place, values] of given) checkSize(place, values, many);
    const made = DESCRIPTION.outputs.map(({ size }) => new Float32Array(many * size));
    for (let k = 0; k < many; k++) this.#once(given, made, k);
    this.outputs = Object.fromEntries(DESCRIPTION.outputs.map(({ name }, i) => [name, made[i]]));
    return made[0];
  }

  #once(given, made, k) {
    const { kept } = this.#code;
    DESCRIPTION.states.forEach(({ to }, i) => to >= 0 && kept.set(this.#states[i], to));
    for (const [place, values] of given) this.#put(place, values, k);
    if (DESCRIPTION.t >= 0) kept[DESCRIPTION.t] = this.#at;
    this.#code.step();
    DESCRIPTION.outputs.forEach(({ from, size }, i) => made[i].set(kept.subarray(from, from + size), k * size));
    DESCRIPTION.states.forEach(({ from, size }, i) => this.#states[i].set(kept.subarray(from, from + size)));
    this.#at += 1;
  }

  #put({ to, size, embedding }, values, k) {
    if (to < 0) return;
    const { kept } = this.#code;
    if (embedding !== undefined) {
      const at = embedding + values[k] * size;
      for (let i = 0; i < size; i++) kept[to + i] = this.#numbers[at + i];
    } else for (let i = 0; i < size; i++) kept[to + i] = values[k * size + i];
  }

  /** A copy of all that goes from step to step. */
  get state() {
    const named = DESCRIPTION.states.map(({ name }, i) => [name, this.#states[i].slice()]);
    return { at: this.#at, values: Object.fromEntries(named) };
  }

  set state({ at, values }) {
    if (!Number.isInteger(at) || at < 0) throw new RangeError(`a state is at a whole number of steps, not ${at}`);
    checkNames(values, DESCRIPTION.states);
    for (const place of DESCRIPTION.states) checkSize(place, values[place.name], 1);
    DESCRIPTION.states.forEach(({ name }, i) => this.#states[i].set(values[name]));
    this.#at = at;
  }
}

function checkNames(given, places) {
  const names = places.map(({ name }) => name);
  for (const name of names) if (given[name] === undefined) throw new TypeError(`${name} is not given`);
  for (const name of Object.keys(given)) if (!names.includes(name)) throw new TypeError(`there is no ${name} to be given`);
}

function checkSize({ name, size, embedding }, values, many) {
  if (embedding !== undefined) {
    for (const token of values) checkToken(token);
  } else if (values?.length !== many * size) {
    throw new RangeError(`${name} has ${many * size} numbers here, and not ${values?.length}`);
  }
}

function checkToken(token) {
  if (!Number.isInteger(token) || token < 0 || token >= DESCRIPTION.tokens) {
    throw new RangeError(`a token is a whole number from 0 to ${DESCRIPTION.tokens - 1}, not ${token}`);
  }
}
