/** How often each unit of a gate is closed and open over the text, after Karpathy, Johnson & Fei-Fei (2015). */
import { el, put, shape } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { math, plain } from "./symbols.js";

const SIDE = 150;
const LEFT = 42;
const SHUT = 0.1;
const OPEN = 0.9;

export class Saturation {
  #key = "";

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.title = el("p", { class: "small" });
    this.svg = shape("svg", { class: "saturation", role: "img", viewBox: `0 0 ${LEFT + SIDE + 12} ${SIDE + 34}` });
    this.svg.addEventListener(
      "click",
      (event) => event.target.dataset.unit && this.#choose(Number(event.target.dataset.unit)),
    );
    this.element = el(
      "div",
      { class: "gate" },
      this.svg,
      el(
        "div",
        {},
        this.title,
        saveButton("the gate", () => inlined(this.svg)),
      ),
    );
    element.append(this.element);
  }

  #choose(unit) {
    this.app.pick({ unit }, this.network);
  }

  draw(record) {
    const { layer, part, unit } = this.app.state.picks[this.network];
    const net = this.app.networks[this.network];
    const { bounds, size, kind } = net.part(layer, part);
    this.element.hidden = !(bounds && bounds[0] === 0 && bounds[1] === 1 && kind !== "clock" && size > 1);
    const { trained, edits, text } = this.app.state;
    const key = JSON.stringify([layer, part, unit, record.length, trained, edits[this.network], text]);
    if (this.element.hidden || this.#key === key || !record.length) {
      return;
    }
    this.#key = key;
    const { shut, open } = shares(record, layer, part, size);
    const symbol = net.symbol(layer, part);
    put(
      this.title,
      "Each dot is a unit of ",
      math(symbol),
      `: how often in this ${net.isSeries ? "series" : "text"} it is closed (below ${SHUT}, to the right) and how often open (above ${OPEN}, upwards). `,
      `Unit ${unit}: closed ${Math.round(100 * shut[unit])}%, open ${Math.round(100 * open[unit])}%.`,
    );
    this.svg.setAttribute("aria-label", `How often the units of ${plain(symbol)} are closed and open`);
    put(this.svg, ...axes(), ...Array.from(shut, (_, i) => dot(i, shut[i], open[i], i === unit)));
    this.svg.append(this.svg.querySelector(".now")); // above the others
  }
}

function shares(record, layer, part, size) {
  const shut = new Float64Array(size);
  const open = new Float64Array(size);
  for (let t = 0; t < record.length; t += 1) {
    const numbers = record.values(t, layer, part);
    for (let unit = 0; unit < size; unit += 1) {
      shut[unit] += numbers[unit] < SHUT;
      open[unit] += numbers[unit] > OPEN;
    }
  }
  const share = (counts) => counts.map((count) => count / record.length);
  return { shut: share(shut), open: share(open) };
}

function dot(unit, shut, open, chosen) {
  const place = { cx: LEFT + shut * SIDE, cy: 8 + (1 - open) * SIDE, r: chosen ? 6 : 4 };
  return shape(
    "circle",
    { ...place, class: chosen ? "point now" : "dot", "data-unit": unit },
    shape("title", {}, `unit ${unit}`),
  );
}

function axes() {
  const text = (x, y, said, anchor) => shape("text", { x, y, "text-anchor": anchor, "font-size": 11 }, said);
  return [
    shape("path", { d: `M${LEFT} 8V${8 + SIDE}H${LEFT + SIDE}`, class: "axis" }),
    shape("path", { d: `M${LEFT} 8L${LEFT + SIDE} ${8 + SIDE}`, class: "zero" }),
    text(LEFT - 5, 16, "100%", "end"),
    text(LEFT - 5, 8 + SIDE, "0", "end"),
    text(LEFT + SIDE, SIDE + 24, "100%", "end"),
    text(LEFT + SIDE / 2, SIDE + 24, "closed", "middle"),
    text(LEFT + 6, 16, "open", "start"),
  ];
}
