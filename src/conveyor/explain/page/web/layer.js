// A layer of a network: one step after the other, with edits.

import { arithmetic } from "./arithmetic.js";
import { Backward } from "./gradients.js";

export class Layer {
  constructor(layer, step, steps, tensors) {
    Object.assign(this, { layer, parts: step.parts, wires: step.wires, names: step.names, tensors });
    Object.assign(this, { gradient: step.gradient, steps: steps[layer.step] });
    this.code = steps[layer.step](arithmetic, layer.weights.map((tensor) => tensors[tensor]));
  }

  prepare() {
    this.code.prepare();
    this.way = null;
    this.plain = {}; // the parameters as they are without edits
  }

  // Its way back, for gradients.
  backward() {
    this.way ??= new Backward(this, this.gradient, this.steps, this.tensors);
    return this.way;
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

  // What the edits of this layer, which is the k-th, mean in a step: cuts by wire, sets by part; null where there are none.
  changes(edits, k, at) {
    const changes = { cuts: null, sets: null };
    for (const edit of edits) {
      if (edit.layer !== k || !acts(edit, at)) continue;
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
