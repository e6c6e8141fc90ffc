/** What comes after: what else the page does, and what the network cannot. */
import { el } from "./dom.js";
import { paragraphs } from "./tour-text.js";

const SAYS =
  "Written as equations a cell looks hard; taken one line at a time it is a few layers and a few circles. What its units held, and what it expected, was computed just now, by this network, on this text. Measured when the page was made were the dashed curves of new networks, on the page's first text, and, on text that the network has not learnt from, how well units follow something";
const VERBS = " and how often verbs go wrong";
const BEYOND = [
  ["Attention", "All that such a cell knows of the past has to fit into its state. With attention a step can look back at a whole collection, such as all earlier states or the parts of an image, and weigh for itself what it reads."],
  ["Memory in more directions", "In a grid LSTM a belt runs not only along time but also up through the layers, so that deep stacks learn as long spans do."],
  ["Networks that make things", "A recurrent network that draws its next step by chance can write, draw and compose; some keep a hidden cause beside the state."],
];

export function nextScene() {
  return { id: "next", title: "What next", place: "alone", make };
}

function make(app, network) {
  const says = `${SAYS}${app.data.tour.networks[network].example?.unit ? VERBS : ""}.`;
  const leave = (changes) => app.update({ panel: "", ...changes }, { push: true });
  const things = [
    el("button", { onclick: () => leave({ panel: "play", depth: "cell" }) }, "Hold gates, cut lines"),
    el("button", { onclick: () => leave({ depth: "sequence" }) }, "Type a text of your own"),
    app.networks.length > 1 ? el("button", { onclick: () => leave({ compare: true, depth: "sequence" }) }, "See both networks side by side") : null,
  ];
  const own = el("p", { class: "small" }, "For a cell of your own: ", el("code", {}, "conveyor draw mine.py:Mine"), ", ", el("code", {}, "conveyor train --cell mine.py:Mine"), ", then this page again.");
  const beyond = BEYOND.flatMap(([title, text]) => [el("h3", {}, title), el("p", {}, text)]);
  const nodes = [el("div", { class: "tour-says" }, ...paragraphs([says]), el("div", { class: "line" }, ...things.filter(Boolean)), own)];
  return { nodes: [...nodes, el("div", { class: "beyond" }, ...beyond)], draw: () => {} };
}
