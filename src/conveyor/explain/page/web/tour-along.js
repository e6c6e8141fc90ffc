/** One unit along the text, as a curve with the words below, subjects, nouns between and verbs marked. */
import { alone, put, shape, visible } from "./dom.js";

const EDGES = { left: 34, right: 12, top: 20, bottom: 78 };
const HEIGHT = 300;
const COLUMN = { word: 28, letter: 13 }; // the least width of a step
const MARKS = { subject: "●", attractor: "✕", between: "○", verb: "■" };

/**
 * `runs`: {plain, edited} as functions of the step; `tokens`: what is written below; `marks`: as tour-grammar.js has
 * them, or nothing; `threshold` between the two sides, named by `sides` [below, above], or null.
 */
export function drawAlong(svg, { runs, tokens, marks, threshold, sides, step, choose }, width) {
  const count = tokens.length;
  if (!count) {
    put(svg); // no text, no line
    return;
  }
  const isWords = tokens.some((token) => [...token].length > 2);
  const wide = Math.max(width, EDGES.left + EDGES.right + count * COLUMN[isWords ? "word" : "letter"]);
  const values = Object.values(runs).flatMap((run) => tokens.map((_, t) => run(t)).filter(Number.isFinite));
  const [low, high] = bounds([...values, threshold ?? 0, 0]);
  const x = (t) => EDGES.left + ((t + 0.5) / count) * (wide - EDGES.left - EDGES.right);
  const y = (value) => EDGES.top + ((high - value) / (high - low)) * (HEIGHT - EDGES.top - EDGES.bottom);
  const line = (run) => tokens.map((_, t) => [t, run(t)]).filter(([, value]) => Number.isFinite(value)).map(([t, value]) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`);
  const same = runs.plain === runs.edited;
  put(
    svg,
    ...sideBands(threshold, sides, { x0: EDGES.left, x1: wide - EDGES.right, y, low, high }),
    shape("line", { x1: EDGES.left, x2: wide - EDGES.right, y1: y(0), y2: y(0), class: "zero" }),
    ...[low, 0, high].map((value) => shape("text", { x: EDGES.left - 5, y: y(value) + 4, "text-anchor": "end", "font-size": 12 }, String(Number(value.toPrecision(2))).replace("-", "−"))),
    shape("line", { x1: x(step), x2: x(step), y1: EDGES.top, y2: HEIGHT - EDGES.bottom + 6, class: "now-line" }),
    same ? null : shape("polyline", { points: line(runs.plain).join(" "), class: "trace before" }),
    shape("polyline", { points: line(runs.edited).join(" "), class: "trace" }),
    ...tokens.flatMap((token, t) => column(token, t, { marks, x, y, value: runs.edited(t), step, choose, isWords })),
  );
  svg.setAttribute("viewBox", `0 0 ${wide} ${HEIGHT}`);
  svg.style.minWidth = `${wide}px`;
  reveal(svg.parentElement, x(step));
}

/** Where there is no room for all steps, the present one is in sight. */
function reveal(box, x) {
  if (box.scrollWidth > box.clientWidth && box.dataset.step !== String(x)) {
    box.dataset.step = x;
    box.scrollLeft = x - box.clientWidth / 2;
  }
}

/** The word of a step, and the mark on the curve. */
function column(token, t, { marks, x, y, value, step, choose, isWords }) {
  const { kind = "", plural } = marks?.[t] ?? {};
  const number = kind ? (plural ? " plural" : " singular") : "";
  const at = { x: x(t), y: HEIGHT - EDGES.bottom + 22 };
  const style = { ...at, "font-size": 13, class: `figure along-word ${kind}${number} ${t === step ? "now" : ""}` };
  const turned = isWords ? { transform: `rotate(38 ${at.x} ${at.y})` } : { "text-anchor": "middle" };
  const word = shape("text", { ...style, ...turned }, visible(alone(token.trim() || token)));
  const said = kind ? ` (${kind === "between" ? "noun between" : kind},${number})` : "";
  const group = shape("g", { class: "along-column", onclick: () => choose(t), "data-kind": kind }, word);
  group.append(shape("title", {}, `${visible(token)}${said}${Number.isFinite(value) ? `: ${value.toFixed(2)}` : ""}`));
  if (Number.isFinite(value) && kind) {
    group.append(shape("text", { x: x(t), y: y(value) + 5, "text-anchor": "middle", "font-size": 15, class: `along-mark ${kind}${number}` }, MARKS[kind]));
  }
  return [group];
}

function sideBands(threshold, sides, { x0, x1, y, low, high }) {
  if (threshold === null) {
    return [];
  }
  const at = y(threshold);
  const words = { "font-size": 12, x: x1 - 4, "text-anchor": "end", class: "side" };
  return [
    shape("rect", { x: x0, y: y(high), width: x1 - x0, height: Math.max(0, at - y(high)), class: "side-above" }),
    shape("line", { x1: x0, x2: x1, y1: at, y2: at, class: "threshold" }),
    shape("text", { ...words, y: y(high) + 14 }, sides[1]),
    shape("text", { ...words, y: y(low) - 4 }, sides[0]),
  ];
}

function bounds(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || 1) * 0.06;
  return [low - room, high + room];
}
