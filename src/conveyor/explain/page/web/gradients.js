// Gradients through the steps of a run, with its edits.

import { arithmetic } from "./arithmetic.js";

// How the log-probability of `token` after step `at` changes with what was before: the norms of its gradients by each
// state after each step, `byState[layer][state][step]`, and by the embedding of each token, `byInput[step]`; of a series
// the gradients by its vectors, `byVector[step]`, and their norms. Where numbers come out, `token` is the place of one, and
// it is the number whose gradient it is. The record must have been run with the weights as they are.
//
// By a state is meant by what is handed to the next step, the other states held fixed, as in measure/flow.py: what reads
// the value in its own step, such as h = o * tanh(C) or the layer above, reads it undisturbed. After step `at` only the
// output is read, by the prediction: the entry `at` is the gradient by that for the last layer's output, else 0.
export function gradients(network, record, at, token) {
  const layers = network.layers.map((layer) => layer.backward());
  const byState = layers.map(({ states }) => states.map(() => new Float64Array(at + 1)));
  const byInput = new Float64Array(at + 1);
  const byVector = [];
  const later = layers.map(({ states }) => states.map(({ width }) => new Float32Array(width)));
  for (let step = at; step >= 0; step--) {
    let upward = step === at ? { [layers[0].gives]: byOutput(network, record.steps[at], token) } : {};
    for (let k = layers.length - 1; k >= 0; k--) {
      const handed = step === at && k === layers.length - 1 ? layers[k].output(upward) : later[k];
      handed.forEach((gradient, i) => (byState[k][i][step] = norm(gradient)));
      const saved = layers[k].saved(record, step, k);
      const found = layers[k].back(saved, later[k], upward);
      later[k] = found.before;
      upward = layers[k].below(found.streams);
      if (k === 0) {
        byVector[step] = byInputOf(network, record.tokens[step], layers[0].byEmbedding(found.streams));
        byInput[step] = norm(byVector[step]);
      }
    }
  }
  return { byState, byInput, byVector };
}

// Of a token the gradient by its embedding, of a vector that by itself.
function byInputOf(network, token, gradient) {
  return typeof token === "number" ? gradient : network.first.back(token, gradient);
}

// The gradient by what comes out of the last layer.
function byOutput(network, { kept, logits }, token) {
  const { output, width } = network.layers.at(-1).layer;
  return network.head.back(kept.at(-1).subarray(output, output + width), network.slope(logits, token));
}

function norm(gradient) {
  return Math.sqrt(gradient.reduce((sum, number) => sum + number * number, 0));
}

// The backward pass of a layer. `forward` runs its step again, with the edits as inputs, and has the values that
// `backward` reads. The offsets are described in backward.py.
export class Backward {
  constructor(layer, offsets, code, tensors) {
    const made = ["forward", "backward"].map((which) => {
      const factory = code[which];
      return factory(arithmetic, layer.layer[which].map((tensor) => tensors[tensor]));
    });
    [this.forward, this.backward] = made;
    made.forEach((one) => one.prepare());
    Object.assign(this, { layer, tensors, offsets });
    this.gives = layer.layer.gives;
    this.states = layer.layer.states.map(({ name, width }) => ({ name, width, offset: offsets.states[name] }));
    this.size = offsets.read.reduce((sum, [, , size]) => sum + size, 0);
  }

  // What the way back reads of a step of a record: computed once.
  saved(record, step, k) {
    const now = record.steps[step];
    now.saved ??= [];
    now.saved[k] ??= this.save(now.kept[k], this.layer.edits(record.edits, k, step));
    return now.saved[k];
  }

  save(kept, edits) {
    const { forward, offsets } = this;
    for (const [from, to, size] of offsets.given) forward.kept.set(kept.subarray(from, from + size), to);
    forward.edits.set(edits);
    forward.step();
    const found = new Float32Array(this.size);
    let at = 0;
    for (const [from, , size] of offsets.read) {
      found.set(forward.kept.subarray(from, from + size), at);
      at += size;
    }
    return { kept: found, edits };
  }

  // The gradients by the states that a prediction reads at its own step: of them all by the output only.
  output(upward) {
    return this.states.map(({ name, width }) => (name === this.gives ? upward[name] : new Float32Array(width)));
  }

  // `later` are the gradients by the states handed to the next step, `upward` by name those from the layer above. Gives
  // those by the states `before` the step, and by its `streams`, by name.
  back(saved, later, upward) {
    const { kept } = this.backward;
    let at = 0;
    for (const [, to, size] of this.offsets.read) {
      kept.set(saved.kept.subarray(at, at + size), to);
      at += size;
    }
    for (const [from, to, size] of this.offsets.edits) {
      this.backward.edits.set(saved.edits.subarray(from, from + size), to);
    }
    for (const [name, [to, size]] of Object.entries(this.offsets.upward)) {
      if (to >= 0) upward[name] ? kept.set(upward[name], to) : kept.fill(0, to, to + size);
    }
    this.states.forEach(({ offset: [to] }, i) => to >= 0 && kept.set(later[i], to));
    this.backward.step();
    const copy = ([from, size]) => kept.slice(from, from + size);
    return {
      before: this.states.map(({ offset: [, before, size] }) => copy([before, size])),
      streams: Object.fromEntries(Object.entries(this.offsets.streams).map(([name, place]) => [name, copy(place)])),
    };
  }

  // The gradients by the values of the layer below, by the names that they have there.
  below(streams) {
    const found = streams.x ? { [this.gives]: streams.x } : {};
    for (const { name, of } of this.layer.layer.streams) {
      if (of && streams[name]) found[of] = found[of] ? sum(found[of], streams[name]) : streams[name];
    }
    return found;
  }

  // The gradient by the embedding: as x, and through the maps that stand in for a layer below.
  byEmbedding(streams) {
    const grounds = this.layer.layer.streams.filter(({ name, source }) => source === "ground" && streams[name]);
    const parts = grounds.map(({ name, matrix }) => {
      const [width, size] = [streams[name].length, this.tensors[matrix].length / streams[name].length];
      const part = new Float32Array(size);
      arithmetic.columns(part, this.tensors[matrix], streams[name], 1, size, width);
      return part;
    });
    return (streams.x ? [streams.x, ...parts] : parts).reduce(sum, new Float32Array(0));
  }
}

function sum(some, others) {
  return some.length ? some.map((number, i) => number + others[i]) : others;
}
