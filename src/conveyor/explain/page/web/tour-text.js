/** The text of the tour: sentences with symbols between backquotes, and formulas. */
import { el, figure } from "./dom.js";
import { math } from "./symbols.js";

/** "`f_t` multiplies `C_{t-1}`" with its symbols drawn. */
export function said(sentence) {
  return sentence.split("`").map((piece, i) => (i % 2 ? math(piece) : piece));
}

const INSTEAD = [
  ["reads a text token by token", "reads a series step by step"],
  ["a token from below", "a vector from below"],
  ["over the text", "over the series"],
  ["along the text", "along the series"],
  ["on the same text", "on the same series"],
  ["in this text", "in this series"],
  ["Type a text of your own", "Draw on the series"],
  [", on this text.", ", on this series."],
  ["on the first text of the page", "on the first series of the page"],
  [", and, on text that the network was not trained on, how well units follow something", ""],
  ["To learn that a word far back matters", "To learn that a step far back matters"],
  ["the position in the line, quotes or brackets", "one of the inputs"],
  ["or type more, ", ""],
];

/** A sentence about a text, of a series where the page has one. */
export function ofWhat(app, sentence) {
  return app.networks[0].isSeries ? INSTEAD.reduce((now, [text, series]) => now.replace(text, series), sentence) : sentence;
}

export function paragraphs(sentences) {
  return sentences.map((sentence) => el("p", {}, ...said(sentence)));
}

/** The same for where only text can stand. */
export function unmarked(sentence) {
  return sentence.replaceAll("`", "").replaceAll(/[{}]/gu, "");
}

/** MathML, which the browser draws; for those who listen, the plain text. */
export function formula({ mathml, text }) {
  const parsed = new DOMParser().parseFromString(mathml, "text/html").querySelector("math");
  if (!parsed) {
    return math(text);
  }
  const drawn = document.importNode(parsed, true);
  drawn.setAttribute("aria-label", text);
  return drawn;
}

/** Symbols and their present numbers: [[symbol, number]]. */
export function numbersNow(pairs) {
  const cells = pairs.map(([symbol, number]) => el("li", {}, math(symbol), el("span", { class: "figure" }, ` ${figure(number)}`)));
  return el("ul", { class: "now-numbers" }, ...cells);
}
