// A layer of a network, run step by step with edits.

import { arithmetic } from "./arithmetic.js";
import { Backward } from "./gradients.js";

export class Layer {
  constructor(layer, step, steps, tensors) {
    Object.assign(this, { layer, parts: step.parts, wires: step.wires, cuts: step.cuts, names: step.names, tensors });
    this.unedited = new Float32Array(step.edits);
    Object.assign(this, { gradient: step.gradient, steps: steps[layer.step] });
    this.code = steps[layer.step](arithmetic, layer.weights.map((tensor) => tensors[tensor]));
  }

  prepare() {
    this.code.prepare();
    this.backwardPass = null;
    this.plain = {}; // the parameters without edits
  }

  // Its backward pass, for gradients.
  backward() {
    this.backwardPass ??= new Backward(this, this.gradient, this.steps, this.tensors);
    return this.backwardPass;
  }

  start() {
    return this.layer.states.map(({ width, initial }) =>
      initial === null ? new Float32Array(width) : this.tensors[initial].slice(),
    );
  }

  step(x, first, below, states, at, edits) {
    const { layer, code } = this;
    const { kept } = code;
    layer.states.forEach((state, k) => state.to >= 0 && kept.set(states[k], state.to));
    if (layer.x >= 0) kept.set(x, layer.x);
    if (layer.t >= 0) kept[layer.t] = at;
    for (const stream of layer.streams) this.fill(stream, first, below);
    code.edits.set(edits);
    code.step();
    const copy = kept.slice();
    const view = (from, size) => copy.subarray(from, from + size);
    return {
      kept: copy,
      states: layer.states.map((state) => view(state.from, state.width)),
      values: this.parts.map((part, k) => (part.at < 0 ? this.parameter(k, edits) : view(part.at, part.size))),
      sums: this.parts.map((part) => (part.sum < 0 ? null : view(part.sum, part.size))),
      output: view(layer.output, layer.width),
    };
  }

  // Fills a stream other than x: with a value of the layer below, a learned map of the input, or a constant.
  fill({ to, width, source, below: at, matrix, bias, number }, first, below) {
    const place = this.code.kept.subarray(to, to + width);
    if (source === "below") place.set(below.subarray(at, at + width));
    if (source === "number") place.fill(number);
    if (source !== "ground") return;
    arithmetic.rows(place, this.tensors[matrix], first, 1, width, first.length);
    if (bias !== null) this.tensors[bias].forEach((value, i) => (place[i] += value));
  }

  parameter(part, edits) {
    const held = this.code.held[part];
    const { set, size } = this.parts[part];
    if (edits.subarray(set, set + size).some(Boolean)) return held.slice();
    this.plain[part] ??= held.slice();
    return this.plain[part];
  }

  // The input `edits` of an emitted step, from the edits of this layer (the k-th) that apply at this step.
  edits(edits, k, at) {
    const own = edits.filter((edit) => edit.layer === k && acts(edit, at));
    if (!own.length) return this.unedited;
    const found = this.unedited.slice();
    for (const edit of own) {
      const part = this.find(edit.part);
      if (edit.source === undefined || edit.source === null) {
        this.unit(part, edit.unit);
        const { set, value, size } = this.parts[part];
        const [from, to] = [edit.unit ?? 0, (edit.unit ?? size - 1) + 1];
        found.fill(1, set + from, set + to).fill(edit.value ?? 0, value + from, value + to);
      } else found[this.cuts[this.wire(this.find(edit.source), part)]] = 1;
    }
    return found;
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
