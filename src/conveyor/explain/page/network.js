// A language model in a page: the same numbers as in PyTorch, with values that can be set and lines that can be cut.
//
//   const network = new Network(description, bytes, steps);        // described in network.py; steps.js exports `steps`
//   const { tokens } = network.encode("to be or not");
//   const record = network.run(tokens, [{ layer: 0, part: "f", value: 1, first: 3 }]);
//   record.steps[4].values[0][3];                                  // layer 0, part 3: a Float32Array
//   network.probabilities(record.steps[4].logits);                 // of every token, after five have been read

import { arithmetic, softmax } from "./arithmetic.js";
import { untrained } from "./blend.js";
import { Vocabulary } from "./vocabulary.js";

export class Network {
  // `weights` are the bytes of the numbers, or the numbers.
  constructor(description, weights, steps) {
    this.description = description;
    this.vocabulary = new Vocabulary(description.vocabulary);
    this.trained = weights instanceof Float32Array ? weights : new Float32Array(new Uint8Array(weights).buffer);
    this.weights = new Float32Array(this.trained);
    this.tensors = description.tensors.map(({ at, size }) => this.weights.subarray(at, at + size));
    this.layers = description.layers.map((layer) => new Layer(layer, description.steps[layer.step], steps, this.tensors));
    this.blend(1);
  }

  // The tokens of a text: { tokens, pieces, unknown }, see vocabulary.js.
  encode(text) {
    return this.vocabulary.encode(text);
  }

  // Weights `share` of the way from untrained (0) to trained (1).
  blend(share) {
    if (share < 1) {
      this.untrained ??= untrained(this.description.tensors, this.trained);
      const { weights, trained, untrained: from } = this;
      for (let i = 0; i < weights.length; i++) weights[i] = (1 - share) * from[i] + share * trained[i];
    } else {
      this.weights.set(this.trained);
    }
    this.last = null;
    for (const layer of this.layers) layer.prepare();
  }

  // The state before the first step. A state is never written to.
  start() {
    return { at: 0, layers: this.layers.map((layer) => layer.start()) };
  }

  // One step: the state after it, `values[layer][part]` and `sums[layer][part]` (a layer's sum before it is squashed,
  // else null), and the logits of the next token. All are copies, and stay as they are.
  step(token, state, edits = []) {
    const { embedding, output, bias } = this.description;
    const width = this.description.tensors[embedding].shape[1];
    const first = this.tensors[embedding].subarray(token * width, (token + 1) * width);
    const found = { state: { at: state.at + 1, layers: [] }, values: [], sums: [], logits: null };
    let x = first;
    let below = null;
    this.layers.forEach((layer, k) => {
      const changes = layer.changes(edits.filter((edit) => edit.layer === k && acts(edit, state.at)));
      const now = layer.step(x, first, below, state.layers[k], state.at, changes);
      found.state.layers.push(now.states);
      found.values.push(now.values);
      found.sums.push(now.sums);
      x = now.output;
      below = now.kept;
    });
    found.logits = new Float32Array(this.tensors[bias].length);
    arithmetic.rows(found.logits, this.tensors[output], x, 1, found.logits.length, x.length);
    this.tensors[bias].forEach((number, i) => (found.logits[i] += number));
    return found;
  }

  probabilities(logits) {
    return softmax(logits);
  }

  // All steps of a text, `steps` as `step` gives them. Those that are as in the last run are not computed again.
  run(tokens, edits = []) {
    const record = this.begun(tokens, edits);
    while (record.steps.length < tokens.length) this.more(record);
    return record;
  }

  // The same, with the page alive meanwhile: `onProgress(done, all)`. Gives null where another run has begun before the end.
  async runInSlices(tokens, edits = [], onProgress = () => {}) {
    const record = this.begun(tokens, edits);
    while (record.steps.length < tokens.length) {
      const end = performance.now() + 20;
      while (record.steps.length < tokens.length && performance.now() < end) this.more(record);
      onProgress(record.steps.length, tokens.length);
      await new Promise((resolve) => setTimeout(resolve));
      if (this.last !== record) return null;
    }
    return record;
  }

  // A record with the steps that are known from the last run; of a run that is longer, all is kept.
  begun(tokens, edits) {
    for (const { layer } of edits) if (!this.layers[layer]) throw new Error(`the network has no layer ${layer}`);
    const last = this.last ?? { tokens: [], edits: [], steps: [] };
    const same = Math.min(alike(last.tokens, tokens), last.steps.length, firstChange(last.edits, edits));
    const record = { tokens: Array.from(tokens), edits, steps: last.steps.slice(0, same) };
    if (same < tokens.length || firstChange(last.edits, edits) < last.steps.length) this.last = record;
    return record;
  }

