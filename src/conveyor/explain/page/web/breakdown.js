/** How one value is computed: the sum of a layer by blocks, or the arithmetic of a circle in symbols and numbers. */
import { constant, figure } from "./dom.js";
import { ATOM, spelled } from "./spell.js";

/**
 * What adds up to a unit's sum: {biases, blocks, total}. A block is {part, block, weights, values, products, sum};
 * `weights` and what follows from them are null where the weights are themselves computed. `cut`: "source-target".
 */
export function contributions(net, record, step, layer, at, unit, cut) {
  const part = net.part(layer, at);
  const biases = part.biases.map((view) => view && weightAt(net, layer, view, unit, 0));
  const blocks = part.terms.map(({ part: source, block, view }) => {
    const numbers = record.values(step, layer, source);
    const values = cut.has(`${source}-${at}`) ? new Float32Array(numbers.length) : numbers;
    const flat = net.part(layer, source).flat;
    if (!view || !flat) {
      return { part: source, block, values, weights: null, products: null, sum: null };
    }
    const weights = new Float32Array(values.length);
    weights.forEach((_, i) => {
      weights[i] =
        block === "full" ? weightAt(net, layer, view, unit, i) : i === unit ? weightAt(net, layer, view, unit, 0) : 0;
    });
    const products = weights.map((weight, i) => weight * values[i]);
    return { part: source, block, values, weights, products, sum: products.reduce((sum, one) => sum + one, 0) };
  });
  return { biases, blocks, total: record.sums(step, layer, at)?.[unit] };
}

function weightAt(net, layer, { weight, at, strides }, unit, input) {
  const { network } = net.runner;
  const tensor = network.tensors[network.description.layers[layer].weights[weight]];
  return tensor[at + unit * strides[0] + input * (strides[1] ?? 0)];
}

/** Of all blocks the inputs that move the sum most: [{part, index, weight, value, product}]. */
export function largest(blocks, count) {
  const all = blocks.flatMap(({ part, weights, values, products }) =>
    products
      ? Array.from(products, (product, index) => ({
          part,
          index,
          product,
          weight: weights[index],
          value: values[index],
        }))
      : [],
  );
  return all.sort((one, other) => Math.abs(other.product) - Math.abs(one.product)).slice(0, count);
}

// Circles that work on each unit by itself.
const WORKING = new Set(
  (
    "add sub mul div neg tanh sigmoid relu exp abs sqrt root log maximum minimum pow sign sin cos floor log1p expm1 erf " +
    "where mod lt le eq ne"
  ).split(" "),
);

/**
 * A circle's arithmetic for one unit: {symbols, figures, value}, both as text. Circles without a name are written out,
 * values with a name stand for themselves.
 */
export function arithmetic(net, record, step, layer, at, unit, cut) {
  const value = (part) => {
    const numbers = record.values(step, layer, part);
    return numbers[numbers.length === 1 ? 0 : unit];
  };
  const leaf = (part, target) => {
    const number = cut.has(`${part}-${target}`) ? 0 : value(part);
    return { symbols: net.spell(layer, part), figures: { text: figure(number, 4), level: ATOM } };
  };
  const write = (which) => {
    const part = net.part(layer, which);
    const operands = part.operands.map((one) => {
      if (!("part" in one)) {
        const number = { text: constant(one.number), level: ATOM };
        return { symbols: number, figures: number };
      }
      const inner = net.part(layer, one.part);
      const whole =
        inner.kind === "op" && !inner.name && unfolds(net, layer, one.part) && !cut.has(`${one.part}-${which}`);
      return whole ? write(one.part) : leaf(one.part, which);
    });
    const both = (key) =>
      spelled(
        part.op,
        operands.map((one) => one[key]),
      );
    return { symbols: both("symbols"), figures: both("figures") };
  };
  if (!unfolds(net, layer, at)) {
    return { symbols: net.symbol(layer, at), figures: "", value: value(at) };
  }
  const { symbols, figures } = write(at);
  return { symbols: symbols.text, figures: figures.text, value: value(at) };
}

function unfolds(net, layer, at) {
  const { op, size, operands } = net.part(layer, at);
  const fits = (one) => !("part" in one) || [1, size].includes(net.part(layer, one.part).size);
  return WORKING.has(op) && operands.length > 0 && operands.every(fits);
}
