// A network in a page: the same results as in PyTorch, with values that can be set and lines that can be cut.
//
//   const network = new Network(description, bytes, steps);        // described in network.py; steps.js exports `steps`
//   const { tokens } = network.encode("to be or not");             // of a series: the vectors that it reads
//   const record = network.run(tokens, [{ layer: 0, part: "f", value: 1, first: 3 }]);
//   record.steps[4].values[0][3];                                  // layer 0, part 3: a Float32Array
//   network.probabilities(record.steps[4].logits);                 // of all tokens, after five have been read
//   network.gradients(record, 4, token).byInput;                   // how much that depends on each of the five

import { softmax } from "./arithmetic.js";
import { untrained } from "./blend.js";
import { Chain } from "./chain.js";
import { gradients } from "./gradients.js";
import { Layer } from "./layer.js";
import { Series } from "./series.js";
import { Vocabulary } from "./vocabulary.js";

export class Network {
  // `weights`: a Float32Array or its bytes.
  constructor(description, weights, steps) {
    this.description = description;
    const { input, output } = description;
    this.reads = input.kind === "series" ? new Series(input) : new Vocabulary(input.vocabulary);
    this.output = output;
    this.trained = weights instanceof Float32Array ? weights : new Float32Array(new Uint8Array(weights).buffer);
    this.weights = new Float32Array(this.trained);
    this.tensors = description.tensors.map(({ at, size }) => this.weights.subarray(at, at + size));
    this.first = new Chain(input.first ?? [], this.tensors);
    this.head = new Chain(output.head, this.tensors);
    this.layers = description.layers.map((layer) => new Layer(layer, description.steps[layer.step], steps, this.tensors));
    this.blend(1);
  }

  // What it reads: { tokens, pieces, unknown }, see vocabulary.js and series.js.
  encode(text) {
    return this.reads.encode(text);
  }

  // The vector of a token, or what is made of a vector of a series.
  embed(token) {
    const { embedding } = this.description.input;
    if (embedding === undefined) return this.first.of(token);
    const width = this.description.tensors[embedding].shape[1];
    return this.tensors[embedding].subarray(token * width, (token + 1) * width);
  }

  // Sets the weights `share` of the way from untrained (0) to trained (1).
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
  // else null), and the logits of what comes out. All are copies, and stay as they are. `kept[layer]` has all of them.
  step(token, state, edits = []) {
    const first = this.embed(token);
    const found = { state: { at: state.at + 1, layers: [] }, values: [], sums: [], kept: [], logits: null };
    let x = first;
    let below = null;
    this.layers.forEach((layer, k) => {
      const now = layer.step(x, first, below, state.layers[k], state.at, layer.edits(edits, k, state.at));
      found.state.layers.push(now.states);
      found.values.push(now.values);
      found.sums.push(now.sums);
      found.kept.push(now.kept);
      x = now.output;
      below = now.kept;
    });
    found.logits = this.head.of(x);
    return found;
  }

  // Of tokens or classes, of labels each by itself; numbers are in the units of what is predicted.
  probabilities(logits) {
    const { kind, mean, deviation } = this.output;
    if (kind === "numbers") return Float64Array.from(logits, (number, i) => number * deviation[i] + mean[i]);
    if (kind === "labels") return Float64Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
    return softmax(logits);
  }

  // The slope of what is asked about, by the logits: the log-probability of `index`, or the number itself.
  slope(logits, index) {
    const { kind } = this.output;
    const chosen = (_, i) => Number(i === index);
    if (kind === "numbers") return Float64Array.from(logits, chosen);
    const all = this.probabilities(logits);
    return kind === "labels" ? all.map((p, i) => (i === index ? 1 - p : 0)) : all.map((p, i) => chosen(p, i) - p);
  }

  // How the log-probability of `token` after step `at`, or a number, changes with what was before: see gradients.js.
  gradients(record, at, token) {
    return gradients(this, record, at, token);
  }

  // Runs all steps of a text; `steps` are results of `step`. Steps that are as in the last run are not computed again.
  run(tokens, edits = []) {
    const record = this.begun(tokens, edits);
    while (record.steps.length < tokens.length) this.more(record);
    return record;
  }

  // The same in slices, so that the page stays responsive: `onProgress(done, all)`. Returns null if another run starts.
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

  // A record that starts with the steps known from the last run.
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

// The length of the common prefix.
function alike(some, others) {
  let same = 0;
  while (same < some.length && same < others.length && some[same] === others[same]) same++;
  return same;
}

// The first step in which edits may differ. Where two set the same number the last one does, so that order counts.
function firstChange(some, others) {
  const [a, b] = [some, others].map((edits) => edits.map((edit) => JSON.stringify(edit)));
  const same = alike(a, b);
  return [...some.slice(same), ...others.slice(same)].reduce((least, { first }) => Math.min(least, first ?? 0), Infinity);
}
