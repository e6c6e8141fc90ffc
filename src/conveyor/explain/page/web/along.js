/** One unit over the whole text as a line, with the present step. */
import { put, shape, figure } from "./dom.js";
import { inlined, saveButton } from "./save.js";
import { plain } from "./symbols.js";

const HEIGHT = 110;

export class Along {
  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.svg = shape("svg", { class: "along-picture", role: "img" });
    this.svg.addEventListener("click", (event) => this.#choose(event));
    element.append(
      this.svg,
      saveButton("the unit along the text", () => inlined(this.svg)),
    );
  }

  draw(record, step) {
    const { layer, part, unit } = this.app.state.picks[this.network];
    const net = this.app.networks[this.network];
    const scale = net.range(record, layer, part);
    const width = this.svg.clientWidth || 600;
    const count = Math.max(2, record.length);
    const x = (t) => 8 + (t / (count - 1)) * (width - 60);
    const y = (value) => HEIGHT - 12 - ((value - scale.low) / (scale.high - scale.low)) * (HEIGHT - 24);
    const line = (at) => {
      const points = [];
      for (let t = 0; t < at.length; t += 1) {
        const value = at.values(t, layer, part)?.[unit];
        if (Number.isFinite(value)) {
          points.push(`${x(t).toFixed(1)},${y(value).toFixed(1)}`);
        }
      }
      return points.join(" ");
    };
    const plainRun = this.app.plain(this.network);
    const value = record.values(step, layer, part)[unit];
    const level = (at) => [
      shape("line", { x1: 8, x2: width - 52, y1: y(at), y2: y(at), class: "zero" }),
      shape(
        "text",
        { x: width - 46, y: y(at) + 4, "font-size": 12 },
        String(Number(at.toPrecision(2))).replace("-", "−"),
      ),
    ];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute(
      "aria-label",
      `${plain(net.symbol(layer, part))}, unit ${unit}, along the text; now ${figure(value)}`,
    );
    put(
      this.svg,
      ...[...new Set([scale.low, 0, scale.high])].flatMap(level),
      plainRun === record ? null : shape("polyline", { points: line(plainRun), class: "trace before" }),
      shape("polyline", { points: line(record), class: "trace" }),
      shape("line", { x1: x(step), x2: x(step), y1: 4, y2: HEIGHT - 4, class: "now-line" }),
      Number.isFinite(value) ? shape("circle", { cx: x(step), cy: y(value), r: 5, class: "point" }) : null,
    );
    this.count = count;
  }

  #choose(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - 8) / (box.width - 60);
    this.app.goTo(Math.max(0, Math.round(share * (this.count - 1))), this.network);
  }
}
