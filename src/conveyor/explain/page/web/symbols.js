/** Names of values as mathematical symbols. */
import { el } from "./dom.js";

/** "C̃_t" as C̃ with a small t below; what stands in braces after _ is below as a whole. */
export function math(text) {
  const pieces = text.split(/_(\{[^}]*\}|\S)/u);
  const made = pieces.map((piece, i) => (i % 2 ? el("sub", {}, braceless(piece)) : letters(piece)));
  return el("span", { class: "math" }, ...made.flat());
}

function braceless(text) {
  return text.replace(/^\{(.*)\}$/u, "$1").replace("-", "−");
}

/** Variables are italic; signs and function names are not. */
function letters(text) {
  return text
    .split(/(\p{L}\p{M}*)/u)
    .reduce((joined, piece) => {
      const isLetter = /^\p{L}/u.test(piece);
      const last = joined.at(-1);
      if (isLetter && last?.isLetter) {
        last.text += piece;
      } else if (piece) {
        joined.push({ text: piece, isLetter });
      }
      return joined;
    }, [])
    .map(({ text: word, isLetter }) => {
      const lone = isLetter && word.normalize("NFD").match(/\p{L}/gu).length === 1 && word !== "σ";
      return lone ? el("i", {}, word) : word;
    });
}

/** A symbol as plain text, for saved pictures and screen readers. */
export function plain(text) {
  return text
    .replace(/_\{([^}]*)\}/gu, "_$1")
    .replaceAll("_", " ")
    .replaceAll("-", "−");
}
