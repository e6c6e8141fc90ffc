/** The text of the tour: sentences with symbols between backquotes, and formulas. */
import { el, figure } from "./dom.js";
import { math } from "./symbols.js";

/** "`f_t` multiplies `C_{t-1}`" with its symbols drawn. */
export function said(sentence) {
  return sentence.split("`").map((piece, i) => (i % 2 ? math(piece) : piece));
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
