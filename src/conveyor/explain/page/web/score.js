/** Values over time, one row for each as in a musical score: a heat map per value, with a column for each step. */
import { alone, el, figure, put, shape, visible } from "./dom.js";
import { sizeOf } from "./curves.js";
import { asShapes, legend, paint } from "./heat.js";
import { inlined, saveButton } from "./save.js";
import { math, plain } from "./symbols.js";

const LOW = 34; // height of a picture, in points
const HIGH = [120, 260]; // of the chosen one: least and most
const NARROW = 13;
const NARROWEST = 4; // of a series, whose steps have no letters
const WIDE = 84;

export class Score {
  #first = 0;
  #built = "";
  #legend = "";

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.net = app.networks[network];
    this.layers = el("div", { class: "choice", role: "group", "aria-label": "Layer" });
    this.scale = el("span");
    this.head = el("div", { class: "line" }, el("h3", {}, "Over time"), this.layers, this.scale);
    this.rows = el("div", { class: "score-rows" });
    this.axis = el("div", { class: "score-axis", "aria-hidden": "true" });
    this.cursor = el("div", { class: "score-cursor", "aria-hidden": "true" });
    this.body = el("div", { class: "score", role: "group", tabindex: 0 }, this.rows, this.axis, this.cursor);
    this.from = el("input", { type: "range", class: "score-from", min: 0, "aria-label": "which steps are seen" });
    this.from.addEventListener("input", () => this.#show(Number(this.from.value)));
    this.said = el("p", { class: "readout", "aria-live": "off" });
    this.curve = shape("svg", { class: "curve", role: "img" });
    this.head.append(saveButton("these pictures", () => this.picture()));
    element.append(this.head, this.body, this.from, this.said);
    this.body.addEventListener("wheel", (event) => this.#pan(event), { passive: false });
    this.body.addEventListener("keydown", (event) => event.key === "Enter" && this.#enter(event));
  }

  #enter(event) {
    if (event.target === this.body) {
      event.preventDefault();
      this.app.zoom("cell", { network: this.network });
    }
  }

  get pick() {
    return this.app.state.picks[this.network];
  }

  draw() {
    this.#build();
    this.#fitLabels();
    this.#window();
    const record = this.app.record(this.network);
    const { layer, part, unit } = this.pick;
    for (const { canvas, row, which } of this.pictures) {
      const at = (t) => record.values(t, layer, which);
      const scale = this.net.scale(record, layer, which);
      paint(canvas, { at, first: this.#first, count: this.count, units: this.net.part(layer, which).size, scale });
      if (which === part) {
        this.#nameScale(scale);
        const height = sizeOf(canvas).height / this.net.part(layer, which).size;
        row.lastChild.style.transform = `translateY(${(unit * height).toFixed(2)}px)`;
        row.lastChild.style.width = `${Math.min(this.count, this.length - this.#first) * this.column}px`;
        row.lastChild.style.height = `${Math.max(2, height)}px`;
      }
    }
    this.#drawAxis();
    this.#drawCurve(record);
    this.#say(this.app.step(this.network), part, unit);
  }

  /** The pictures are made anew where another layer or another part is chosen. */
  #build() {
    const { layer, part } = this.pick;
    const key = `${layer} ${part}`;
    if (this.#built === key) {
      return;
    }
    this.#built = key;
    const count = this.net.layers.length;
    put(this.layers, ...(count > 1 ? this.net.layers.map((_, i) => this.#layerButton(i)) : []));
    const shown = this.net.named(layer);
    if (!shown.includes(part) && this.net.part(layer, part).size > 1) {
      shown.push(part);
    }
    this.pictures = shown.map((which) => this.#row(which, which === part));
    const label = el("span", { class: "score-label" });
    put(this.rows, ...this.pictures.map(({ row }) => row), el("div", { class: "score-row" }, label, this.curve));
    this.curveLabel = label;
  }

  /** The column of names is as wide as the longest, up to a quarter of the whole; beyond that they are shortened. */
  #fitLabels() {
    const { layer, part, unit } = this.pick;
    const key = `${this.#built} ${String(unit).length} ${sizeOf(this.body).width}`;
    if (this.fitted === key || !sizeOf(this.body).width) {
      return;
    }
    this.fitted = key;
    put(this.curveLabel, math(this.net.symbol(layer, part)), el("span", { class: "index" }, `[${unit}]`));
    this.body.style.setProperty("--label", "max-content");
    const wide = [...this.rows.children].map((row) => row.firstChild.getBoundingClientRect().width);
    this.label = Math.min(Math.max(48, ...wide) + 6, Math.max(64, sizeOf(this.body).width / 4));
    this.body.style.setProperty("--label", `${this.label}px`);
  }

  #layerButton(i) {
    const chosen = this.pick.layer === i;
    const choose = () => this.app.pick({ layer: i }, this.network);
    return el("button", { "aria-pressed": String(chosen), onclick: choose }, `layer ${i + 1}`);
  }

  #row(which, chosen) {
    const { layer } = this.pick;
    const { size } = this.net.part(layer, which);
    const canvas = el("canvas", {
      class: "heat",
      role: "img",
      "aria-label": `${plain(this.net.symbol(layer, which))} over time`,
    });
    canvas.style.height = `${chosen ? Math.max(HIGH[0], Math.min(HIGH[1], 3 * size)) : LOW}px`;
    const choose = () => this.app.pick({ part: which }, this.network);
    const symbol = math(this.net.symbol(layer, which));
    const said = { title: plain(this.net.symbol(layer, which)), "aria-pressed": String(chosen), onclick: choose };
    const label = el("button", { class: "score-label", ...said }, symbol);
    canvas.addEventListener("pointermove", (event) => this.#say(...this.#place(event, canvas, which)));
    canvas.addEventListener("pointerleave", () =>
      this.#say(this.app.step(this.network), this.pick.part, this.pick.unit),
    );
    canvas.addEventListener("click", (event) => this.#choose(event, canvas, which));
    canvas.addEventListener("dblclick", () => this.app.zoom("unit", { network: this.network }));
    const mark = el("div", { class: "score-unit", hidden: !chosen });
    return { canvas, which, row: el("div", { class: "score-row" }, label, canvas, mark) };
  }

  #place(event, canvas, which) {
    const { size } = this.net.part(this.pick.layer, which);
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.count);
    const unit = Math.floor(((event.clientY - box.top) / box.height) * size);
    return [this.#first + column, which, Math.max(0, Math.min(size - 1, unit))];
  }

  #choose(event, canvas, part) {
    const [step, , unit] = this.#place(event, canvas, part);
    this.app.pick({ part, unit }, this.network);
    this.app.goTo(Math.min(step, this.app.record(this.network).length - 1), this.network);
  }

  /** Which steps are seen: as many as there is room for, and the present one among them. */
  #window() {
    const { pieces } = this.net.runner.read(this.app.state.text);
    const width = (this.pictures[0] && sizeOf(this.pictures[0].canvas).width) || 600;
    const longest = pieces.slice(0, 400).reduce((most, piece) => Math.max(most, piece.length), 1);
    const column = this.net.isSeries ? NARROWEST : longest > 2 ? Math.min(WIDE, 10 + 8 * longest) : NARROW;
    this.count = Math.max(8, Math.min(Math.floor(width / column), Math.max(pieces.length, this.net.isSeries ? 8 : 24)));
    this.column = width / this.count;
    const step = Math.max(0, this.app.step(this.network));
    const margin = Math.floor(this.count / 5);
    if (this.#seen !== step) {
      this.#seen = step;
      const low = Math.min(this.#first, step - margin);
      this.#first = Math.max(low, step - this.count + 1 + Math.min(margin, pieces.length - 1 - step));
    }
    this.#first = Math.max(0, Math.min(this.#first, pieces.length - this.count));
    this.length = pieces.length;
    this.from.hidden = pieces.length <= this.count;
    this.from.max = Math.max(0, pieces.length - this.count);
    this.from.value = this.#first;
    const last = Math.min(pieces.length, this.#first + this.count);
    this.from.setAttribute("aria-valuetext", `steps ${this.#first + 1} to ${last} of ${pieces.length}`);
  }

  #seen = -1;

  #pan(event) {
    const by = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (by) {
      event.preventDefault();
      this.#show(Math.max(0, this.#first + Math.sign(by) * Math.max(1, Math.round(Math.abs(by) / this.column))));
    }
  }

  #show(first) {
    this.#first = first;
    this.app.store.touch("run");
  }

  #nameScale(scale) {
    const key = `${JSON.stringify(scale)} ${this.#built}`;
    if (this.#legend !== key) {
      this.#legend = key;
      put(this.scale, legend(scale, math(this.net.symbol(this.pick.layer, this.pick.part))));
    }
  }

  #drawAxis() {
    const { pieces } = this.net.runner.read(this.app.state.text);
    const step = this.app.step(this.network);
    if (this.net.isSeries) {
      this.#nameSome(pieces, step);
      return;
    }
    while (this.axis.childElementCount > this.count) {
      this.axis.lastChild.remove();
    }
    for (let i = 0; i < this.count; i += 1) {
      const cell = this.axis.children[i] ?? this.axis.appendChild(el("bdi", { class: "token" }));
      const shown = visible(alone(pieces[this.#first + i] ?? " ")).replace("␣", pieces[this.#first + i] ? "·" : " ");
      if (cell.textContent !== shown) {
        cell.textContent = shown;
      }
      cell.classList.toggle("now", this.#first + i === step);
    }
    this.#markStep(step);
  }

  /** The names of some steps of a series, as many as there is room for. */
  #nameSome(pieces, step) {
    const last = Math.min(pieces.length, this.#first + this.count) - 1;
    const longest = pieces.slice(this.#first, last + 1).reduce((most, piece) => Math.max(most, piece.length), 4);
    const room = Math.ceil((7 * longest + 14) / this.column);
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((count) => count >= room) ?? room;
    const shown = Array.from({ length: Math.floor((last - this.#first) / every) + 1 }, (_, i) => this.#first + i * every);
    put(
      this.axis,
      ...shown.map((t) => {
        const name = el("span", { class: "axis-name" }, pieces[t]);
        name.style.width = `${every * this.column}px`;
        return name;
      }),
    );
    this.#markStep(step);
  }

  #markStep(step) {
    const seen = step >= this.#first && step < this.#first + this.count;
    this.cursor.hidden = !seen;
    this.cursor.style.width = `${this.column}px`;
    this.cursor.style.transform = `translateX(${((step - this.#first) * this.column).toFixed(2)}px)`;
  }

  /** The chosen unit as a line along the text. */
  #drawCurve(record) {
    const { layer, part, unit } = this.pick;
    const scale = this.net.range(record, layer, part);
    const width = sizeOf(this.curve).width || 600;
    const high = 54;
    const y = (value) => 3 + (high - 6) * (1 - (value - scale.low) / (scale.high - scale.low));
    const points = [];
    for (let i = 0; i < this.count; i += 1) {
      const numbers = record.values(this.#first + i, layer, part);
      if (numbers && Number.isFinite(numbers[unit])) {
        points.push(`${((i + 0.5) * this.column).toFixed(1)},${y(numbers[unit]).toFixed(1)}`);
      }
    }
    const zero = shape("line", { x1: 0, x2: width, y1: y(0), y2: y(0), class: "zero" });
    put(this.curve, zero, shape("polyline", { points: points.join(" "), class: "trace" }));
    const name = `${plain(this.net.symbol(layer, part))}, unit ${unit}`;
    this.curve.setAttribute("aria-label", `${name} along the text`);
    put(this.curveLabel, math(this.net.symbol(layer, part)), el("span", { class: "index" }, `[${unit}]`));
    this.body.setAttribute("aria-label", `Values over time; ${name} is chosen, the arrow keys choose step and unit`);
  }

  #say(step, part, unit) {
    const { layer } = this.pick;
    const numbers = this.app.record(this.network).values(step, layer, part);
    const { pieces } = this.net.runner.read(this.app.state.text);
    put(this.said);
    if (numbers) {
      const name = el("b", {}, math(this.net.symbol(layer, part)), `[${unit}]`);
      const where = [
        " at step ",
        String(step + 1),
        " ",
        pieces[step] === String(step + 1) ? null : el("bdi", { class: "token" }, visible(alone(pieces[step] ?? ""))),
      ];
      this.said.append(name, ` = ${figure(numbers[unit], 4)}`, ...where.filter(Boolean));
    }
  }

  /** The pictures as vectors. */
  picture() {
    const record = this.app.record(this.network);
    const { layer } = this.pick;
    const left = Math.max(60, this.label ?? 0);
    const width = this.count * this.column;
    const group = [];
    let top = 0;
    for (const { canvas, which } of this.pictures) {
      const height = canvas.clientHeight;
      const at = (t) => record.values(t, layer, which);
      const scale = this.net.scale(record, layer, which);
      const rects = asShapes(
        { at, first: this.#first, count: this.count, units: this.net.part(layer, which).size, scale },
        width,
        height,
      );
      const name = shape(
        "text",
        { x: 0, y: top + height / 2, "dominant-baseline": "middle" },
        plain(this.net.symbol(layer, which)),
      );
      group.push(name, shape("g", { transform: `translate(${left} ${top})` }, ...rects));
      top += height + 6;
    }
    const curve = inlined(this.curve);
    const name = shape(
      "text",
      { x: 0, y: top + 30 },
      `${plain(this.net.symbol(layer, this.pick.part))} [${this.pick.unit}]`,
    );
    group.push(
      name,
      shape("g", { transform: `translate(${left} ${top})` }, ...curve.querySelectorAll("line, polyline")),
    );
    top += this.curve.clientHeight + 6;
    const tokens = [...this.axis.children].map((cell, i) =>
      shape(
        "text",
        { x: left + (i + 0.5) * this.column, y: top + 12, "text-anchor": "middle", "font-size": 11 },
        cell.textContent,
      ),
    );
    const size = { width: left + width, height: top + 20, viewBox: `0 0 ${left + width} ${top + 20}` };
    return shape("svg", { ...size, "font-family": "serif", "font-size": 15 }, ...group, ...tokens);
  }
}
