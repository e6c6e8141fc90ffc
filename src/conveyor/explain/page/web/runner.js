export const FAR = 300; // the most steps through which gradients flow back
const LONGEST = 5000; // the most tokens of a text that are read
const ROOM = 2 ** 28; // bytes for the values of a network on them, all of which are kept

/**
 * Runs a network on a text in small slices, so that the page stays responsive; after a keystroke only new steps are
 * run. It runs twice, with the edits and without, so that both can be compared.
 */
export class Runner {
  #networks;
  #known = { text: null, read: null };
  #share = 1;

  /** `edited` and `plain`: two of the same network; each keeps what it has run. */
  constructor(edited, plain) {
    this.#networks = { edited, plain };
    this.longest = longest(edited);
    this.record = this.plain = new Run(edited, edited.begun([], []));
  }

  /**
   * The text in the tokens of this network: {tokens, pieces, unknown, count}; a piece is the text of a token. Of `count`
   * tokens that there are no more than `longest` are given.
   */
  read(text) {
    if (this.#known.text !== text) {
      const read = this.#networks.plain.encode(text);
      const tokens = read.tokens.slice(0, this.longest);
      const pieces = tokens.map((token, i) => this.symbol(token, read.pieces[i]));
      this.#known = { text, read: { ...read, tokens, pieces, count: read.tokens.length } };
    }
    return this.#known.read;
  }

  /** How many characters of the text have been read at the end of each token. */
  ends(text) {
    const { kind, numbers } = this.network.reads;
    const { pieces } = this.read(text);
    let end = 0;
    if (kind === "word") {
      return pieces.map((piece) => (end += piece.length));
    }
    return Array.from(text).flatMap((character) => {
      end += character.length;
      const bytes = kind === "byte" ? new TextEncoder().encode(character).length : Number(numbers.has(character));
      return Array(bytes).fill(end);
    });
  }

  tokens(text) {
    return this.read(text).tokens;
  }

  /** The text of a token. A byte is shown as a character where it is one by itself, else as its number in brackets. */
  symbol(token, piece = this.network.reads.symbols?.[token]) {
    if (this.network.reads.kind !== "byte") {
      return piece;
    }
    return token === 10 || (token >= 32 && token < 127) ? String.fromCharCode(token) : `⟨${piece}⟩`;
  }

  /** What an output is called: a token's text, a class, a number. */
  outcome(index) {
    return this.network.output.names?.[index] ?? this.symbol(index);
  }

  get network() {
    return this.#networks.edited;
  }

  /** Whether the network has what an edit is about; an address may say anything. */
  allows({ layer, part, source, unit, value, first, last }) {
    if (!Number.isInteger(layer) || ![unit, first, last].every((one) => (one ?? null) === null || Number.isInteger(one))) {
      return false;
    }
    try {
      const found = this.network.layers[layer];
      const at = found.find(part);
      if (source !== undefined && source !== null) {
        return found.wire(found.find(source), at) >= 0;
      }
      return Number.isFinite(value) && ((unit ?? null) === null || (unit >= 0 && unit < found.parts[at].size));
    } catch {
      return false;
    }
  }

  /** What is to be run. What of it was run before is kept. */
  ask(text, edits, trained) {
    const { tokens } = this.read(text);
    const { edited, plain } = this.#networks;
    if (this.#share !== trained) {
      this.#share = trained;
      edited.blend(trained);
      plain.blend(trained);
    }
    this.record = new Run(edited, edited.begun(tokens, edits));
    this.plain = edits.length ? new Run(plain, plain.begun(tokens, [])) : this.record;
  }

  /** Runs until then, by the clock, and says whether something is left. */
  work(until) {
    const left = this.record.more(until);
    return this.plain === this.record ? left : this.plain.more(until) || left;
  }
}

/** Numbers of a step: the layers' values, the logits, and the probabilities. */
function longest({ layers, output }) {
  const numbers = layers.reduce((sum, { code }) => sum + code.kept.length, 2 * output.count);
  return Math.max(FAR, Math.min(LONGEST, Math.floor(ROOM / (4 * numbers))));
}

const known = new WeakMap(); // probabilities by logits: a step that is not run again keeps them, too

/** What a network has computed on a text, as far as it has come. */
class Run {
  #network;
  #begun;

  constructor(network, begun) {
    this.#network = network;
    this.#begun = begun;
  }

  /** How many steps it has run. */
  get length() {
    return this.#begun.steps.length;
  }

  get tokens() {
    return this.#begun.tokens;
  }

  /** At least one step, and more until then. */
  more(until) {
    const { steps, tokens } = this.#begun;
    while (steps.length < tokens.length) {
      this.#network.more(this.#begun);
      if (performance.now() >= until) {
        break;
      }
    }
    return steps.length < tokens.length;
  }

  /** The numbers of a part at a step; nothing where there is no such step yet. */
  values(step, layer, part) {
    return this.#begun.steps[step]?.values[layer][part];
  }

  /** The sums of a layer before they are squashed. */
  sums(step, layer, part) {
    return this.#begun.steps[step]?.sums[layer][part];
  }

  /** Of each token, that it comes next; of each class; or the numbers that come out, in their units. */
  probabilities(step) {
    const { logits } = this.#begun.steps[step];
    if (!known.has(logits)) {
      known.set(logits, this.#network.probabilities(logits));
    }
    return known.get(logits);
  }

  probability(step, token) {
    return this.probabilities(step)[token];
  }

  /** How much the prediction of a token after a step depends on the last tokens: the norms of their gradients, from `from` on. */
  restsOn(step, token) {
    const { from, byInput } = this.gradients(step, token);
    return { from, shares: byInput };
  }

  /** As gradients.js has them, of the steps after `from`: the way back through a long text would take seconds. */
  gradients(at, token) {
    const { tokens, edits, steps } = this.#begun;
    const from = Math.max(0, at - FAR);
    const moved = edits.map((edit) => ({
      ...edit,
      first: (edit.first ?? 0) - from,
      last: (edit.last ?? null) === null ? null : edit.last - from,
    }));
    const last = { tokens: tokens.slice(from, at + 1), edits: moved, steps: steps.slice(from, at + 1) };
    return { from, ...this.#network.gradients(last, at - from, token) };
  }

  /** As the engine has it, for what else can be asked of it. */
  get raw() {
    return this.#begun;
  }
}
