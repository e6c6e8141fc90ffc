/** Edits to try and undo, and their effect on the prediction. */
import { alone, el, put, visible } from "./dom.js";
import { placed } from "./edits.js";
import { said } from "./tour-text.js";

const SHOWN = 3;

/** Whether an edit is the one that is tried; at whatever step, if it is for one step only. */
function is(net, edit, { layer, part, value, source, unit, once }) {
  const at = placed(net, edit);
  const sameStep = once ? (edit.last ?? null) !== null && edit.first === edit.last : (edit.last ?? null) === null;
  const same = edit.layer === layer && at.part === part && at.source === (source ?? null) && sameStep;
  return same && (edit.unit ?? null) === (unit ?? null) && (source !== undefined || edit.value === value);
}

/** The edits of a network without those that are tried. */
export function without(net, edits, tries) {
  return edits.filter((edit) => !tries.some((one) => is(net, edit, one)));
}

export function isTried(net, edits, one) {
  return edits.some((edit) => is(net, edit, one));
}

/** The edit that a try makes; one for a single step acts at `step`. */
function made({ layer, part, value, source, unit, once }, step) {
  const edit = { layer, part, ...(source === undefined ? { value } : { source }) };
  return { ...edit, ...(unit === undefined ? {} : { unit }), ...(once ? { first: step, last: step } : {}) };
}

/** A row for each try: the edit, and a button to undo it. `tries`: [{label, layer, part, ...}]. */
export class Tries {
  constructor(app, network, tries) {
    this.app = app;
    this.network = network;
    this.tries = tries;
    this.rows = tries.map((one) => this.#row(one));
    this.consequence = new Consequence(app, network);
    this.element = el("div", { class: "tries" }, el("h3", {}, "Try it"), this.consequence.element, ...this.rows.map(({ element }) => element));
    this.element.hidden = !tries.length;
  }

  #row(one) {
    const net = this.app.networks[this.network];
    const rest = () => without(net, this.app.state.edits[this.network], this.tries);
    const make = () => {
      this.app.setEdits([...rest(), made(one, one.at ?? this.app.step(this.network))], this.network);
      this.consequence.element.scrollIntoView({ block: "nearest" });
    };
    const take = () => {
      this.app.setEdits(rest(), this.network);
      go.focus({ preventScroll: true });
    };
    const go = el("button", { class: "try", onclick: make }, ...said(one.label));
    const back = el("button", { class: "quiet take-back", onclick: take }, "undo");
    return { one, go, back, element: el("div", { class: "line try-row" }, go, back) };
  }

  draw() {
    const net = this.app.networks[this.network];
    const edits = this.app.state.edits[this.network];
    for (const { one, go, back } of this.rows) {
      const done = isTried(net, edits, one);
      go.setAttribute("aria-pressed", String(done));
      back.hidden = !done;
    }
    this.consequence.draw();
  }
}

/** What the network expects next, with and without the edits. */
class Consequence {
  constructor(app, network) {
    this.app = app;
    this.network = network;
    this.element = el("div", { class: "consequence", role: "status" });
  }

  draw() {
    const { app, network } = this;
    const step = app.step(network);
    const [record, plain] = [app.record(network), app.plain(network)];
    put(this.element);
    if (step < 0 || step >= plain.length || step >= record.length) {
      return;
    }
    const verbs = app.networks[network].isSeries ? ["gives", "gave"] : ["expects", "expected"];
    this.element.append(this.#row(record === plain ? verbs[0] : verbs[1], plain, step));
    if (record !== plain) {
      this.element.append(this.#row(`now ${verbs[0]}`, record, step));
    }
  }

  #row(name, run, step) {
    const { state, networks } = this.app;
    const tokens = networks[this.network].expected(run, step, SHOWN, Math.max(0, state.wanted)).flatMap((one) => [
      el("bdi", { class: "token" }, visible(alone(one.name))),
      el("span", { class: "figure" }, one.said),
    ]);
    return el("p", {}, el("span", { class: "soft" }, name), ...tokens);
  }
}
