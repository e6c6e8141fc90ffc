/** The series that the networks read: curves, or a picture, that one draws on with the pointer and edits with the keys. */
import { peakOver, paint } from "./heat.js";
import { scaleOf } from "./colours.js";
import { begin, ink, level, line, Mark, placed, rangeOf, sizeOf } from "./curves.js";
import { el, figure, put } from "./dom.js";
import { roundBelow, Span } from "./span.js";

const ROOM = 0.25; // above and below what a channel has had, as a share of it
const SPANS = [0, 1000, 300, 100, 30];

export function mountDrawing(app, element) {
  app.span = new Span();
  const drawing = new Drawing(app);
  element.append(...drawing.elements);
  app.subscribe((state, changed) => {
    if (state.depth === "sequence" && ["all", "text", "step", "depth", "run"].some((name) => changed.has(name))) {
      drawing.draw();
    }
  });
}

class Drawing {
  channel = 0;
  #ranges = new Map();
  #typedAt = "";
  #now = { values: null, ranges: null }; // of the series as it is now

  constructor(app) {
    this.app = app;
    const { input } = app.networks[0].said.model;
    this.channels = input.channels;
    this.asPicture = input.shown === "frames";
    this.lanes = this.asPicture ? [this.#picture()] : this.channels.map((_, c) => this.#lane(c));
    this.elements = [this.#head(), el("div", { class: "lanes" }, ...this.lanes.map(({ element }) => element)), this.#values()];
  }

  get reads() {
    return this.app.networks[0].runner.network.reads;
  }

  get read() {
    return this.app.networks[0].runner.read(this.app.state.text);
  }

  // -- what is around the curves

  #head() {
    const { app } = this;
    const { examples } = app.data;
    const label = el("h3", { id: "series-title" }, "Series that the network reads: draw on it");
    this.examples = el("select", { id: "example", "aria-label": "Series", hidden: examples.length < 2 });
    this.examples.append(...examples.map(({ title }, i) => el("option", { value: i }, title || `example ${i + 1}`)));
    this.examples.addEventListener("change", () => this.#set(this.reads.fresh(Number(this.examples.value)), Number.MAX_SAFE_INTEGER));
    const coarse = matchMedia("(pointer: coarse)").matches;
    this.pen = el("button", { id: "pen", "aria-pressed": String(!coarse), title: "with it, the pointer changes the values; without it, it chooses a step", onclick: () => this.#hold() }, "✎ draw");
    const steps = [...new Set(SPANS)].filter((count) => count === 0 || examples.some(({ values }) => values.length / this.channels.length > count));
    this.spans = el("select", { id: "span", "aria-label": "How many steps are seen", hidden: steps.length < 2 });
    this.spans.append(...steps.map((count) => el("option", { value: count }, count ? `${count} steps` : "all steps")));
    this.spans.addEventListener("change", () => {
      app.span.wanted = Number(this.spans.value);
      app.store.touch("run");
    });
    this.back = el("button", { class: "quiet", onclick: () => this.#set(this.reads.fresh(this.read.example)) }, "original series");
    return el("div", { class: "line" }, label, this.examples, this.spans, this.pen, this.back);
  }

  #hold() {
    const drawn = this.pen.getAttribute("aria-pressed") !== "true";
    this.pen.setAttribute("aria-pressed", String(drawn));
    this.lanes.forEach(({ canvas }) => canvas.classList.toggle("drawn", drawn));
  }

  /** The value of a channel at the present step, typed in. Enter goes on to the next step, as in typing. */
  #values() {
    this.choice = el("select", { id: "channel", "aria-label": "Channel", hidden: this.channels.length < 2 });
    this.choice.append(...this.channels.map(({ name }, c) => el("option", { value: c }, name)));
    this.choice.addEventListener("change", () => this.#choose(Number(this.choice.value)));
    this.value = el("input", { type: "number", id: "value", step: "any", autocomplete: "off" });
    this.value.addEventListener("input", () => this.value.value !== "" && this.#write([[this.app.step(0), Number(this.value.value)]]));
    this.value.addEventListener("keydown", (event) => this.#typed(event));
    this.value.addEventListener("focus", () => this.value.select());
    this.unit = el("span", { class: "small" });
    this.at = el("label", { for: "value" });
    const button = (by, name, said) => el("button", { class: "quiet", "aria-label": said, title: said, onclick: () => this.#resize(by) }, name);
    const length = [button(-1, "− step", "take the last step away"), button(1, "+ step", "one step more at the end, with the values of the last")];
    this.hint = el("p", { class: "small" }, "Enter: the next step; Shift+Enter: the one before; ↑ ↓ change the value; Page Up and Page Down choose a channel.");
    return el("div", { class: "line values" }, this.at, this.choice, this.value, this.unit, ...length, this.hint);
  }

  #typed(event) {
    const { key, shiftKey } = event;
    const act = {
      Enter: () => this.#go(shiftKey ? -1 : 1),
      ArrowUp: () => this.#nudge(shiftKey ? 10 : 1),
      ArrowDown: () => this.#nudge(shiftKey ? -10 : -1),
      PageUp: () => this.#choose(this.channel - 1),
      PageDown: () => this.#choose(this.channel + 1),
    }[key];
    if (act) {
      event.preventDefault();
      act();
      this.app.store.flush();
      this.value.value = this.#written();
      this.value.select();
    }
  }

  #go(by) {
    this.app.goTo(Math.max(0, Math.min(this.read.tokens.length - 1, this.app.step(0) + by)), this.app.state.network);
  }

  #choose(channel) {
    this.channel = Math.max(0, Math.min(this.channels.length - 1, channel));
    this.app.store.touch("run");
  }

  #resize(by) {
    const count = this.read.tokens.length + by;
    this.#set(this.reads.resized(this.app.state.text, count), by > 0 ? count - 1 : Math.min(this.app.step(0), count - 1));
  }

  // -- changes

  #set(text, step = this.app.state.step) {
    this.app.update({ text, step });
  }

  #write(pairs, channel = this.channel, step = this.app.state.step) {
    this.#set(this.reads.changed(this.app.state.text, channel, pairs), step);
  }

  #nudge(by, channel = this.channel) {
    const [low, high] = this.#range(channel);
    const grain = roundBelow((high - low) / 60);
    const step = this.app.step(0);
    const value = Math.round((this.read.values[step][channel] + by * grain) / grain) * grain;
    this.#write([[step, Number(value.toPrecision(8))]], channel);
  }

  #written() {
    return String(Number((this.read.values[this.app.step(0)]?.[this.channel] ?? 0).toPrecision(6)));
  }

  /** What a channel can be drawn to: what its examples have, with room, and what has been typed beyond. */
  #range(channel) {
    const { example, values } = this.read;
    const key = `${example} ${channel}`;
    if (!this.#ranges.has(key)) {
      const all = this.app.data.examples[example].values.filter((_, i) => i % this.channels.length === channel);
      this.#ranges.set(key, rangeOf(all, 1e-3, ROOM));
    }
    const [low, high] = this.#ranges.get(key);
    if (this.#now.values !== values) {
      this.#now = { values, ranges: new Map() };
    }
    if (!this.#now.ranges.has(channel)) {
      this.#now.ranges.set(channel, values.reduce(([a, b], row) => [Math.min(a, row[channel]), Math.max(b, row[channel])], [low, high]));
    }
    return this.#now.ranges.get(channel);
  }

