// Maps of a vector, one after another, as running/model.py describes them: linear, norm, relu, tanh, sigmoid.

import { arithmetic } from "./arithmetic.js";

const OF = { relu: (x) => Math.max(0, x), tanh: Math.tanh, sigmoid: (x) => 1 / (1 + Math.exp(-x)) };
const SLOPE = { relu: (y) => (y > 0 ? 1 : 0), tanh: (y) => 1 - y * y, sigmoid: (y) => y * (1 - y) }; // by their result

export class Chain {
  constructor(maps, tensors) {
    this.maps = maps;
    this.tensors = tensors;
  }

  // What comes out for a Float32Array; it is not written to.
  of(x) {
    return this.maps.reduce((now, map) => this.apply(map, now), x);
  }

  // The gradient by the input `x`, from that by the result.
  back(x, gradient) {
    const values = this.maps.reduce((all, map) => [...all, this.apply(map, all.at(-1))], [x]);
    return this.maps.reduceRight((now, map, i) => this.turn(map, values[i], values[i + 1], now), gradient);
  }

  apply({ op, matrix, bias, eps }, x) {
    if (op === "linear") return this.linear(matrix, bias, x);
    if (op === "norm") {
      const { normal } = normalised(x, eps);
      const [scale, shift] = [this.tensors[matrix], this.tensors[bias]];
      return normal.map((number, i) => number * (scale?.[i] ?? 1) + (shift?.[i] ?? 0));
    }
    return x.map(OF[op]);
  }

  linear(matrix, bias, x) {
    const weights = this.tensors[matrix];
    const found = new Float32Array(weights.length / x.length);
    arithmetic.rows(found, weights, x, 1, found.length, x.length);
    if (bias !== null) this.tensors[bias].forEach((number, i) => (found[i] += number));
    return found;
  }

  turn({ op, matrix, eps }, before, after, gradient) {
    if (op === "linear") {
      const found = new Float32Array(before.length);
      arithmetic.columns(found, this.tensors[matrix], gradient, 1, found.length, gradient.length);
      return found;
    }
    if (op === "norm") return this.turnNorm(this.tensors[matrix], before, gradient, eps);
    return gradient.map((number, i) => number * SLOPE[op](after[i]));
  }

  turnNorm(scale, before, gradient, eps) {
    const { normal, deviation } = normalised(before, eps);
    const scaled = gradient.map((number, i) => number * (scale?.[i] ?? 1));
    const mean = average(scaled);
    const along = average(scaled.map((number, i) => number * normal[i]));
    return scaled.map((number, i) => (number - mean - normal[i] * along) / deviation);
  }
}

const average = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

function normalised(x, eps) {
  const mean = average(x);
  const deviation = Math.sqrt(average(Float64Array.from(x, (one) => (one - mean) ** 2)) + eps);
  return { normal: x.map((one) => (one - mean) / deviation), deviation };
}
