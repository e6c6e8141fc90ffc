/** Expressions spelled out: signs between their operands, parentheses where they are needed, functions by their names. */

const SIGNS = { add: "+", sub: "−", mul: "×", div: "÷", mod: "mod", lt: "<", le: "≤", eq: "=", ne: "≠" };
const LEVEL = { lt: 0, le: 0, eq: 0, ne: 0, add: 1, sub: 1, mul: 2, div: 2, mod: 2 };
const CALLED = { sigmoid: "σ", maximum: "max", minimum: "min", root: "√", sqrt: "√", where: "if" };
export const ATOM = 3;

/** `operands`: [{text, level}], how tightly each holds together; gives the same of the whole. */
export function spelled(op, operands) {
  if (op in LEVEL && operands.length === 2) {
    const level = LEVEL[op];
    const one = (operand, i) => {
      const loose = operand.level < level || (i === 1 && operand.level === level && op !== "add" && op !== "mul");
      return loose || (i === 1 && operand.text.startsWith("−")) ? `(${operand.text})` : operand.text;
    };
    return { text: operands.map(one).join(` ${SIGNS[op]} `), level };
  }
  if (op === "neg") {
    return { text: operands[0].level < 2 ? `−(${operands[0].text})` : `−${operands[0].text}`, level: 2 };
  }
  return { text: `${CALLED[op] ?? op}(${operands.map(({ text }) => text).join(", ")})`, level: ATOM };
}

/** Numbers that are added, a negative one after the first in parentheses. */
export function summed(texts) {
  return texts.map((text, i) => (i && text.startsWith("−") ? `(${text})` : text)).join(" + ");
}
