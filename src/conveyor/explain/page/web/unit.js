/** The third depth: one unit of one part, and how its value is computed. */
import { changesAt } from "./edits.js";
import { alone, el, figure, put, visible } from "./dom.js";
import { note, shapes } from "./notes.js";
import { contributions, arithmetic } from "./breakdown.js";
import { ATOM, summed } from "./spell.js";
import { math } from "./symbols.js";
import { Squash, SumBars } from "./sums.js";
import { Along } from "./along.js";
import { Weights } from "./weights.js";

const DIGITS = 4; // enough that the numbers shown add up

/** An equals sign, or ≈ if the value has more digits than are shown. */
const equals = (value) => (Number(value?.toFixed(DIGITS)) === value ? " = " : " ≈ ");

export class UnitPane {
  #built = "";

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.net = app.networks[network];
    this.body = el("div", { class: "unit" });
    element.append(this.body);
  }

  get pick() {
    return this.app.state.picks[this.network];
  }

  draw() {
    const { app, net, network } = this;
    const { layer, part, unit } = this.pick;
    if (this.#built !== `${layer} ${part}`) {
      this.#built = `${layer} ${part}`;
      this.#build(layer, part);
    }
    const record = app.record(network);
    const step = app.step(network);
    if (step < 0) {
      put(this.where, "Type something in the sequence first.");
      return;
    }
    const { cut, held } = changesAt(net, app.state.edits[network], layer, step);
    this.index.value = unit;
    const piece = net.runner.read(app.state.text).pieces[step];
    const reads = net.isSeries ? [`at step ${step + 1}`] : [`at step ${step + 1}, which reads `, el("bdi", { class: "token" }, visible(alone(piece)))];
    put(this.where, ...reads);
    const value = record.values(step, layer, part)[unit];
    if (net.part(layer, part).kind === "layer") {
      this.#drawLayer(contributions(net, record, step, layer, part, unit, cut), value);
    } else {
      this.#drawFigures(arithmetic(net, record, step, layer, part, unit, cut), value);
    }
    put(
      this.edited,
      held.has(part) ? "An edit holds this part: the calculation here shows its value without the edit. " : "",
      cut.size ? "Cut lines give zeros." : "",
    );
    this.along.draw(record, step);
  }

  #build(layer, part) {
    const { net } = this;
    const said = net.part(layer, part);
    this.index = el("input", { type: "number", min: 0, max: said.size - 1, "aria-label": "unit" });
    this.index.addEventListener("change", () => this.app.pick({ unit: Number(this.index.value) || 0 }, this.network));
    this.where = el("span", { class: "where" });
    this.edited = el("p", { class: "notice" });
    this.figures = el("p", { class: "arithmetic" });
    const layers = net.layers.length > 1 ? ` of layer ${layer + 1}` : "";
    const title = el(
      "h3",
      { class: "unit-title" },
      math(net.symbol(layer, part)),
      `${layers}, unit `,
      this.index,
      ` of ${said.size} `,
    );
    const head = el(
      "div",
      { class: "card" },
      title,
      this.where,
      this.figures,
      this.edited,
      this.#neighbours(layer, part),
    );
    const cards = said.kind === "layer" ? this.#layerCards(layer, part) : [];
    const along = el("div", { class: "card along-card" }, el("h3", {}, net.isSeries ? "Along the series" : "Along the text"));
    this.along = new Along(this.app, this.network, along);
    put(this.body, head, ...cards, along);
  }

  #layerCards(layer, part) {
    const { op } = this.net.part(layer, part);
    const sum = el("div", { class: "card" }, el("div", { class: "line" }, el("h3", {}, "The sum"), note("bias")));
    const squash = el(
      "div",
      { class: "card" },
      el(
        "div",
        { class: "line" },
        el("h3", {}, op ? "Squashed" : "Not squashed"),
        note(["sigmoid", "tanh", "relu"].includes(op) ? op : ""),
      ),
    );
    const weights = el(
      "div",
      { class: "card weights-card" },
      el("div", { class: "line" }, el("h3", {}, "The weights"), shapes(this.net, layer, part), note("weights")),
    );
    this.bars = new SumBars(this.net, layer, part, sum);
    this.squash = new Squash(op, squash);
    this.weights = new Weights(this.app, this.network, layer, part, weights);
    return [sum, squash, weights];
  }

  /** Buttons for the parts that this part reads, and for those that read it. */
  #neighbours(layer, part) {
    const { net } = this;
    const button = (at) => {
      const go = () =>
        this.app.pick({ part: at, unit: Math.min(this.pick.unit, net.part(layer, at).size - 1) }, this.network);
      return el("button", { class: "quiet", onclick: go }, math(net.symbol(layer, at)));
    };
    const list = (title, parts) =>
      parts.length ? el("div", { class: "line" }, el("span", { class: "small" }, title), ...parts.map(button)) : null;
    const reads = list("reads", net.sources(layer, part));
    const readBy = list("is read by", net.targets(layer, part));
    return el("div", { class: "neighbours" }, ...[reads, readBy].filter(Boolean), note("others"));
  }

  #drawLayer(found, value) {
    const { layer, part, unit } = this.pick;
    const { op, subscript } = this.net.part(layer, part);
    const pieces = [
      ...found.biases.map(() => `b_{${subscript}}`),
      ...found.blocks.map((block) => this.#term(layer, block, subscript)),
    ];
    const numbers = [...found.biases, ...found.blocks.map(({ sum }) => sum)].map((one) =>
      one === null ? "…" : figure(one, DIGITS),
    );
    const name = { sigmoid: "σ", "": "" }[op] ?? op;
    const within = (text) => (name ? `${name}(${text})` : text);
    const own = [math(this.net.symbol(layer, part)), `[${unit}]`];
    put(
      this.figures,
      el("span", {}, ...own, " = ", math(within(pieces.join(" + ")))),
      el("span", {}, `${equals(found.total)}${within(summed(numbers))}`),
      name ? el("span", {}, `${equals(found.total)}${name}(${figure(found.total, DIGITS)})`) : "",
      el("span", { class: "result" }, `${equals(value)}${figure(value, DIGITS)}`),
    );
    this.bars.draw(found);
    this.squash.draw(found.total, value);
    this.weights.draw(found);
  }

  #term(layer, { block, part }, subscript) {
    const { text, level } = this.net.spell(layer, part);
    return `${block === "full" ? "W" : "w"}_{${subscript}} · ${level < ATOM ? `(${text})` : text}`;
  }

  #drawFigures({ symbols, figures }, value) {
    const { layer, part, unit } = this.pick;
    const symbol = this.net.symbol(layer, part);
    put(
      this.figures,
      el(
        "span",
        {},
        math(symbol),
        `[${unit}]`,
        symbols !== symbol ? " = " : "",
        symbols !== symbol ? math(symbols) : "",
      ),
      figures ? el("span", {}, `${equals(value)}${figures}`) : "",
      el("span", { class: "result" }, `${equals(value)}${figure(value, DIGITS)}`),
    );
  }
}
