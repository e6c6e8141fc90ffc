/** Heat maps of values over time: a row for each unit, a column for each step. */
import { css, pixels, place } from "./colours.js";
import { sizeOf } from "./curves.js";
import { el, shape } from "./dom.js";

const peaks = new WeakMap();

/** The largest size among numbers; remembered, since a step that has run does not change. */
function peakOf(numbers) {
  if (!peaks.has(numbers)) {
    let peak = 0;
    for (const number of numbers) {
      peak = Math.max(peak, Math.abs(number) || 0);
    }
    peaks.set(numbers, peak);
  }
  return peaks.get(numbers);
}

/** The largest size of a value over all steps. `at(t)` gives its numbers. */
export function peakOver(at, length) {
  let peak = 0;
  for (let t = 0; t < length; t += 1) {
    peak = Math.max(peak, peakOf(at(t)));
  }
  return peak;
}

const EVERY = 64;
const known = new WeakMap(); // by the numbers of every 64th step, which stay the same only if all before them do

/** The least and the largest number of each unit over all steps, {lows, highs}. `at(t)` gives the numbers of a step. */
export function extremesOver(at, length, units) {
  let from = length - (length % EVERY);
  while (from > 0 && !known.has(at(from - 1))) {
    from -= EVERY;
  }
  let { lows, highs } = from > 0 ? known.get(at(from - 1)) : { lows: new Float64Array(units), highs: new Float64Array(units) };
  [lows, highs] = [lows.slice(), highs.slice()];
  for (let t = from; t < length; t += 1) {
    const numbers = at(t);
    for (let unit = 0; unit < units; unit += 1) {
      lows[unit] = numbers[unit] < lows[unit] ? numbers[unit] : lows[unit];
      highs[unit] = numbers[unit] > highs[unit] ? numbers[unit] : highs[unit];
    }
    if (t % EVERY === EVERY - 1) {
      known.set(numbers, { lows: lows.slice(), highs: highs.slice() });
    }
  }
  return { lows, highs };
}

/** Draws the steps from `first`, `count` of them, over the whole canvas. `at(t)`: the numbers of a step, or nothing. */
export function paint(canvas, { at, first, count, units, scale }) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const seen = sizeOf(canvas);
  const [width, height] = [seen.width, seen.height].map((size) =>
    Math.max(1, Math.round(size * ratio)),
  );
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
  }
  const small = new OffscreenCanvas(count, units);
  small.getContext("2d").putImageData(image({ at, first, count, units, scale }), 0, 0);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = height < units;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, width, height);
}

function image({ at, first, count, units, scale }) {
  const bytes = new ImageData(count, units);
  const colours = pixels(scale.kind);
  const points = new Uint32Array(bytes.data.buffer);
  for (let column = 0; column < count; column += 1) {
    const numbers = at(first + column);
    if (numbers) {
      for (let unit = 0; unit < units; unit += 1) {
        points[unit * count + column] = colours[place(scale, numbers[unit])];
      }
    }
  }
  return bytes;
}

/** A row of cells, one for each number: a vector at one step. */
export function strip(canvas, numbers, scale) {
  paint(canvas, {
    at: (column) => numbers.subarray(column, column + 1),
    first: 0,
    count: numbers.length,
    units: 1,
    scale,
  });
}

const MOST = 6000; // rectangles of a picture; a larger one goes in as pixels

/** The picture to be saved: a rectangle for each number, runs of one colour in one; of very many numbers as pixels. */
export function asShapes(what, width, height) {
  if (what.count * what.units > MOST) {
    const canvas = el("canvas", { width: what.count, height: what.units });
    canvas.getContext("2d").putImageData(image(what), 0, 0);
    const box = { width, height, preserveAspectRatio: "none", "image-rendering": "pixelated" };
    return [shape("image", { ...box, href: canvas.toDataURL() })];
  }
  const rows = Array.from({ length: what.units }, (_, unit) =>
    rects(what, unit, width / what.count, height / what.units),
  );
  return rows.flat();
}

function rects({ at, first, count, scale }, unit, w, h) {
  const found = [];
  const colour = (column) => (at(first + column) ? css(scale, at(first + column)[unit]) : "none");
  let begin = 0;
  for (let column = 1; column <= count; column += 1) {
    if (column === count || colour(column) !== colour(begin)) {
      const box = { x: begin * w, y: unit * h, width: (column - begin) * w + 0.05, height: h + 0.05 };
      found.push(shape("rect", { ...box, fill: colour(begin) }));
      begin = column;
    }
  }
  return found;
}

/** What the colours mean; and where some units are far larger than the others, which, and how far they go. */
export function legend(scale, label) {
  const bar = el("canvas", { class: "legend-bar", "aria-hidden": "true" });
  const numbers = Float32Array.from({ length: 64 }, (_, i) => scale.low + ((scale.high - scale.low) * i) / 63);
  requestAnimationFrame(() => strip(bar, numbers, scale));
  const end = (value) => el("span", { class: "figure" }, short(value));
  const { beyond } = scale;
  const far = beyond && `${beyond.count} of ${beyond.units} units go beyond, [${beyond.unit}] the farthest: from ${short(beyond.low)} to ${short(beyond.high)}`;
  const more = beyond ? el("span", { class: "small beyond-scale", title: "The colours end where nearly all units do." }, far) : null;
  return el("span", { class: "legend" }, el("span", {}, label), end(scale.low), bar, end(scale.high), more);
}

const short = (value) => String(Number(value.toPrecision(2))).replace("-", "−");
