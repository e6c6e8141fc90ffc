/** The sum of a unit as bars that add up, and its activation function as a curve with a point on it. */
import { el, figure, put, shape } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { plain } from "./symbols.js";

const WIDTH = 420;
const ROW = 26;
const LEFT = 92;
const RIGHT = 58;

export class SumBars {
  constructor(net, layer, part, element) {
    this.names = [
      ...net.part(layer, part).biases.map(() => "b"),
      ...net
        .part(layer, part)
        .terms.map(
          ({ part: source, block }) => `${block === "full" ? "W" : "w"} · ${plain(net.symbol(layer, source))}`,
        ),
    ];
    this.svg = shape("svg", { class: "bars-picture", role: "img" });
    element.append(
      this.svg,
      saveButton("the sum", () => inlined(this.svg)),
    );
  }

  /** Each bar begins where the previous one ends. */
  draw({ biases, blocks, total }) {
    const pieces = [...biases, ...blocks.map(({ sum }) => sum)];
    const known = pieces.every((piece) => piece !== null);
    const rows = known ? pieces : pieces.map((piece) => piece ?? 0);
    const ends = rows.reduce((all, piece) => [...all, all.at(-1) + piece], [0]);
    const low = Math.min(0, total, ...ends);
    const high = Math.max(0, total, ...ends);
    const scale = (WIDTH - LEFT - RIGHT) / (high - low || 1);
    const x = (value) => LEFT + (value - low) * scale;
    const height = ROW * (rows.length + 1) + 8;
    const made = rows.map((piece, i) => bar(i, this.names[i], ends[i], ends[i + 1], piece, x));
    made.push(bar(rows.length, "sum", 0, total, total, x, "total"));
    const zero = shape("line", { x1: x(0), x2: x(0), y1: 0, y2: height, class: "zero" });
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    this.svg.setAttribute(
      "aria-label",
      this.names.map((name, i) => `${name} ${figure(rows[i])}`).join(", ") + `, sum ${figure(total)}`,
    );
    put(this.svg, zero, ...made);
  }
}

function bar(row, name, from, to, value, x, kind = value < 0 ? "low" : "high") {
  const y = row * ROW + 4;
  const left = Math.min(x(from), x(to));
  return shape(
    "g",
    { class: kind },
    shape("text", { x: LEFT - 10, y: y + 15, "text-anchor": "end", "font-size": 14 }, name),
    shape("rect", { x: left, y, width: Math.max(1, Math.abs(x(to) - x(from))), height: ROW - 6 }),
    shape("text", { x: Math.max(x(from), x(to)) + 6, y: y + 15, class: "figure", "font-size": 13 }, figure(value)),
  );
}

const SQUASH = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
};

export class Squash {
  constructor(op, element) {
    this.op = op;
    this.of = SQUASH[op] ?? ((x) => x);
    this.svg = shape("svg", { class: "squash-picture", role: "img", viewBox: `0 0 ${WIDTH} 170` });
    element.append(
      this.svg,
      saveButton("the squashing", () => inlined(this.svg)),
    );
  }

  draw(total, value) {
    const wide = Math.max(5, Math.ceil(Math.abs(total) * 1.1) || 5);
    const [low, high] =
      this.op === "sigmoid" ? [0, 1] : this.op === "tanh" ? [-1, 1] : [Math.min(this.of(-wide), 0), this.of(wide)];
    const x = (sum) => 30 + ((sum + wide) / (2 * wide)) * (WIDTH - 100);
    const y = (result) => 150 - ((result - low) / (high - low)) * 130;
    const line = Array.from({ length: 121 }, (_, i) => -wide + (i * wide) / 60);
    const points = line.map((sum) => `${x(sum).toFixed(1)},${y(this.of(sum)).toFixed(1)}`).join(" ");
    const at = this.of(total);
    const level = (result) => [
      shape("line", { x1: 30, x2: WIDTH - 70, y1: y(result), y2: y(result), class: "zero" }),
      shape("text", { x: 22, y: y(result) + 4, "text-anchor": "end", "font-size": 12 }, figure(result, 0)),
    ];
    put(
      this.svg,
      ...[...new Set([low, 0, high])].flatMap(level),
      shape("polyline", { points, class: "trace" }),
      shape("path", { d: `M${x(total)} ${y(low)}V${y(at)}H${WIDTH - 70}`, class: "drop" }),
      shape("circle", { cx: x(total), cy: y(at), r: 6, class: "point" }),
      shape("text", { x: x(total), y: 166, "text-anchor": "middle", class: "figure", "font-size": 13 }, figure(total)),
      shape("text", { x: WIDTH - 64, y: y(at) + 5, class: "figure", "font-size": 13 }, figure(at)),
    );
    this.svg.setAttribute("aria-label", `${this.op || "the identity"} of ${figure(total)} is ${figure(value)}`);
  }
}
