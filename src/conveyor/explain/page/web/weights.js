/** The weights of a unit: strips for each block, and a table of those with the largest effect on its sum. */
import { el, figure, put } from "./dom.js";
import { scaleOf } from "./colours.js";
import { strip } from "./heat.js";
import { largest } from "./breakdown.js";
import { math } from "./symbols.js";

const SHOWN = 10;

export class Weights {
  constructor(app, network, layer, part, element) {
    this.net = app.networks[network];
    this.layer = layer;
    this.app = app;
    this.network = network;
    this.blocks = this.net.part(layer, part).terms.map(({ part: source }) => this.#block(source));
    this.table = el("tbody");
    const head = el(
      "tr",
      {},
      ...["reads", "weight", "× value", "= adds", ""].map((name) => el("th", { scope: "col" }, name)),
    );
    element.append(
      ...this.blocks.map(({ element: one }) => one),
      el("h4", {}, "Largest contributions"),
      el("table", { class: "counts" }, el("thead", {}, head), this.table),
    );
  }

  #block(source) {
    const row = (name) => {
      const canvas = el("canvas", { class: "strip", "aria-hidden": "true" });
      return { canvas, element: el("div", { class: "strip-row" }, el("span", { class: "small" }, name), canvas) };
    };
    const rows = [row("weights"), row("values"), row("products")];
    const title = el("div", { class: "small" }, "for ", math(this.net.symbol(this.layer, source)));
    return { rows, element: el("div", { class: "block" }, title, ...rows.map(({ element }) => element)) };
  }

  draw({ blocks }) {
    blocks.forEach(({ weights, values, products }, i) => {
      const { rows, element } = this.blocks[i];
      element.hidden = !weights;
      if (weights) {
        [weights, values, products].forEach((numbers, k) => {
          const peak = numbers.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
          strip(rows[k].canvas, numbers, scaleOf(null, peak));
        });
      }
    });
    const rows = largest(blocks, SHOWN);
    const most = Math.abs(rows[0]?.product ?? 0) || 1;
    put(this.table, ...rows.map((row) => this.#row(row, most)));
  }

  #row({ part, index, weight, value, product }, most) {
    const bar = el("span", { class: product < 0 ? "bar low" : "bar high" });
    bar.style.width = `${(100 * Math.abs(product)) / most}%`;
    const go = () => this.app.pick({ part, unit: index }, this.network);
    const name = el("button", { class: "quiet", onclick: go }, math(this.net.symbol(this.layer, part)), `[${index}]`);
    const cells = [weight, value, product].map((one) => el("td", { class: "figure" }, figure(one)));
    return el("tr", {}, el("th", { scope: "row" }, name), ...cells, el("td", { class: "track" }, bar));
  }
}
