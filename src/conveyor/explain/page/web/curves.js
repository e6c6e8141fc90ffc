/** Curves on a canvas: a lane of one height, its steps from left to right. */
import { onScheme } from "./colours.js";
import { el } from "./dom.js";

const DENSE = 1.2; // points for each step, below which a curve is drawn by columns
const inks = new Map();
onScheme(() => inks.clear());

/** A colour of the style sheet, as a canvas takes it. */
export function ink(name) {
  if (!inks.has(name)) {
    const probe = el("span", { hidden: true });
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    inks.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return inks.get(name);
}

const sizes = new WeakMap();
const watched = new ResizeObserver((entries) => entries.forEach(({ target }) => sizes.delete(target)));

/** How large a canvas is seen, known without asking for it each time, which would lay the page out anew. */
export function sizeOf(canvas) {
  if (!sizes.get(canvas)?.width) {
    sizes.set(canvas, { width: canvas.clientWidth, height: canvas.clientHeight });
    watched.observe(canvas);
  }
  return sizes.get(canvas);
}

/** The canvas made as large as it is seen, and empty. */
export function begin(canvas) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const { width, height } = sizeOf(canvas);
  const size = [width, height].map((one) => Math.max(1, Math.round(one * ratio)));
  if (canvas.width !== size[0] || canvas.height !== size[1]) {
    [canvas.width, canvas.height] = size;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Where steps and values are on a canvas: `range` is [low, high]. */
export function placed({ width, height }, { first, count }, [low, high]) {
  const wide = width / count;
  return {
    wide,
    x: (step) => (step - first + 0.5) * wide,
    y: (value) => height - 5 - ((value - low) / (high - low)) * (height - 10),
    step: (x) => first + Math.max(0, Math.min(count - 1, Math.floor(x / wide))),
    value: (y) => low + ((height - 5 - Math.max(0, Math.min(height, y))) / (height - 10)) * (high - low),
  };
}

/** What lies over a lane: a bar at the present step, and the ends of what is seen. Moving it draws nothing anew. */
export class Mark {
  constructor() {
    this.element = el("div", { class: "lane-now", "aria-hidden": "true" });
    this.ends = el("div", { class: "lane-ends", "aria-hidden": "true" }, el("span"), el("span"));
  }

  between(low, high) {
    [high, low].forEach((end, i) => {
      const text = String(Number(end.toPrecision(3))).replace("-", "−");
      if (this.ends.children[i].textContent !== text) {
        this.ends.children[i].textContent = text;
      }
    });
  }

  move(at, step, { first, count }) {
    const wide = Math.max(2, at.wide);
    this.element.hidden = step < first || step >= first + count;
    this.element.style.width = `${wide}px`;
    this.element.style.transform = `translateX(${(at.x(step) - wide / 2).toFixed(2)}px)`;
  }
}

export function level(context, at, { width }, value) {
  context.strokeStyle = ink("line");
  context.lineWidth = 1;
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(0, at.y(value));
  context.lineTo(width, at.y(value));
  context.stroke();
}

/** A line through the values of the steps; where one is missing it is broken. */
export function line(context, at, { first, count }, of, { colour, width = 1.6, dash = [] }) {
  if (at.wide < DENSE) {
    columns(context, at, { first, count }, of, colour, width);
    return;
  }
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.lineJoin = "round";
  context.beginPath();
  let drawn = false;
  for (let step = first; step < first + count; step += 1) {
    const value = of(step);
    if (!Number.isFinite(value)) {
      drawn = false;
    } else if (drawn) {
      context.lineTo(at.x(step), at.y(value));
    } else {
      context.moveTo(at.x(step), at.y(value));
      context.lineTo(at.x(step) + 0.01, at.y(value));
      drawn = true;
    }
  }
  context.stroke();
  context.setLineDash([]);
}

/** Where there are more steps than points, a bar for each column of them, from the least value to the largest: quick. */
function columns(context, at, { first, count }, of, colour, width) {
  context.fillStyle = colour;
  let [column, low, high, before] = [-1, NaN, NaN, NaN];
  const fill = () => low <= high && context.fillRect(column, low - width / 2, 1, high - low + width);
  for (let step = first; step < first + count; step += 1) {
    const [x, y] = [Math.floor(at.x(step)), at.y(of(step))];
    if (x !== column) {
      fill();
      [column, low, high] = [x, before, before]; // joined to the column before
    }
    low = y < low || Number.isNaN(low) ? y : low;
    high = y > high || Number.isNaN(high) ? y : high;
    before = y;
  }
  fill();
}

/** [low, high] of numbers, with some room; `least`: how far apart they are at least. */
export function rangeOf(numbers, least = 1e-6, room = 0.08) {
  let [low, high] = [Infinity, -Infinity];
  for (const number of numbers) {
    if (Number.isFinite(number)) {
      low = Math.min(low, number);
      high = Math.max(high, number);
    }
  }
  if (low > high) {
    return [-1, 1];
  }
  const more = Math.max((high - low) * room, (least - (high - low)) / 2);
  return [low - more, high + more];
}
