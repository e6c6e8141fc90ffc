/** Free play: holds values, cuts lines, and interpolates the weights from random to trained. */
import { el, put } from "./dom.js";
import { placed, toggleCuts, told } from "./edits.js";
import { Predictions } from "./predictions.js";
import { math } from "./symbols.js";

export function mountPlay(app, element) {
  const close = el(
    "button",
    { class: "quiet", "aria-label": "close free play", onclick: () => app.update({ panel: "" }) },
    "✕",
  );
  const form = new Hold(app);
  const list = el("ul", { class: "edits" });
  const none = el("p", { class: "small" }, "Nothing is edited: the network runs as it was trained.");
  const clear = el("button", { class: "quiet", onclick: () => app.setEdits([]) }, "remove all");
  const lines = new Lines(app);
  const next = el("div");
  element.append(
    el("div", { class: "line" }, el("h2", {}, "Free play"), close),
    trainedSlider(app),
    form.element,
    lines.element,
    el("h3", {}, "Edits"),
    none,
    list,
    clear,
    next,
  );
  let predictions = { network: -1 };
  app.subscribe((state) => {
    if (element.hidden) {
      return;
    }
    if (predictions.network !== state.network) {
      put(next);
      predictions = new Predictions(app, state.network, next);
    }
    predictions.draw();
    form.draw();
    lines.draw();
    const edits = state.edits[state.network];
    none.hidden = edits.length > 0;
    clear.hidden = edits.length < 2;
    drawEdits(app, list, edits);
  });
}

function drawEdits(app, list, edits) {
  const { network } = app.state;
  const key = `${network} ${JSON.stringify(edits)}`;
  if (list.dataset.key === key) {
    return;
  }
  list.dataset.key = key;
  const rows = edits.map((edit) => {
    const { symbols, unit = "", text } = told(app.networks[network], edit);
    const away = () => app.setEdits(app.state.edits[network].filter((one) => one !== edit));
    const names = symbols.flatMap((symbol, i) => (i ? [" → ", math(symbol)] : [math(symbol)]));
    return el(
      "li",
      {},
      el("span", {}, ...names, unit, " ", text),
      el("button", { class: "quiet", "aria-label": "remove this edit", onclick: away }, "✕"),
    );
  });
  put(list, ...rows);
}

function trainedSlider(app) {
  const slider = el("input", { type: "range", id: "trained", min: 0, max: 1, step: 0.01 });
  const said = el("output", { for: "trained" });
  slider.addEventListener("input", () => app.update({ trained: Number(slider.value) }));
  app.subscribe(({ trained }) => {
    slider.value = trained;
    said.textContent =
      trained === 1 ? "trained" : trained === 0 ? "untrained" : `${Math.round(100 * trained)}% of the way`;
  });
  const about = "Untrained weights are sampled anew, from the distribution before training.";
  return el(
    "div",
    { class: "field" },
    el("label", { for: "trained" }, "Weights: untrained to trained"),
    slider,
    said,
    el("p", { class: "small" }, about),
  );
}

/** The form that holds a value. */
class Hold {
  #key = "";

  constructor(app) {
    this.app = app;
    this.part = el("select", { id: "hold-part" });
    this.unit = el("select", { id: "hold-unit" });
    this.when = el("select", { id: "hold-when" });
    this.value = el("input", { type: "number", id: "hold-value", step: "any", value: 0, required: true });
    const named = (id, text, field) => el("div", { class: "field" }, el("label", { for: id }, text), field);
    for (const [value, text] of [
      ["all", "at every step"],
      ["on", "from this step on"],
      ["now", "at this step only"],
    ]) {
      this.when.append(el("option", { value }, text));
    }
    const quick = [0, 1].map((number) =>
      el(
        "button",
        { type: "button", class: "quiet", onclick: () => this.#hold(number) },
        number ? "1: open" : "0: closed",
      ),
    );
    const fields = [
      named("hold-part", "value", this.part),
      named("hold-unit", "unit", this.unit),
      named("hold-when", "when", this.when),
      named("hold-value", "at", this.value),
    ];
    this.element = el(
      "form",
      { class: "hold" },
      el("h3", {}, "Hold a value"),
      ...fields,
      el("div", { class: "line" }, el("button", {}, "Hold"), ...quick),
    );
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#hold(Number(this.value.value));
    });
  }

  #hold(value) {
    const { app } = this;
    const { network, step, picks } = app.state;
    const unit = this.unit.value === "all" ? {} : { unit: picks[network].unit };
    const times = { all: {}, on: { first: step }, now: { first: step, last: step } }[this.when.value];
    const edit = { layer: picks[network].layer, part: Number(this.part.value), value, ...unit, ...times };
    if (Number.isFinite(value)) {
      const same = (one) =>
        ["layer", "part", "unit", "first", "last", "source"].every((name) => one[name] === edit[name]);
      app.setEdits([...app.state.edits[network].filter((one) => !same(one)), edit]);
    }
  }

  draw() {
    const { network, picks } = this.app.state;
    const { layer, part, unit } = picks[network];
    const key = `${network} ${layer} ${part} ${unit}`;
    if (this.#key === key) {
      return;
    }
    this.#key = key;
    const net = this.app.networks[network];
    const parts = net
      .parts(layer)
      .map((_, i) => i)
      .filter((i) => net.part(layer, i).kind !== "parameter");
    const text = (i) => net.symbol(layer, i).replaceAll(/_\{?([^}\s]+)\}?/g, " $1");
    put(this.part, ...parts.map((i) => el("option", { value: i, selected: i === part }, text(i))));
    put(this.unit, el("option", { value: "all" }, "all units"), el("option", { value: "one" }, `unit ${unit}`));
    this.part.onchange = () => this.app.pick({ part: Number(this.part.value) });
  }
}

/** The lines of the cell as a list, as an alternative to clicks on the diagram. */
class Lines {
  #key = "";

  constructor(app) {
    this.app = app;
    this.list = el("ul", { class: "lines" });
    this.element = el(
      "details",
      {},
      el("summary", {}, "Cut a line"),
      el(
        "p",
        { class: "small" },
        "The reader of a cut line gets zeros. In the diagram of the cell, a click on a line cuts it.",
      ),
      this.list,
    );
  }

  draw() {
    const { network, picks, edits } = this.app.state;
    const { layer } = picks[network];
    const net = this.app.networks[network];
    const key = `${network} ${layer} ${JSON.stringify(edits[network])}`;
    if (this.#key === key) {
      return;
    }
    this.#key = key;
    const isCut = ([from, to]) =>
      edits[network].some(
        (edit) => edit.layer === layer && placed(net, edit).source === from && placed(net, edit).part === to,
      );
    const focus = [...this.list.querySelectorAll("input")].indexOf(document.activeElement);
    put(
      this.list,
      ...net.layers[layer].wires.map((wire) => {
        const box = el("input", { type: "checkbox", checked: isCut(wire) });
        box.addEventListener("change", () => toggleCuts(this.app, network, layer, [wire]));
        return el(
          "li",
          {},
          el("label", {}, box, math(net.symbol(layer, wire[0])), " → ", math(net.symbol(layer, wire[1]))),
        );
      }),
    );
    this.list.querySelectorAll("input")[focus]?.focus();
  }
}
