/** Highlights parts and lines of the diagram of a cell. */
import { el, put } from "./dom.js";

const BESIDE = 74; // of the lines that lead in and out

/** An SVG from its source, without interaction. */
export function pictured(text, title) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
  const svg = document.importNode(parsed.documentElement, true);
  svg.setAttribute("aria-label", title);
  return svg;
}

/** Only the module itself, without its neighbours, for narrow screens. */
export function cropped(svg) {
  const module = [...svg.querySelectorAll("rect.module")].find((rect) => !rect.closest(".neighbour"));
  const [x, width] = ["x", "width"].map((name) => Number(module?.getAttribute(name)));
  const box = svg.getAttribute("viewBox").split(" ").map(Number);
  if (width) {
    ["width", "height"].forEach((name) => svg.removeAttribute(name)); // by which it would keep its shape
    svg.setAttribute("viewBox", `${x - BESIDE} ${box[1]} ${width + 2 * BESIDE} ${box[3]}`);
  }
  return svg;
}

/** Highlights these parts and lines and dims the rest; without any, nothing changes. */
export function light(svg, { parts, wires }) {
  const lit = new Set(parts.map(String));
  const ways = new Set(wires);
  const any = lit.size + ways.size > 0;
  for (const group of svg.querySelectorAll("g.part[data-part]")) {
    const isLit = lit.has(group.dataset.part);
    group.classList.toggle("lit", isLit);
    group.classList.toggle("pale", any && !isLit);
  }
  for (const wire of svg.querySelectorAll("[data-wire]")) {
    const isLit = wire.dataset.wire.split(" ").some((name) => ways.has(name) || lit.has(name.split("-end:")[0]));
    wire.classList.toggle("lit", isLit);
    wire.classList.toggle("pale", any && !isLit);
  }
}

/** Buttons of which one is chosen: `options` are [id, text]; `choose(id)`. Gives {element, mark(id)}. */
export function choice(label, options, choose) {
  const buttons = options.map(([id, ...text]) => el("button", { "data-id": id, onclick: () => choose(id) }, ...text));
  const element = put(el("div", { class: "choice tour-choice", role: "group", "aria-label": label }), ...buttons);
  const mark = (id) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.id === id)));
  return { element, mark };
}
