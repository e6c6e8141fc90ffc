/** The first depth: the text or series, what comes out of it, and the values over time. */
import { el, put } from "./dom.js";
import { Outcomes } from "./outcome.js";
import { Predictions } from "./predictions.js";
import { Reading } from "./reading.js";
import { Score } from "./score.js";
import { math } from "./symbols.js";

const SOON = 120; // ms between drawings while the network runs along a series, so that drawing on it stays quick

export class SequencePane {
  #drawn = 0;

  constructor(app, network, element) {
    const { isSeries } = app.networks[network];
    Object.assign(this, { app, network, isSeries });
    const text = el("div", { class: isSeries ? "card outcome-card" : "card reading-card" });
    const next = el("div", { class: "card next-card" });
    const score = el("div", { class: "card score-card" });
    const found = el("div", { class: "card found-card" });
    element.append(el("div", { class: isSeries ? "sequence of-series" : "sequence" }, text, next, score, found));
    this.reading = isSeries ? new Outcomes(app, network, text) : new Reading(app, network, text);
    this.predictions = new Predictions(app, network, next);
    this.score = new Score(app, network, score);
    mountFound(app, network, found);
  }

  draw() {
    if (this.isSeries && !this.#isDue()) {
      return;
    }
    this.reading.draw();
    this.predictions.draw();
    this.score.draw();
  }

  #isDue() {
    const { app, network } = this;
    const isWhole = app.record(network).length === app.networks[network].runner.tokens(app.state.text).length;
    const now = performance.now();
    const due = isWhole || now - this.#drawn > SOON;
    this.#drawn = due ? now : this.#drawn;
    return due;
  }
}

/** Buttons for the units that follow something. */
function mountFound(app, network, element) {
  const { found } = app.networks[network];
  element.hidden = !found.length;
  const said = app.networks[network].isSeries ? "How well the unit alone tells it, on a part that was not used to find it, and the level of chance." : "Found on held-out text: how well the unit alone tells it, and the level of chance.";
  const buttons = found.map(({ label, layer, index, part, score, chance }) => {
    const choose = () => app.pick({ layer, part, unit: index }, network);
    const name = [
      math(app.networks[network].symbol(layer, part)),
      `[${index}]`,
      app.networks[network].layers.length > 1 ? ` of layer ${layer + 1}` : "",
    ];
    const figures = el("span", { class: "figure" }, `${score.toFixed(2)} (chance ${chance.toFixed(2)})`);
    return el(
      "li",
      {},
      el("button", { class: "quiet", onclick: choose }, el("b", {}, label), " ", ...name, " ", figures),
    );
  });
  put(
    element,
    el("h3", {}, "Units that follow something"),
    el("ul", { class: "found" }, ...buttons),
    el("p", { class: "small" }, said),
  );
}
