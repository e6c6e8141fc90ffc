/** Making elements. Text goes in as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** `el("button", {class: "quiet", onclick: go}, "Go")`. Of attributes, `undefined` and `false` are left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for a shape of a picture. */
export function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Its children are these now. */
export function put(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number as a person writes it: a true minus, no more digits than are of use. */
export function figure(value, digits = 2) {
  if (!Number.isFinite(value)) {
    return Number.isNaN(Number(value)) ? "not a number" : value > 0 ? "∞" : "−∞";
  }
  const size = Math.abs(value);
  const text =
    size >= 1e5 || (size > 0 && size < 5e-4) ? value.toExponential(1) : value.toFixed(size >= 100 ? 1 : digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replaceAll("-", "−");
}

/** The same for a number of an equation, without zeros that end a fraction: 0.5, 1, 1e−10. */
export function constant(value) {
  return figure(value, 3).replace(/\.0+(?=e|$)|(\.\d*?)0+(?=e|$)/, "$1");
}

/** A probability as a percentage. */
export function percent(share) {
  return share > 0 && share < 0.001 ? "<0.1%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
}

/** What a token looks like where a blank would not be seen. */
export function visible(text) {
  return text
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replaceAll("\r", "␍")
    .replace(/^ | $/g, "␣")
    .replace(/^$/, "∅");
}

/** A piece of text of unknown direction, kept apart from what stands around it. */
export function token(text, attributes = {}) {
  return el("bdi", { class: "token", ...attributes }, visible(text));
}

/** Where letters fit only together with others, such as an accent by itself, a circle carries them. */
export function alone(text) {
  return /^\p{M}/u.test(text) ? `◌${text}` : text;
}

let last = 0;

/** A name for an element that nothing else has. */
export function fresh(stem) {
  last += 1;
  return `${stem}-${last}`;
}
