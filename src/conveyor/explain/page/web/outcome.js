/** What comes out over a whole series, beside the truth, and how much of it depends on which input. */
import { isDark, scaleOf } from "./colours.js";
import { begin, ink, level, line, Mark, placed, rangeOf, sizeOf } from "./curves.js";
import { el, figure, put } from "./dom.js";
import { paint } from "./heat.js";
import { likeliest } from "./likeliest.js";
import { FAR } from "./runner.js";

const REST = 180; // ms without changes before gradients are computed
const LINES = 4; // classes that are drawn
const LANES = 6; // numbers that are drawn as curves; more are a picture
const COLOURS = ["accent", "teal", "low", "soft"];

export class Outcomes {
  #rests = { key: "" };
  #waiting = 0;
  #drawn = "";
  #restsDrawn = "";

  constructor(app, network, element) {
    Object.assign(this, { app, network, net: app.networks[network] });
    const { count } = this.net.output;
    this.lanes = (this.net.isProbable ? [-1] : Array.from({ length: Math.min(count, LANES) }, (_, k) => k)).map((k) => this.#lane(k));
    this.said = el("p", { class: "small" });
    this.rests = this.#lane(-2);
    this.rests.canvas.className = "heat rests";
    this.rests.canvas.style.height = `${Math.max(14, Math.min(160, 12 * this.net.said.model.input.channels.length))}px`;
    element.append(
      el("h3", {}, "What comes out"),
      ...this.lanes.map((lane) => lane.element),
      el("h3", {}, "What it depends on"),
      this.rests.element,
      this.said,
    );
  }

  #lane(index) {
    const canvas = el("canvas", { class: "lane outcome", role: "img" });
    const label = el("div", { class: "lane-label" });
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const { first, count } = this.#span();
      this.app.goTo(first + Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count))), this.network);
    });
    const mark = new Mark();
    return { element: el("div", { class: "lane-row" }, label, el("div", { class: "lane-box" }, canvas, mark.element, mark.ends)), canvas, label, index, mark };
  }

  #span() {
    return this.app.span.of(this.net.runner.tokens(this.app.state.text).length, Math.max(0, this.app.step(0)));
  }

  draw() {
    const [record, plain] = [this.app.record(this.network), this.app.plain(this.network)];
    const step = this.app.step(this.network);
    if (step < 0) {
      return;
    }
    this.#drawRests(record, step);
    const { state } = this.app;
    const key = JSON.stringify([state, record.length, this.#span(), sizeOf(this.lanes[0].canvas), isDark()]);
    if (this.#drawn === key) {
      return;
    }
    this.#drawn = key;
    this.lanes.forEach((lane) => (lane.index < 0 ? this.#drawClasses(lane, record, plain, step) : this.#drawNumber(lane, record, plain, step)));
  }

  #drawNumber({ canvas, label, index, mark }, record, plain, step) {
    const { net, app } = this;
    const span = this.#span();
    const of = (run) => (t) => (t < run.length ? run.probabilities(t)[index] : NaN);
    const { names, units } = net.output;
    const truth = net.truths(app.state.text, index);
    const steps = Array.from({ length: span.count }, (_, i) => span.first + i);
    const runs = plain === record ? [of(record)] : [of(record), of(plain)];
    const range = rangeOf([truth, ...runs].flatMap((one) => steps.map(one)), 1e-3);
    const size = begin(canvas);
    const at = placed(size, span, range);
    mark.move(at, step, span);
    if (range[0] < 0 && range[1] > 0) {
      level(size.context, at, size, 0);
    }
    line(size.context, at, span, truth, { colour: ink("soft"), width: 2.4 });
    if (plain !== record) {
      line(size.context, at, span, of(plain), { colour: ink("accent"), width: 1.1, dash: [3, 4] });
    }
    line(size.context, at, span, of(record), { colour: ink("accent") });
    mark.between(...range);
    const [now, real] = [of(record)(step), truth(step)];
    const unit = units?.[index] ? ` ${units[index]}` : "";
    put(label, el("b", {}, names[index]), named("accent", `it gives ${figure(now)}${unit}`), Number.isFinite(real) ? named("soft", `truth ${figure(real)}${unit}`) : null);
    canvas.setAttribute("aria-label", `${names[index]} over time: at step ${step + 1} it gives ${figure(now)}${unit}`);
  }

  /** The likeliest classes as lines; of many labels, a picture. */
  #drawClasses({ canvas, label, mark }, record, plain, step) {
    const { net } = this;
    const span = this.#span();
    if (net.output.kind === "labels" && net.output.count > LANES) {
      const at = (t) => (t < record.length ? record.probabilities(t) : null);
      paint(canvas, { at, ...span, units: net.output.count, scale: { kind: "gate", low: 0, high: 1 } });
      put(label, el("b", {}, `${net.output.count} labels`));
      mark.move(placed(sizeOf(canvas), span, [0, 1]), step, span);
      return;
    }
    const size = begin(canvas);
    const at = placed(size, span, [0, 1]);
    [0, 0.5, 1].forEach((value) => level(size.context, at, size, value));
    mark.move(at, step, span);
    mark.between(0, 1);
    const numbers = record.probabilities(step);
    const truth = net.truth(this.app.state.text, step);
    const shown = likeliest(numbers, LINES);
    if (Number.isInteger(truth) && !shown.includes(truth)) {
      shown[shown.length - 1] = truth;
    }
    shown.toReversed().forEach((index) => {
      const colour = ink(COLOURS[shown.indexOf(index)]);
      const of = (run) => (t) => (t < run.length ? run.probabilities(t)[index] : NaN);
      if (plain !== record) {
        line(size.context, at, span, of(plain), { colour, width: 1, dash: [3, 4] });
      }
      line(size.context, at, span, of(record), { colour, width: index === truth ? 2.6 : 1.5 });
    });
    const all = shown.map((index, k) => named(COLOURS[k], `${net.runner.outcome(index)} ${net.outcome(numbers, index).said}${index === truth ? " (true)" : ""}`));
    put(label, ...all);
    canvas.setAttribute("aria-label", `Probabilities over time; at step ${step + 1}: ${all.map((one) => one.textContent).join(", ")}`);
  }

  /** Gradients take a while, so they are computed when nothing else happens. */
  #drawRests(record, step) {
    const { app, network, net, rests } = this;
    const { text, trained, edits, wanted } = app.state;
    const key = JSON.stringify([step, text, trained, edits[network], wanted, record.length]);
    if (this.#rests.key !== key && record.length > step) {
      clearTimeout(this.#waiting);
      this.#waiting = setTimeout(() => {
        const index = net.wanted(record, step, wanted);
        this.#rests = { key, step, index, ...record.gradients(step, index) };
        app.store.touch("run");
      }, REST);
    }
    const { byVector, from = 0, index, step: of, key: known } = this.#rests;
    const drawn = JSON.stringify([known, this.#span(), sizeOf(rests.canvas), isDark()]);
    if (!byVector || drawn === this.#restsDrawn) {
      return;
    }
    this.#restsDrawn = drawn;
    const scale = scaleOf(null, byVector.reduce((peak, row) => row.reduce((most, one) => Math.max(most, Math.abs(one)), peak), 0));
    const { first, count } = this.#span();
    const { channels } = net.said.model.input;
    paint(rests.canvas, { at: (t) => byVector[t - from], first, count, units: channels.length, scale });
    rests.canvas.setAttribute("aria-label", `What ${net.runner.outcome(index)} at step ${of + 1} depends on`);
    put(rests.label, ...(channels.length > 12 ? [el("b", {}, `${channels.length} inputs`)] : channels.map(({ name }) => el("div", { class: "rest-name" }, name))));
    const what = net.isProbable ? "the probability of " : "";
    put(
      this.said,
      `How ${what}`,
      el("b", {}, net.runner.outcome(index)),
      ` at step ${of + 1} would move if an input were a little larger: `,
      named("high", "up"),
      ", ",
      named("low", "down"),
      `. Inputs count as the network reads them, by their deviation.${from ? ` Steps more than ${FAR} earlier are left out.` : ""}`,
    );
  }
}

/** A word with its colour before it. */
function named(colour, text) {
  const dot = el("span", { class: "dot-mark", "aria-hidden": "true" });
  dot.style.background = `var(--${colour})`;
  return el("span", { class: "marked" }, dot, text);
}
