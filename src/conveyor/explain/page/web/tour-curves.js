/** The problem of long-range dependencies: how much gradient is left after each step back. */
import { alone, el, percent, put, shape, visible } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { ofWhat, paragraphs } from "./tour-text.js";
import { plain } from "./symbols.js";

const SAYS = [
  "To learn that a word far back matters, training needs a signal: a small change of the state back then must change the present prediction. How much it does is a gradient, which flows back through every step between.",
  "Where a curve has fallen to nearly 0, the past is out of reach. If each step multiplies the gradient by a matrix and by the slope of a squashing function, it shrinks by about the same factor every time, so after some tens of steps nothing is left to learn from.",
];
const AFTER = "The dashed curves are untrained networks on the same text: exact derivatives of their output with respect to earlier states.";
const WAIT = 120; // ms without changes before gradients are computed again
const FLOOR = 1e-8;
const CHART = "curves-chart";
const EDGES = { left: 52, right: 16, top: 14, bottom: 38 };
const HEIGHT = 300;

export function problemScene() {
  return { id: "long-spans", title: "Why long spans are hard", depth: "sequence", place: "above", make };
}

/** The gradient after 1, 2, ... steps back, relative to that after one step. */
export function shares(norms, at) {
  const back = Array.from({ length: at }, (_, k) => norms[at - 1 - k]);
  return back.length && back[0] > 0 ? back.map((norm) => norm / back[0]) : [];
}

/** For each network, the curve of the carried state of its last layer at the present step. */
export function liveCurves(app) {
  return app.networks.flatMap((net, i) => {
    const record = app.record(i);
    const at = app.step(i);
    if (at < 1 || record.length <= at) {
      return [];
    }
    const layer = net.layers.length - 1;
    const { states } = net.said.model.layers[layer];
    const carried = net.layers[layer].parts[net.start.part]?.name;
    const which = Math.max(0, states.findIndex(({ name }) => name === carried));
    const token = net.wanted(record, at, app.state.wanted);
    const { from, byState } = record.gradients(at, token);
    return [{ name: net.name, state: states[which].name, left: shares(byState[layer][which], at - from), token, at, network: i }];
  });
}

function make(app) {
  const svg = shape("svg", { class: "curves", role: "img" });
  const legend = el("ul", { class: "curve-legend" });
  const about = el("p", { class: "small" });
  const dashed = el("p", { class: "small" });
  const save = saveButton("what is left of the gradient", () => inlined(svg));
  const figure = el("div", { class: "tour-figure" }, about, svg, save, legend, dashed);
  let [key, waiting, live] = ["", 0, []];
  const redraw = () => drawAll(app, { svg, legend, about, dashed }, live, figure.clientWidth || 600);
  const compute = () => {
    live = liveCurves(app);
    redraw();
  };
  const draw = () => {
    const { text, step, edits, trained } = app.state;
    const now = JSON.stringify([text, step, edits, trained, app.networks.map((_, i) => app.record(i).length)]);
    if (now !== key) {
      const first = key === "";
      key = now;
      clearTimeout(waiting);
      if (first) {
        compute();
      } else {
        waiting = setTimeout(compute, WAIT);
      }
    } else {
      redraw();
    }
  };
  return { nodes: [el("div", { class: "tour-says" }, ...paragraphs(SAYS.map((text) => ofWhat(app, text)))), figure], draw };
}

function drawAll(app, { svg, legend, about, dashed }, live, width) {
  const reference = app.data.tour.gradient_decay.map((one) => ({ ...one, isNew: true }));
  const far = Math.max(10, ...live.map(({ left }) => left.length));
  const all = [...live, ...reference].map((one) => ({ ...one, left: one.left.slice(0, Math.max(far, 30)) }));
  draw(svg, all, width);
  put(legend, ...all.map((one, i) => entry(app, one, i)));
  put(about, ...asked(app, live));
  const known = Math.max(0, ...reference.map(({ left }) => left.length));
  put(dashed, ofWhat(app, AFTER), known && known < far ? ` They were computed for ${known} steps back only.` : "");
}