  more(record) {
    const { tokens, edits, steps } = record;
    const state = steps.length ? steps[steps.length - 1].state : this.start();
    steps.push(this.step(tokens[steps.length], state, edits));
  }
}

class Layer {
  constructor(layer, step, steps, tensors) {
    Object.assign(this, { layer, parts: step.parts, wires: step.wires, names: step.names, tensors });
    this.code = steps[layer.step](arithmetic, layer.weights.map((tensor) => tensors[tensor]));
  }

  prepare() {
    this.code.prepare();
    this.plain = {}; // the parameters as they are without edits
  }

  start() {
    return this.layer.states.map(({ width, initial }) =>
      initial === null ? new Float32Array(width) : this.tensors[initial].slice(),
    );
  }

  step(x, first, below, states, at, changes) {
    const { layer, code } = this;
    const { kept } = code;
    layer.states.forEach((state, k) => state.to >= 0 && kept.set(states[k], state.to));
    if (layer.x >= 0) kept.set(x, layer.x);
    if (layer.t >= 0) kept[layer.t] = at;
    for (const stream of layer.streams) this.fill(stream, first, below);
    code.step(changes.cuts, changes.sets);
    const copy = kept.slice();
    const view = (from, size) => copy.subarray(from, from + size);
    return {
      kept: copy,
      states: layer.states.map((state) => view(state.from, state.width)),
      values: this.parts.map((part, k) => (part.at < 0 ? this.parameter(k, changes) : view(part.at, part.size))),
      sums: this.parts.map((part) => (part.sum < 0 ? null : view(part.sum, part.size))),
      output: view(layer.output, layer.width),
    };
  }

  // A stream besides x: a value of the layer below, a learned map of the input, or a number.
  fill({ to, width, source, below: at, matrix, bias, number }, first, below) {
    const place = this.code.kept.subarray(to, to + width);
    if (source === "below") place.set(below.subarray(at, at + width));
    if (source === "number") place.fill(number);
    if (source !== "ground") return;
    arithmetic.rows(place, this.tensors[matrix], first, 1, width, first.length);
    if (bias !== null) this.tensors[bias].forEach((value, i) => (place[i] += value));
  }

  parameter(part, { sets }) {
    const held = this.code.held[part];
    if (sets && sets[part]) return held.slice();
    this.plain[part] ??= held.slice();
    return this.plain[part];
  }

  // What edits mean to the step: cuts by wire, sets by part; null where there are none.
  changes(edits) {
    const changes = { cuts: null, sets: null };
    for (const edit of edits) {
      const part = this.find(edit.part);
      if (edit.source === undefined || edit.source === null) {
        this.unit(part, edit.unit);
        changes.sets ??= [];
        (changes.sets[part] ??= []).push([edit.unit ?? null, edit.value ?? 0]);
      } else {
        changes.cuts ??= new Uint8Array(this.wires.length);
        changes.cuts[this.wire(this.find(edit.source), part)] = 1;
      }
    }
    return changes;
  }

  find(part) {
    const found = typeof part === "number" ? part : this.names[part];
    if (this.parts[found] === undefined) throw new Error(`the step has no part ${part}`);
    return found;
  }

  unit(part, unit) {
    if (unit >= this.parts[part].size || unit < 0) throw new Error(`part ${part} has no unit ${unit}`);
  }

  wire(source, target) {
    const found = this.wires.findIndex(([from, to]) => from === source && to === target);
    if (found < 0) throw new Error(`no line goes from part ${source} to part ${target}`);
    return found;
  }
}

function acts({ first = 0, last = null }, step) {
  return first <= step && (last === null || step <= last);
}

// How many of the first tokens are the same.
function alike(some, others) {
  let same = 0;
  while (same < some.length && same < others.length && some[same] === others[same]) same++;
  return same;
}

// The first step in which edits differ.
function firstChange(some, others) {
  const [a, b] = [some, others].map((edits) => new Map(edits.map((edit) => [JSON.stringify(edit), edit.first ?? 0])));
  const differing = [...a].filter(([key]) => !b.has(key)).concat([...b].filter(([key]) => !a.has(key)));
  return differing.reduce((least, [, first]) => Math.min(least, first), Infinity);
}
