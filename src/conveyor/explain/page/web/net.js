/** A network of the page: what assemble.py says of its steps, and what it computes. */
import { constant, figure, percent } from "./dom.js";
import { ATOM, spelled } from "./spell.js";
import { Network } from "./network.js";
import { likeliest } from "./likeliest.js";
import { extremesOver } from "./heat.js";
import { robustScale, scaleOf } from "./colours.js";
import { Runner } from "./runner.js";
import { steps } from "./steps.js";

export class Net {
  constructor(said, weights, number) {
    this.said = said;
    this.name = said.name;
    this.start = said.start;
    const made = () => new Network(said.model, weights, steps[number]);
    this.runner = new Runner(made(), made());
    this.layers = said.model.layers.map(({ step }) => ({ ...said.steps[step], wires: said.model.steps[step].wires }));
    const names = (layer) => said.model.steps[said.model.layers[layer].step].names;
    this.found = said.found.map((unit) => ({ ...unit, part: names(unit.layer)[unit.value] }));
  }

  /** Whether it reads a series of numbers, and not a text. */
  get isSeries() {
    return this.said.model.input.kind === "series";
  }

  get output() {
    return this.said.model.output;
  }

  /** Whether probabilities come out, and not numbers. */
  get isProbable() {
    return this.output.kind !== "numbers";
  }

  /** What comes out at a step, what counts most first: [{index, name, said, share}]. `first`: an output to begin with. */
  expected(record, step, count, first = 0) {
    const numbers = record.probabilities(step);
    const order = this.isProbable ? likeliest(numbers, count) : around(first, numbers.length, count);
    return order.map((index) => this.outcome(numbers, index));
  }

  outcome(numbers, index) {
    const unit = this.output.units?.[index];
    const said = this.isProbable ? percent(numbers[index]) : `${figure(numbers[index])}${unit ? ` ${unit}` : ""}`;
    return { index, name: this.runner.outcome(index), said, share: this.isProbable ? numbers[index] : null };
  }

  /** The output whose gradient is asked for: that which is chosen, or the likeliest. */
  wanted(record, step, chosen) {
    const given = chosen >= 0 && chosen < this.output.count;
    return given ? chosen : this.isProbable ? likeliest(record.probabilities(step), 1)[0] : 0;
  }

  /** What should come out at a step: a token or class, or numbers; null where it is not known. */
  truth(text, step) {
    const { tokens, example, values } = this.runner.read(text);
    if (!this.isSeries) {
      return tokens[step + 1] ?? null;
    }
    const { next, at } = this.output;
    if (next) {
      return values[step + 1] ? next.map((channel) => values[step + 1][channel]) : null;
    }
    const { truth } = this.said.model.input.examples[example];
    return (at === "end" ? truth : truth?.[step]) ?? null;
  }

  /** The same of one number as a function of the step, for curves. */
  truths(text, index) {
    const { example, values } = this.runner.read(text);
    const { next, at } = this.output;
    const { truth } = this.said.model.input.examples[example];
    if (next) {
      return (t) => values[t + 1]?.[next[index]];
    }
    return at === "end" ? (t) => (t === values.length - 1 ? truth?.[index] : NaN) : (t) => truth?.[t]?.[index];
  }

  parts(layer) {
    return this.layers[layer].parts;
  }

  part(layer, part) {
    return this.layers[layer].parts[part];
  }

  /** The nearest pick that there is. */
  fitting({ layer, part, unit }) {
    const at = Math.min(layer, this.layers.length - 1);
    const which = part < this.parts(at).length ? part : this.start.part;
    return { layer: at, part: which, unit: Math.min(unit, this.part(at, which).size - 1) };
  }

  /** The parts with a name of their own: what is shown over time. */
  named(layer) {
    const parts = this.parts(layer);
    const all = parts.map((_, i) => i).filter((i) => ["layer", "op"].includes(parts[i].kind) && parts[i].size > 1);
    const named = all.filter((i) => parts[i].name);
    return named.length ? named : all;
  }

  /** Parts that feed this one, and those that it feeds. */
  sources(layer, part) {
    return this.layers[layer].wires.filter(([, target]) => target === part).map(([source]) => source);
  }

  targets(layer, part) {
    return this.layers[layer].wires.filter(([source]) => source === part).map(([, target]) => target);
  }

  /** The equation of a part: its own, or that of which it is a piece. */
  equation(layer, part) {
    const { equations } = this.layers[layer];
    return equations.find((one) => one.part === part) ?? equations.find((one) => one.parts.includes(part));
  }

  /** What a part is called: the step's name for it, or what it is made of. */
  symbol(layer, at) {
    return this.spell(layer, at).text;
  }

  /** The same with how tightly it holds together, see spell.js. */
  spell(layer, at) {
    const part = this.part(layer, at);
    if (part.symbol) {
      return { text: part.symbol, level: ATOM };
    }
    if (part.kind === "layer") {
      const read = part.terms.map(({ part: source }) => this.symbol(layer, source));
      const sum = { text: `W_{${part.subscript}} · ${read.length > 1 ? `[${read.join(", ")}]` : read[0]}`, level: 2 };
      return part.op ? spelled(part.op, [sum]) : sum;
    }
    if (!part.operands.length) {
      return { text: part.label, level: ATOM };
    }
    const of = part.operands.map((one) =>
      "part" in one ? this.spell(layer, one.part) : { text: constant(one.number), level: ATOM },
    );
    return NAMED.has(part.op)
      ? { text: `${part.label}(${of.map(({ text }) => text).join(", ")})`, level: ATOM }
      : spelled(part.op, of);
  }

  /** How the numbers of a part are coloured over a run: robust, see colours.js. */
  scale(record, layer, part) {
    const { bounds, size } = this.part(layer, part);
    if (bounds) {
      return scaleOf(bounds, 1);
    }
    const { lows, highs } = extremesOver((t) => record.values(t, layer, part), record.length, size);
    return robustScale(lows, highs);
  }

  /** Where the curve of a unit lies: from the least to the largest of all units. */
  range(record, layer, part) {
    const { low, high, beyond } = this.scale(record, layer, part);
    return beyond ? scaleOf(null, Math.max(-beyond.low, beyond.high)) : { low, high };
  }
}

// Circles whose label says more than the name of their operation.
const NAMED = new Set(["slice", "cat", "pad", "sum", "max", "contract", "matmul", "abs", "pow", "sign", "softmax"]);

/** So many places of a list, from one on. */
function around(first, length, count) {
  const from = Math.max(0, Math.min(first, length - count));
  return Array.from({ length: Math.min(count, length) }, (_, i) => from + i);
}