function asked(app, live) {
  if (!live.length) {
    return [ofWhat(app, "There are too few steps: go to a later step, or type more, to see the network's own curve.")];
  }
  const { network, token, at } = live.find(({ network: i }) => i === app.state.network) ?? live[0];
  const word = el("bdi", { class: "token" }, visible(alone(app.networks[network].runner.outcome(token))));
  return [`The gradient of the present prediction, `, word, ` at step ${at + 1}, with respect to the state so many steps before:`];
}

function entry(app, { name, state, left, isNew }, i) {
  const mark = shape("svg", { class: "curve-mark", viewBox: "0 0 26 8", "aria-hidden": "true" });
  mark.append(shape("line", { x1: 0, x2: 26, y1: 4, y2: 4, class: `curve-${i} ${isNew ? "new" : ""}` }));
  const ten = left.length >= 10 ? `: after 10 steps ${percent(Math.min(left[9], 9.99))}` : "";
  return el("li", {}, mark, el("b", {}, name), isNew ? " (new) " : " ", el("i", {}, state), ten);
}

/** Curves over steps back, on a logarithmic scale. */
function draw(svg, curves, width) {
  const far = Math.max(2, ...curves.map(({ left }) => left.length));
  const values = curves.flatMap(({ left }) => left).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.max(FLOOR, Math.min(...values, 0.1))));
  const high = Math.max(0.2, Math.log10(Math.max(...values, 1)) + 0.1);
  const x = (lag) => EDGES.left + ((lag - 1) / (far - 1)) * (width - EDGES.left - EDGES.right);
  const y = (value) => EDGES.top + ((high - Math.log10(value)) / (high - low)) * (HEIGHT - EDGES.top - EDGES.bottom);
  const lines = curves.map(({ left, isNew }, i) => {
    const points = left.map((value, k) => (value > 0 ? `${x(k + 1).toFixed(1)},${y(value).toFixed(1)}` : null)).filter(Boolean);
    return shape("polyline", { points: points.join(" "), class: `curve-line curve-${i} ${isNew ? "new" : ""}`, "data-name": curves[i].name });
  });
  const chart = shape("rect", { x: 0, y: 0, width, height: HEIGHT - EDGES.bottom }); // clips curves below it
  const clip = shape("clipPath", { id: CHART }, chart);
  put(svg, clip, ...axes(x, y, { low, far, width }), shape("g", { "clip-path": `url(#${CHART})` }, ...lines));
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const words = curves.map(({ name, state, left }) => `${name} ${plain(state)}: ${left.length} steps, at the end ${percent(left.at(-1) ?? 0)}`);
  svg.setAttribute("aria-label", `What is left of the gradient. ${words.join("; ")}`);
}

function axes(x, y, { low, far, width }) {
  const marks = [];
  const every = Math.max(1, Math.ceil(-low / 4));
  for (let ten = 0; ten >= low; ten -= every) {
    const at = y(10 ** ten);
    const label = ten === 0 ? "all" : ten >= -2 ? `${100 * 10 ** ten}%` : `10${superscript(ten)}`;
    marks.push(shape("line", { x1: EDGES.left, x2: width - EDGES.right, y1: at, y2: at, class: "zero" }));
    marks.push(shape("text", { x: EDGES.left - 6, y: at + 4, "text-anchor": "end", "font-size": 13 }, label));
  }
  const wide = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((step) => (far / step) * 46 < width) ?? 1000;
  for (let lag = wide; lag <= far; lag += wide) {
    marks.push(shape("text", { x: x(lag), y: HEIGHT - 22, "text-anchor": "middle", "font-size": 13 }, String(lag)));
  }
  marks.push(shape("text", { x: (EDGES.left + width) / 2, y: HEIGHT - 5, "text-anchor": "middle", "font-size": 13 }, "steps back"));
  return marks;
}

function superscript(number) {
  return String(number).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
}
