// Text as tokens, as conveyor.tasks.text.Vocabulary has it.

// White space as in Python, and letters and numbers as in Python's \w, without combining marks.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const LETTER = "\\p{L}\\p{N}_";
const WORD = new RegExp(` ?[${LETTER}]+| ?[^${LETTER}${SPACE}]+|[${SPACE}]`, "gu");

export class Vocabulary {
  // `kind` is "char", "byte" or "word"; `symbols` are the tokens by their numbers.
  constructor({ kind, symbols }) {
    this.kind = kind;
    this.symbols = symbols;
    this.numbers = new Map(symbols.map((symbol, number) => [symbol, number]));
  }

  // `tokens`: their numbers; `pieces`: the text of each; `unknown`: what is in the text and not among the symbols, each
  // once. Characters that are not known are left out, words are the token <unk>.
  encode(text) {
    if (this.kind === "byte") {
      const tokens = Array.from(new TextEncoder().encode(text));
      return { tokens, pieces: tokens.map((byte) => this.symbols[byte]), unknown: [] };
    }
    const all = this.kind === "word" ? (text.match(WORD) ?? []) : Array.from(text);
    const unknown = [...new Set(all.filter((piece) => !this.numbers.has(piece)))];
    const pieces = this.kind === "word" ? all : all.filter((piece) => this.numbers.has(piece));
    return { tokens: pieces.map((piece) => this.numbers.get(piece) ?? 0), pieces, unknown };
  }
}
