/** Answers to what readers ask, where the question comes up. */
import { el } from "./dom.js";

const NOTES = {
  numbers: [
    "What the colours and figures are",
    "Each line of the picture carries many numbers at once, one for each unit. The strip shows all of them as colours, the figure is that of the chosen unit. The arrow keys up and down choose another.",
  ],
  sigmoid: [
    "Why σ here?",
    "σ turns any sum into a share between 0 and 1. What it gives is multiplied with other numbers, so it works as a valve: 0 lets nothing pass, 1 lets all pass.",
  ],
  tanh: [
    "Why tanh here?",
    "tanh keeps a number between −1 and 1 and leaves it its sign. Content can have a sign, since a memory must be able to go down as well as up; and what is read again at every step must not grow without bounds.",
  ],
  relu: [
    "Why a cut at zero?",
    "It leaves what is above zero as it is and takes the rest away, so it never saturates upwards.",
  ],
  "": ["Why is nothing squashed?", "Here the plain sum is used: what reads it decides how far it may go."],
  bias: [
    "What is b?",
    "A number of the unit's own that is added to every sum, whatever is read. It says where the unit rests: a forget gate with a large b is open unless something shuts it. It begins small or at a chosen value, and is learned.",
  ],
  weights: [
    "Where do the weights come from?",
    "They begin as random numbers and are moved a little with each piece of text, so that the right token becomes more probable. Each layer has its own, since each has something else to decide. The slider in free play goes back to random ones.",
  ],
  others: [
    "Can one unit change another?",
    "Circles work on each unit by itself. Units meet only in the learned layers, which read the whole of h and x; so a unit's memory reaches another's only by way of what the cell puts out.",
  ],
};

/** A small "?" that opens an answer; another one, a click elsewhere or Escape closes it. */
export function note(name) {
  const [question, answer] = NOTES[name];
  return el(
    "details",
    { class: "note", name: "note" },
    el("summary", { "aria-label": question, title: question }, "?"),
    el("div", {}, el("b", {}, question), " ", answer),
  );
}

/** What shapes the weights of a layer have, with this network's sizes. */
export function shapes(net, layer, part) {
  const { subscript, size, terms, biases } = net.part(layer, part);
  const name = subscript || "layer";
  const widths = terms.map(({ part: source, block }) => ({ width: net.part(layer, source).size, block }));
  const full = widths.filter(({ block }) => block === "full").map(({ width }) => width);
  const said = [];
  if (full.length) {
    const sum = full.length > 1 ? `(${full.join(" + ")})` : full[0];
    said.push(`W_${name} has ${size} × ${sum} numbers: a row for each unit, a column for each number that it reads.`);
  }
  if (widths.some(({ block }) => block === "diagonal")) {
    said.push(`Its diagonal block has ${size} numbers: there each unit reads only its own.`);
  }
  if (biases.length) {
    said.push(`b_${name} has ${size}, one for each unit.`);
  }
  return el(
    "details",
    { class: "note", name: "note" },
    el("summary", { "aria-label": "What shapes have the weights?", title: "What shapes have the weights?" }, "?"),
    el("div", {}, el("b", {}, "What shapes have the weights? "), said.join(" ").replaceAll(/_(\w+)/g, " $1")),
  );
}

/** Closes what is open; says whether something was. */
export function closeNotes(but = null) {
  const open = [...document.querySelectorAll("details.note[open]")].filter((one) => one !== but);
  open.forEach((one) => one.removeAttribute("open"));
  return open.length > 0;
}
