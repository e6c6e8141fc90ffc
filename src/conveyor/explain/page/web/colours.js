/** Colour scales: one for values between 0 and 1, one for signed values. */

const INK = {
  light: { paper: [251, 249, 244], gate: [16, 106, 98], low: [38, 98, 168], high: [200, 72, 32] },
  dark: { paper: [33, 36, 42], gate: [104, 219, 203], low: [104, 172, 250], high: [255, 146, 92] },
};
const STEPS = 256;
const made = new Map();
const night = matchMedia("(prefers-color-scheme: dark)");

export const isDark = () => night.matches;

/** Calls the listener when the colour scheme changes. */
export function onScheme(listener) {
  night.addEventListener("change", listener);
}

/** The scale for a part: `bounds` are [low, high] if known, `peak` is the largest magnitude so far. */
export function scaleOf(bounds, peak) {
  if (bounds && bounds[0] >= 0) {
    return { kind: "gate", low: 0, high: bounds[1] ?? Math.max(peak, 1e-9) };
  }
  const high = bounds ? Math.max(-bounds[0], bounds[1]) : niceAbove(peak);
  return { kind: "signed", low: -high, high };
}

const FAR = 4; // how many times larger a unit is than nearly all others, so that the colours leave it out
const NEARLY = 0.95;

/**
 * The scale for a value whose units have these extremes: where one is far larger than the others it ends where nearly all
 * of them do, and has `beyond`: {count, units, unit, low, high}, of those that go on.
 */
export function robustScale(lows, highs) {
  const peaks = Array.from(lows, (low, unit) => Math.max(-low, highs[unit]));
  const order = peaks.toSorted((one, other) => one - other);
  const most = order.at(-1);
  const usual = order[Math.min(order.length - 2, Math.floor(NEARLY * (order.length - 1)))];
  if (!(usual > 0 && most > FAR * usual && Number.isFinite(most))) {
    return scaleOf(null, most);
  }
  const scale = scaleOf(null, usual);
  const count = peaks.filter((peak) => peak > scale.high).length;
  const [low, high] = [lows.reduce((a, b) => Math.min(a, b)), highs.reduce((a, b) => Math.max(a, b))];
  return { ...scale, beyond: { count, units: peaks.length, unit: peaks.indexOf(most), low, high } };
}

/** The next of 1, 2, 5, 10, ..., so that colours stay the same while values grow a little. */
function niceAbove(peak) {
  if (!(peak > 0) || !Number.isFinite(peak)) {
    return 1;
  }
  const ten = 10 ** Math.floor(Math.log10(peak));
  return [1, 2, 5, 10].find((step) => step * ten >= peak * 0.999) * ten;
}

/** The index of a value in the table of colours. */
export function place(scale, value) {
  const share = (value - scale.low) / (scale.high - scale.low);
  return Math.max(0, Math.min(STEPS - 1, Math.round(share * (STEPS - 1)))) || 0;
}

/** The table of colours as 32-bit pixels, in the byte order of a canvas. */
export function pixels(kind) {
  return table(kind).pixels;
}

/** The CSS colour of a value. */
export function css(scale, value) {
  return table(scale.kind).css[place(scale, value)];
}

function table(kind) {
  const key = `${kind} ${isDark()}`;
  if (!made.has(key)) {
    const colours = Array.from({ length: STEPS }, (_, i) => mix(kind, i / (STEPS - 1)));
    made.set(key, {
      css: colours.map(([r, g, b]) => `rgb(${r} ${g} ${b})`),
      pixels: Uint32Array.from(colours, ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0),
    });
  }
  return made.get(key);
}

function mix(kind, share) {
  const ink = INK[isDark() ? "dark" : "light"];
  const far = kind === "gate" ? ink.gate : share < 0.5 ? ink.low : ink.high;
  const size = kind === "gate" ? share : Math.abs(2 * share - 1);
  return far.map((one, i) => Math.round(ink.paper[i] + (one - ink.paper[i]) * size ** 0.85));
}
