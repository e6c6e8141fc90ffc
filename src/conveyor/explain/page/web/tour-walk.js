/** A scene of the walk through the step: it highlights parts of the cell, explains them, and offers edits to try. */
import { el, put, shape } from "./dom.js";
import { asShapes, legend, paint } from "./heat.js";
import { saveButton } from "./save.js";
import { math } from "./symbols.js";
import { cropped, light, pictured } from "./tour-highlight.js";
import { formula, numbersNow, paragraphs, unmarked } from "./tour-text.js";
import { Tries } from "./tour-try.js";

/** The scenes of the step of a layer, from walk.py. */
export function walkScenes(app, network, layer) {
  const { step } = app.networks[network].said.model.layers[layer];
  return app.data.tour.networks[network].walks[step].map((scene) => ({
    id: scene.id,
    title: scene.title,
    depth: "cell",
    place: "beside",
    layer,
    lit: { parts: scene.parts, wires: scene.wires },
    pick: scene.show,
    tries: scene.tries.map((one) => ({ ...one, layer })),
    make: () => make(app, network, layer, scene),
  }));
}

function make(app, network, layer, scene) {
  const net = app.networks[network];
  const { equations } = net.layers[layer];
  const formulas = scene.equations.map((k) => el("p", { class: "tour-formula", "data-equation": k }, formula(equations[k])));
  const tries = new Tries(app, network, scene.tries.map((one) => ({ ...one, layer })));
  const numbers = el("div");
  const now = el("div", { class: "tour-now" }, el("h3", {}, "Now"), numbers);
  const heat = scene.id.startsWith("belt") ? new Belt(app, network, layer, scene.show) : null;
  const picture = cropped(pictured(net.layers[layer].diagram, `the parts of ${unmarked(scene.title)}`));
  light(picture, scene);
  const small = el("div", { class: "tour-picture" }, picture);
  const nodes = [small, el("div", { class: "tour-says" }, ...paragraphs(scene.says)), ...formulas, heat?.element, now, tries.element];
  return {
    nodes: nodes.filter(Boolean),
    draw: () => {
      heat?.draw();
      put(numbers, ...present(app, network, layer, scene.parts));
      tries.draw();
    },
  };
}

/** The values of the chosen unit in highlighted parts with a name. */
function present(app, network, layer, parts) {
  const net = app.networks[network];
  const record = app.record(network);
  const { unit } = app.state.picks[network];
  const pairs = parts
    .filter((part) => net.part(layer, part).name && net.part(layer, part).kind !== "stream")
    .map((part) => [net.part(layer, part).symbol, record.values(app.step(network), layer, part)])
    .filter(([, numbers]) => numbers?.length > unit)
    .map(([symbol, numbers]) => [symbol, numbers[unit]]);
  if (!pairs.length) {
    return [el("p", { class: "small" }, "The numbers in the diagram are those of the present step.")];
  }
  return [el("p", { class: "small" }, `unit ${unit} at step ${app.step(network) + 1}; the arrow keys change both`), numbersNow(pairs)];
}

/** The values on a belt over time: a row for each unit, a column for each step. */
class Belt {
  constructor(app, network, layer, part) {
    Object.assign(this, { app, network, layer, part });
    this.canvas = el("canvas", { class: "belt-heat", role: "img", onclick: (event) => this.#choose(event) });
    this.mark = el("div", { class: "belt-now", "aria-hidden": "true" });
    this.legend = el("div");
    const below = el("div", { class: "line" }, this.legend, saveButton("the belt", () => this.picture()));
    this.element = el("figure", { class: "belt" }, el("div", { class: "belt-frame" }, this.canvas, this.mark), below);
    this.shown = "";
  }

  draw() {
    const { app, network, layer, part } = this;
    const net = app.networks[network];
    const record = app.record(network);
    const step = app.step(network);
    this.count = Math.max(1, Math.min(record.length, 200));
    this.first = Math.max(0, Math.min(step - Math.floor(this.count / 2), record.length - this.count));
    const scale = net.scale(record, layer, part);
    const units = net.part(layer, part).size;
    this.canvas.style.height = `${Math.max(70, Math.min(180, 3 * units))}px`;
    this.painted = { at: (t) => record.values(t, layer, part), first: this.first, count: this.count, units, scale };
    paint(this.canvas, this.painted);
    this.canvas.setAttribute("aria-label", `${units} units over ${this.count} steps`);
    this.mark.style.left = `${(100 * (step - this.first)) / this.count}%`;
    this.mark.style.width = `${100 / this.count}%`;
    const key = JSON.stringify(scale);
    if (this.shown !== key) {
      this.shown = key;
      put(this.legend, legend(scale, math(net.symbol(layer, part))));
    }
  }

  /** The picture as vectors. */
  picture() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, ...asShapes(this.painted, width, height));
  }

  #choose(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.count);
    this.app.goTo(this.first + Math.max(0, Math.min(this.count - 1, column)), this.network);
  }
}
