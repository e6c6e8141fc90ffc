/** Answers to common questions, where they come up. */
import { el } from "./dom.js";

const NOTES = {
  numbers: [
    "What are the colours and numbers?",
    "Each line of the diagram carries a vector, one number for each unit. The strip shows all of them as colours; the number is that of the chosen unit. The up and down arrow keys choose another unit.",
  ],
  sigmoid: [
    "Why σ here?",
    "σ maps any sum to a value between 0 and 1. Other values are multiplied by it, so it works as a valve: 0 lets nothing through, 1 lets everything through.",
  ],
  tanh: [
    "Why tanh here?",
    "tanh maps a sum to a value between −1 and 1 and keeps its sign. Content needs a sign, since a memory must be able to go down as well as up; and what is read again at every step must not grow without bound.",
  ],
  relu: [
    "Why a cut at zero?",
    "It keeps positive values as they are and replaces negative ones by 0, so it never saturates upwards.",
  ],
  "": ["Why is nothing squashed?", "The sum is used as it is: its readers decide how large it may become."],
  bias: [
    "What is b?",
    "The bias: a number for each unit that is added to its sum, whatever the input. It sets the default of the unit: a forget gate with a large b is open unless something closes it. It starts small or at a chosen value, and is learned.",
  ],
  weights: [
    "Where do the weights come from?",
    "They start as random numbers and are changed a little with each piece of text, so that the right token becomes more probable. Each layer has its own, since each decides something else. The slider in free play goes back to random weights.",
  ],
  others: [
    "Can one unit change another?",
    "Circles work on each unit by itself. Units affect each other only in the learned layers, which read all of h and x; so the memory of one unit reaches another only through the output of the cell.",
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

/** The shapes of the weights of a layer. */
export function shapes(net, layer, part) {
  const { subscript, size, terms, biases } = net.part(layer, part);
  const name = subscript || "layer";
  const widths = terms.map(({ part: source, block }) => ({ width: net.part(layer, source).size, block }));
  const full = widths.filter(({ block }) => block === "full").map(({ width }) => width);
  const said = [];
  if (full.length) {
    const sum = full.length > 1 ? `(${full.join(" + ")})` : full[0];
    said.push(`W_${name} has ${size} × ${sum} numbers: a row for each unit, a column for each value that it reads.`);
  }
  if (widths.some(({ block }) => block === "diagonal")) {
    said.push(`Its diagonal block has ${size} numbers: each unit reads only itself.`);
  }
  if (biases.length) {
    said.push(`b_${name} has ${size}, one for each unit.`);
  }
  return el(
    "details",
    { class: "note", name: "note" },
    el("summary", { "aria-label": "What are the shapes of the weights?", title: "What are the shapes of the weights?" }, "?"),
    el("div", {}, el("b", {}, "What are the shapes of the weights? "), said.join(" ").replaceAll(/_(\w+)/g, " $1")),
  );
}

/** Closes open notes, and returns whether there were any. */
export function closeNotes(but = null) {
  const open = [...document.querySelectorAll("details.note[open]")].filter((one) => one !== but);
  open.forEach((one) => one.removeAttribute("open"));
  return open.length > 0;
}
