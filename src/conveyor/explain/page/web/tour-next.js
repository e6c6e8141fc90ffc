/** The last scene: what else the page can do, and what lies beyond these networks. */
import { el } from "./dom.js";
import { ofWhat, paragraphs } from "./tour-text.js";

const SAYS =
  "As a set of equations a cell looks hard; one line at a time, it is a few layers and a few circles. The values of its units and its predictions were computed just now, by this network, on this text. Other results were measured when the page was made: the dashed curves of untrained networks, on the first text of the page, and, on text that the network was not trained on, how well units follow something";
const VERBS = " and how often verbs go wrong";
const BEYOND = [
  ["Attention", "All that such a cell knows of the past must fit into its state. With attention, a step can look at a whole collection, such as all earlier states or the parts of an image, and choose what to read from it."],
  ["Memory in more directions", "In a grid LSTM, a belt runs not only along time but also up through the layers, which makes deep stacks easier to train."],
  ["Generative networks", "A recurrent network that samples its next step can write, draw and compose; some sample a hidden variable at each step, too."],
];

export function nextScene() {
  return { id: "next", title: "What next", place: "alone", make };
}

function make(app, network) {
  const says = `${SAYS}${app.data.tour.networks[network].example?.unit ? VERBS : ""}.`;
  const leave = (changes) => app.update({ panel: "", ...changes }, { push: true });
  const things = [
    el("button", { onclick: () => leave({ panel: "play", depth: "cell" }) }, "Hold gates, cut lines"),
    el("button", { onclick: () => leave({ depth: "sequence" }) }, ofWhat(app, "Type a text of your own")),
    app.networks.length > 1 ? el("button", { onclick: () => leave({ compare: true, depth: "sequence" }) }, "See both networks side by side") : null,
  ];
  const own = el("p", { class: "small" }, "For a cell of your own: ", el("code", {}, "conveyor draw mine.py:Mine"), ", ", el("code", {}, "conveyor train --cell mine.py:Mine"), ", then this page again.");
  const beyond = BEYOND.flatMap(([title, text]) => [el("h3", {}, title), el("p", {}, text)]);
  const nodes = [el("div", { class: "tour-says" }, ...paragraphs([ofWhat(app, says)]), el("div", { class: "line" }, ...things.filter(Boolean)), own)];
  return { nodes: [...nodes, el("div", { class: "beyond" }, ...beyond)], draw: () => {} };
}
