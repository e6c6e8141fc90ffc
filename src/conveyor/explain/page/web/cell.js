/** The second depth: the diagram of the cell with its values, and its formulas beside it. */
import { changesAt, setPart, toggleCuts } from "./edits.js";
import { Diagram } from "./diagram.js";
import { el, figure, put } from "./dom.js";
import { strip } from "./heat.js";
import { note } from "./notes.js";
import { Saturation } from "./saturation.js";
import { inlined, saveButton } from "./save.js";
import { math, plain } from "./symbols.js";

export class CellPane {
  #built = -1;

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.net = app.networks[network];
    this.picture = el("div", { class: "picture" });
    this.layers = el("div", { class: "choice", role: "group", "aria-label": "Layer" });
    this.caption = el("p", { class: "small" });
    const save = saveButton("the cell", () => inlined(this.diagram.svg));
    const head = el("div", { class: "line" }, el("h3", {}, app.networks[network].said.cell), this.layers, save);
    const holds = el("div", { class: "line holds" });
    this.holds = holds;
    this.formulas = el("div", { class: "formulas" });
    const left = el("div", { class: "card picture-card" }, head, this.picture, holds, this.caption);
    const right = el(
      "div",
      { class: "card" },
      el("div", { class: "line" }, el("h3", {}, "Formulas and numbers"), note("numbers")),
      this.formulas,
    );
    this.saturation = new Saturation(app, network, left);
    element.append(el("div", { class: "cell" }, left, right));
  }

  get pick() {
    return this.app.state.picks[this.network];
  }

  draw() {
    this.#build();
    const { app, net, network } = this;
    const { layer, part, unit } = this.pick;
    const record = app.record(network);
    const step = app.step(network);
    const of = (at) => ({ numbers: record.values(step, layer, at), scale: net.scale(record, layer, at) });
    const { held, cut } = changesAt(net, app.state.edits[network], layer, step);
    this.diagram.write(of, unit);
    this.diagram.mark({ chosen: part, lit: app.state.lit[network] ?? null, held, cut });
    this.rows.forEach((row) => this.#writeRow(row, of(row.part), unit));
    this.#sayChosen(held, of(part));
    this.saturation.draw(record);
  }

  #build() {
    const { layer } = this.pick;
    if (this.#built === layer) {
      return;
    }
    this.#built = layer;
    const choose = (part) => this.app.pick({ part }, this.network);
    this.diagram = new Diagram(this.net.layers[layer].diagram, `the cell ${this.net.said.cell}`, {
      part: choose,
      open: (part) => {
        choose(part);
        this.app.zoom("unit");
      },
      wires: (wires) => toggleCuts(this.app, this.network, layer, wires),
    }, (part) => plain(this.net.symbol(layer, part)));
    put(this.picture, this.diagram.svg);
    const buttons = this.net.layers.map((_, i) => {
      const go = () => this.app.pick({ layer: i }, this.network);
      return el("button", { "aria-pressed": String(i === layer), onclick: go }, `layer ${i + 1}`);
    });
    put(this.layers, ...(buttons.length > 1 ? buttons : []));
    this.#buildRows(layer);
  }

  /** The inputs, then the equations in the order of the step. */
  #buildRows(layer) {
    const { parts, equations } = this.net.layers[layer];
    const given = parts
      .map((_, i) => i)
      .filter((i) => ["stream", "state", "constant", "clock"].includes(parts[i].kind));
    this.rows = [
      ...given.map((part) => this.#row(part, [part], math(this.net.symbol(layer, part)))),
      ...equations.map(({ part, parts: within, mathml, text }) => this.#row(part, within, formula(mathml, text))),
    ];
    put(this.formulas, ...this.rows.map(({ element }) => element));
  }

  #row(part, within, label) {
    const choose = () => this.app.pick({ part }, this.network);
    const canvas = el("canvas", { class: "strip", "aria-hidden": "true" });
    const number = el("span", { class: "figure" });
    const button = el("button", { class: "formula", onclick: choose, ondblclick: () => this.app.zoom("unit") }, label);
    const numbers = el("span", { class: "formula-numbers" }, canvas, number);
    return { part, within, canvas, number, element: el("div", { class: "formula-row" }, button, numbers) };
  }

  #writeRow({ part, within, canvas, number, element }, { numbers, scale }, unit) {
    const chosen = this.pick.part;
    element.classList.toggle(
      "lit",
      part === chosen || (within.includes(chosen) && !this.rows.some((row) => row.part === chosen)),
    );
    element.firstChild.setAttribute("aria-pressed", String(part === chosen));
    if (numbers) {
      strip(canvas, numbers, scale);
      number.textContent = figure(numbers[numbers.length === 1 ? 0 : unit] ?? numbers[0]);
    }
  }

  #sayChosen(held, { numbers }) {
    const { layer, part, unit } = this.pick;
    const chosen = this.net.part(layer, part);
    put(this.caption);
    if (numbers) {
      const mean = numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
      const many = numbers.length > 1 ? `, one of ${numbers.length}; their mean is ${figure(mean)}` : "";
      const own = el("b", {}, math(this.net.symbol(layer, part)), `[${unit}]`);
      this.caption.append(
        own,
        ` = ${figure(numbers[unit] ?? numbers[0], 4)}${many}. A double click or Enter shows how it is computed.`,
      );
    }
    const hold = (value, text) =>
      el("button", { class: "quiet", onclick: () => setPart(this.app, this.network, layer, part, value) }, text);
    const isGate = chosen.bounds && chosen.bounds[0] === 0 && chosen.bounds[1] === 1;
    const key = `${layer} ${part} ${held.has(part)}`;
    if (this.holds.dataset.key !== key) {
      this.holds.dataset.key = key;
      const shut = isGate ? [hold(0, "close: hold at 0"), hold(1, "open: hold at 1")] : [hold(0, "hold at 0")];
      put(
        this.holds,
        math(this.net.symbol(layer, part)),
        ...(chosen.kind === "parameter" ? [] : shut),
        held.has(part) ? hold(null, "release") : null,
      );
    }
  }
}

/** MathML, with the plain text as its label for screen readers. */
function formula(mathml, text) {
  const parsed = new DOMParser().parseFromString(mathml, "text/html").querySelector("math");
  if (!parsed) {
    return math(text);
  }
  const drawn = document.importNode(parsed, true);
  for (const sign of drawn.querySelectorAll("mo")) {
    if (["(", ")", "[", "]"].includes(sign.textContent.trim())) {
      sign.setAttribute("stretchy", "false"); // in one line no tall brackets; that of cases is as tall as they are
    }
  }
  drawn.setAttribute("aria-label", text);
  return drawn;
}
