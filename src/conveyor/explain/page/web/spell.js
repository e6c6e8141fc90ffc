/** Writes expressions as text: infix operators, parentheses where needed, functions by name. */

const SIGNS = { add: "+", sub: "−", mul: "×", div: "÷", mod: "mod", lt: "<", le: "≤", eq: "=", ne: "≠" };
// The precedence of `mod` is not common knowledge: it gets parentheses within sums and products, and so do its operands.
const LEVEL = { lt: 0, le: 0, eq: 0, ne: 0, mod: 0.5, add: 1, sub: 1, mul: 2, div: 2 };
const CALLED = { sigmoid: "σ", maximum: "max", minimum: "min", root: "√", sqrt: "√", where: "if" };
export const ATOM = 3;

/** `operands`: [{text, level}], how tightly each holds together; gives the same of the whole. */
export function spelled(op, operands) {
  if (op in LEVEL && operands.length === 2) {
    const level = LEVEL[op];
    const one = (operand, i) => {
      const same = operand.level === level && (level === 0 || (i === 1 && op !== "add" && op !== "mul"));
      const loose = operand.level < (op === "mod" ? ATOM : level) || same;
      const negative = operand.text.startsWith("−") && (i === 1 || op === "mod");
      return loose || negative ? `(${operand.text})` : operand.text;
    };
    return { text: operands.map(one).join(` ${SIGNS[op]} `), level };
  }
  if (op === "neg") {
    const [{ text, level }] = operands;
    return { text: level < 2 || text.startsWith("−") ? `−(${text})` : `−${text}`, level: 2 };
  }
  return { text: `${CALLED[op] ?? op}(${operands.map(({ text }) => text).join(", ")})`, level: ATOM };
}

/** Numbers that are added, a negative one after the first in parentheses. */
export function summed(texts) {
  return texts.map((text, i) => (i && text.startsWith("−") ? `(${text})` : text)).join(" + ");
}
