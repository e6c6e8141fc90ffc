/** The variants: the diagram of each cell, with its differences from the LSTM highlighted. */
import { el, put } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { math } from "./symbols.js";
import { choice, light, pictured } from "./tour-highlight.js";
import { formula, paragraphs } from "./tour-text.js";

const OWN = "own";
const SAYS = [
  "Nearly every paper writes the cell a little differently. Highlighted here is what a variant has and the LSTM does not: other layers, other operations, and the lines by which they read something new. What they share is dimmed.",
];
const SAME = "This cell computes the same as the LSTM.";

export function variantsScene() {
  return { id: "variants", title: "The variants", place: "alone", make };
}

/** The cell of the network itself, then the variants of the essay. */
function listed(app, network) {
  const net = app.networks[network];
  const { layer } = app.state.picks[network];
  const own = app.data.tour.networks[network].own[net.said.model.layers[layer].step];
  const { diagram, equations } = net.layers[layer];
  const written = equations.map((equation, k) => ({ ...equation, changed: own.changed[k] }));
  const about = `The cell of ${net.name}, which runs on this page.`;
  return [{ ...own, id: OWN, title: `This network: ${net.said.cell}`, about, svg: diagram, equations: written }, ...app.data.tour.variants];
}

function make(app, network) {
  const all = listed(app, network);
  const buttons = choice("Variants", all.map(({ id, title }) => [id, title]), (variant) => app.update({ variant }));
  const figure = el("div", { class: "variant" });
  let shown = "";
  const draw = () => {
    const found = all.find(({ id }) => id === app.state.variant) ?? all[1];
    buttons.mark(found.id);
    if (shown !== found.id) {
      shown = found.id;
      put(figure, ...view(found));
    }
  };
  return { nodes: [el("div", { class: "tour-says" }, ...paragraphs(SAYS)), buttons.element, figure], draw };
}

function view({ id, title, about, svg, equations, parts, wires, gone }) {
  const picture = pictured(svg, title);
  light(picture, { parts, wires });
  const rows = equations.map((equation) =>
    el("li", { class: equation.changed ? "changed" : "" }, formula(equation), equation.changed ? el("span", { class: "unseen" }, " (not in the LSTM)") : null),
  );
  const isNew = equations.some(({ changed }) => changed);
  const left = [
    el("h3", {}, title),
    el("p", {}, about),
    id === "lstm" || isNew ? null : el("p", { class: "small" }, SAME),
    gone.length ? el("p", { class: "gone" }, "Removed: ", ...gone.flatMap((name, i) => [i ? ", " : "", el("s", {}, math(name))])) : null,
    el("ul", { class: "variant-equations" }, ...rows),
  ];
  const figure = el("div", { class: "variant-picture" }, picture);
  return [el("div", {}, figure, saveButton(title, () => inlined(picture))), el("div", {}, ...left.filter(Boolean))];
}
