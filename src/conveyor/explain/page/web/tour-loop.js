/** The loop, and the loop unrolled over the text. */
import { alone, el, put, shape, visible } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { ofWhat, paragraphs } from "./tour-text.js";

const SAYS = [
  "A recurrent network reads a text token by token, and at each step it does the same computation with the same weights. What it has read so far reaches it through a loop, a line from the network back to itself.",
  "Unrolled over time, the loop is a chain of copies: each gets a token from below and a message from the copy before it. All copies are one network. Click on one to go to its step.",
];
const [BOX, PITCH, TOP, HIGH] = [74, 128, 66, 84];

export function loopScene() {
  return { id: "loop-unrolled", title: "A loop, and the loop unrolled", depth: "sequence", place: "above", make };
}

function make(app, network) {
  const svg = shape("svg", { class: "chain", role: "img" });
  const figure = el("div", { class: "tour-figure" }, svg, saveButton("the loop", () => inlined(svg)));
  return {
    nodes: [el("div", { class: "tour-says" }, ...paragraphs(SAYS.map((text) => ofWhat(app, text)))), figure],
    draw: () => draw(app, network, svg, figure.clientWidth || 600),
  };
}

function draw(app, network, svg, width) {
  const net = app.networks[network];
  const { runner } = net;
  const { pieces } = runner.read(app.state.text);
  const record = app.record(network);
  const step = Math.max(0, app.step(network));
  const narrow = width < 560;
  const begin = narrow ? 24 : 236;
  const count = Math.max(2, Math.min(pieces.length, 8, Math.floor((width - begin + PITCH - BOX - 8) / PITCH)));
  const first = Math.max(0, Math.min(step - Math.floor(count / 2), pieces.length - count));
  const steps = Array.from({ length: Math.min(count, pieces.length) }, (_, i) => first + i);
  const top = narrow ? 246 : 0;
  put(
    svg,
    loop(narrow ? Math.max(60, width / 2 - BOX / 2) : 60),
    narrow ? null : shape("text", { x: 200, y: TOP + HIGH / 2 + 9, "font-size": 28, "text-anchor": "middle" }, "="),
    ...steps.flatMap((at, i) => copy(at, begin + i * PITCH, top, i === steps.length - 1 && at < pieces.length - 1)),
  );
  svg.setAttribute("viewBox", `0 0 ${width} ${top + 226}`);
  svg.setAttribute("aria-label", `The network unrolled over ${steps.length} tokens of the text`);

  function copy(at, x, y, goesOn) {
    const [best] = record.length > at ? net.expected(record, at, 1, Math.max(0, app.state.wanted)) : [];
    const says = !best ? "" : visible(alone(net.isProbable ? best.name : best.said));
    const go = () => app.goTo(at, network);
    const box = module(x, y, at === step ? "now" : "");
    const parts = [
      ...line(x + BOX, y + TOP + HIGH / 2, x + PITCH - 4, y + TOP + HIGH / 2, at < pieces.length - 1 || goesOn),
      ...line(x + BOX / 2, y + TOP + HIGH + 30, x + BOX / 2, y + TOP + HIGH + 5, true),
      ...line(x + BOX / 2, y + TOP, x + BOX / 2, y + TOP - 24, true),
      box,
      word(x + BOX / 2, y + TOP + HIGH + 48, visible(alone(pieces[at]))),
      word(x + BOX / 2, y + TOP - 34, says, "soft"),
    ];
    const group = shape("g", { class: "copy", "data-step": at, onclick: go }, ...parts);
    group.append(shape("title", {}, `step ${at + 1}: reads ${visible(pieces[at])}, ${net.isSeries ? "gives" : "expects"} ${says}`));
    return [group];
  }
}

/** One module with a line to itself. */
function loop(x) {
  const [right, middle] = [x + BOX, TOP + HIGH / 2];
  const way = `M${right} ${middle} H${right + 22} Q${right + 34} ${middle} ${right + 34} ${middle + 12} V${TOP + HIGH + 58} Q${right + 34} ${TOP + HIGH + 70} ${right + 22} ${TOP + HIGH + 70} H${x - 22} Q${x - 34} ${TOP + HIGH + 70} ${x - 34} ${TOP + HIGH + 58} V${middle + 12} Q${x - 34} ${middle} ${x - 22} ${middle} H${x - 8}`;
  return shape(
    "g",
    { class: "loop" },
    shape("path", { class: "chain-line", d: way }),
    tip(x - 4, middle, 1, 0),
    ...line(x + BOX / 2, TOP + HIGH + 30, x + BOX / 2, TOP + HIGH + 5, true),
    ...line(x + BOX / 2, TOP, x + BOX / 2, TOP - 24, true),
    module(x, 0, ""),
    symbol(x + BOX / 2, TOP + HIGH + 50, "x"),
    symbol(x + BOX / 2, TOP - 32, "h"),
  );
}

function module(x, y, extra) {
  const box = shape("rect", { class: `chain-box ${extra}`, x, y: y + TOP, width: BOX, height: HIGH, rx: 12 });
  const name = shape("text", { x: x + BOX / 2, y: y + TOP + HIGH / 2 + 9, "font-size": 26, "text-anchor": "middle", class: "letter" }, "A");
  return shape("g", {}, box, name);
}

function symbol(x, y, letter) {
  const low = shape("tspan", { dy: 4, "font-size": 13 }, "t");
  return shape("text", { x, y, "font-size": 20, "font-style": "italic", "text-anchor": "middle" }, letter, low);
}

function word(x, y, text, extra = "") {
  const short = [...text].length > 11 ? `${[...text].slice(0, 10).join("")}…` : text;
  return shape("text", { x, y, "font-size": 14, "text-anchor": "middle", class: `figure ${extra}` }, short);
}

function line(x1, y1, x2, y2, shown) {
  if (!shown) {
    return [];
  }
  const [dx, dy] = [Math.sign(x2 - x1), Math.sign(y2 - y1)];
  return [shape("line", { class: "chain-line", x1, y1, x2: x2 - 6 * dx, y2: y2 - 6 * dy }), tip(x2, y2, dx, dy)];
}

function tip(x, y, dx, dy) {
  const [bx, by] = [x - 9 * dx, y - 9 * dy];
  return shape("path", { class: "chain-tip", d: `M${x} ${y} L${bx + 5 * dy} ${by + 5 * dx} L${bx - 5 * dy} ${by - 5 * dx} Z` });
}