  // -- lanes

  #lane(channel) {
    const { name, unit } = this.channels[channel];
    const canvas = el("canvas", { class: "lane" });
    const now = el("span", { class: "figure" });
    const label = el("div", { class: "lane-label" }, el("b", {}, name), " ", now, unit ? el("span", { class: "small" }, ` ${unit}`) : "");
    const said = { role: "slider", tabindex: 0, "aria-label": name, "data-channel": channel };
    const mark = new Mark();
    const slider = el("div", { class: "lane-box", ...said }, canvas, mark.element, mark.ends);
    slider.addEventListener("keydown", (event) => this.#key(event, channel));
    slider.addEventListener("focus", () => this.#choose(channel));
    this.#listen(canvas, (x, y) => {
      const { at } = this.#frame(canvas, channel);
      return { channel, step: at.step(x), value: this.#rounded(at.value(y), channel) };
    });
    return { element: el("div", { class: "lane-row" }, label, slider), canvas, slider, channel, now, mark, key: "" };
  }

  #rounded(value, channel) {
    const [low, high] = this.#range(channel);
    const grain = roundBelow((high - low) / 400);
    return Number((Math.round(value / grain) * grain).toPrecision(8));
  }

  #frame(canvas, channel) {
    const size = sizeOf(canvas);
    const span = this.app.span.of(this.read.tokens.length, Math.max(0, this.app.step(0)));
    return { size, span, at: placed(size, span, this.#range(channel)) };
  }

  #key(event, channel) {
    const { key, shiftKey, ctrlKey, metaKey, altKey } = event;
    const act = {
      ArrowUp: () => this.#nudge(shiftKey ? 10 : 1, channel),
      ArrowDown: () => this.#nudge(shiftKey ? -10 : -1, channel),
      PageUp: () => this.#nudge(10, channel),
      PageDown: () => this.#nudge(-10, channel),
    }[key];
    if (ctrlKey || metaKey || altKey) {
      return;
    }
    if (/^[-\d.]$/.test(key)) {
      this.#choose(channel);
      this.app.store.flush();
      this.value.value = "";
      this.value.focus(); // which the key is then typed into
      event.stopPropagation();
    } else if (act) {
      event.preventDefault();
      event.stopPropagation();
      act();
    }
  }

  /** The pointer draws a line from place to place. `find(x, y)`: {channel, step, value}. */
  #listen(canvas, find) {
    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return find(event.clientX - box.left, event.clientY - box.top);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button === 0) {
        last = { ...place(event), moved: false, x: event.clientX, y: event.clientY };
        canvas.setPointerCapture(event.pointerId);
        this.#choose(last.channel);
        this.app.goTo(last.step, this.app.state.network);
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      const far = last && (last.moved || Math.hypot(event.clientX - last.x, event.clientY - last.y) > 3);
      if (!far) {
        return;
      }
      const now = place(event);
      if (this.pen.getAttribute("aria-pressed") === "true") {
        this.#write(between(last, now), last.channel, now.step);
      } else {
        this.app.goTo(now.step, this.app.state.network);
      }
      last = { ...now, channel: last.channel, moved: true };
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => (last = null));
    }
    canvas.classList.toggle("drawn", !matchMedia("(pointer: coarse)").matches);
  }

  // -- as a picture, with a row for each channel

  #picture() {
    const canvas = el("canvas", { class: "heat frames" });
    canvas.style.height = `${Math.max(90, Math.min(320, 6 * this.channels.length))}px`;
    const now = el("span", { class: "figure" });
    const slider = el("div", { class: "lane-box", role: "slider", tabindex: 0, "aria-label": "Inputs" }, canvas);
    slider.addEventListener("keydown", (event) => this.#key(event, this.channel));
    this.#listen(canvas, (x, y) => {
      const { span } = this.#frame(canvas, 0);
      const [rows, height] = [this.channels.length, canvas.clientHeight];
      const channel = Math.max(0, Math.min(rows - 1, Math.floor((y / height) * rows)));
      const [low, high] = this.#ranges.get(`${this.read.example} ${channel}`) ?? this.#range(channel);
      const step = span.first + Math.max(0, Math.min(span.count - 1, Math.floor((x / canvas.clientWidth) * span.count)));
      return { channel, step, value: this.#rounded(high - ((high - low) * ROOM) / (1 + 2 * ROOM), channel) };
    });
    const label = el("div", { class: "lane-label" }, el("b", {}, `${this.channels.length} inputs`), " ", now);
    return { element: el("div", { class: "lane-row" }, label, slider), canvas, slider, channel: -1, now };
  }

  // -- what is seen

  draw() {
    const { read, app } = this;
    const step = Math.max(0, app.step(0));
    this.lanes.forEach((lane) => (lane.channel < 0 ? this.#drawPicture(lane, read, step) : this.#drawLane(lane, read, step)));
    this.examples.value = read.example;
    this.back.disabled = app.state.text === this.reads.fresh(read.example);
    this.choice.value = this.channel;
    const { name, unit } = this.channels[this.channel];
    put(this.at, `${this.channels.length > 1 ? "Value" : name} at step ${step + 1}`);
    this.unit.textContent = unit;
    const place = `${step} ${this.channel} ${read.example}`;
    if (document.activeElement !== this.value || this.#typedAt !== place) {
      this.value.value = this.#written(); // but not while one types: "−" is no number yet
    }
    this.#typedAt = place;
  }

  #drawLane(lane, { values, example }, step) {
    const { canvas, slider, channel, now, mark } = lane;
    const { at, span, size: seen } = this.#frame(canvas, channel);
    const [low, high] = this.#range(channel);
    mark.move(at, step, span);
    mark.between(low, high);
    const own = this.app.state.text.split(";").filter((piece) => !piece.includes("@") || piece.startsWith(`${channel}@`));
    const colour = ink(channel === this.channel ? "accent" : "ink");
    const key = JSON.stringify([own, example, values.length, span, seen, colour]);
    if (lane.key !== key) {
      lane.key = key;
      this.#drawCurve(canvas, channel, { at, span, colour, values, example, range: [low, high] });
    }
    const value = values[step]?.[channel];
    now.textContent = figure(value);
    const { name, unit } = this.channels[channel];
    const said = { "aria-valuenow": value, "aria-valuemin": low, "aria-valuemax": high };
    Object.entries(said).forEach(([key, number]) => slider.setAttribute(key, Number(number?.toPrecision(6))));
    slider.setAttribute("aria-valuetext", `${name} ${figure(value)} ${unit} at step ${step + 1}`);
    slider.classList.toggle("chosen", channel === this.channel && this.channels.length > 1);
  }

  #drawCurve(canvas, channel, { at, span, colour, values, example, range }) {
    const size = begin(canvas);
    if (range[0] < 0 && range[1] > 0) {
      level(size.context, at, size, 0);
    }
    const given = (t) => (t < values.length ? this.reads.given(example, channel, t) : NaN);
    if (values.some((row, t) => row[channel] !== given(t))) {
      line(size.context, at, span, given, { colour: ink("soft"), width: 1.1, dash: [3, 4] });
    }
    line(size.context, at, span, (t) => values[t]?.[channel], { colour });
  }

  #drawPicture({ canvas, slider, now }, { values }, step) {
    const { span } = this.#frame(canvas, 0);
    const rows = (t) => values[t];
    const isOpen = values.every((row) => row.every((one) => one >= 0));
    const peak = peakOver(rows, values.length);
    const scale = isOpen ? { kind: "gate", low: 0, high: peak || 1 } : scaleOf(null, peak);
    paint(canvas, { at: rows, ...span, units: this.channels.length, scale });
    const context = canvas.getContext("2d");
    const [wide, high] = [canvas.width / span.count, canvas.height / this.channels.length];
    context.strokeStyle = ink("accent");
    context.lineWidth = 2;
    context.strokeRect((step - span.first) * wide, 0, wide, canvas.height);
    context.strokeRect((step - span.first) * wide, this.channel * high, wide, high);
    const value = values[step]?.[this.channel];
    const { name } = this.channels[this.channel];
    now.textContent = `${name}: ${figure(value)}`;
    slider.setAttribute("aria-valuenow", Number(value?.toPrecision(6)));
    slider.setAttribute("aria-valuetext", `${name} ${figure(value)} at step ${step + 1}`);
  }
}

/** The steps from one place to another with the values on the way, [[step, value]]. */
function between(from, to) {
  const [count, by] = [Math.abs(to.step - from.step), Math.sign(to.step - from.step)];
  return Array.from({ length: count + 1 }, (_, i) => {
    const share = count ? i / count : 1;
    return [from.step + by * i, Number((from.value + share * (to.value - from.value)).toPrecision(8))];
  });
}
