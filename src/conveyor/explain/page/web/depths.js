/** The three depths: the sequence, the cell, one unit. Zooming between them is animated, unless motion is reduced. */
import { el, put } from "./dom.js";
import { math } from "./symbols.js";

export const DEPTHS = ["sequence", "cell", "unit"];
const TIME = 260; // ms
let touched = null; // where the pointer was when it was last pressed, unless a key came after
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function mountDepths(app, element) {
  element.querySelector("#title").append(el("bdi", {}, app.data.title));
  const nav = element.querySelector("#depths");
  const buttons = DEPTHS.map((depth) => el("button", { "data-depth": depth, onclick: () => app.zoom(depth) }));
  nav.append(el("ol", {}, ...buttons.map((button) => el("li", {}, button))));
  let shown = null;
  addEventListener("pointerdown", ({ clientX, clientY }) => (touched = { x: clientX, y: clientY }), { capture: true });
  addEventListener("keydown", () => (touched = null), { capture: true });
  app.subscribe((state, changed) => {
    if (["depth", "picks", "network", "all"].some((name) => changed.has(name))) {
      name(app, buttons);
    }
    if (shown !== state.depth) {
      change(shown, state.depth);
      shown = state.depth;
    }
  });
}

function name(app, buttons) {
  const { layer, part, unit } = app.state.picks[app.state.network];
  const net = app.networks[app.state.network];
  const layers = net.layers.length > 1 ? ` of layer ${layer + 1}` : "";
  const words = [["Sequence"], [`Cell${layers}`], ["Unit ", math(net.symbol(layer, part)), `[${unit}]`]];
  buttons.forEach((button, i) => {
    put(button, ...words[i]);
    button.toggleAttribute("data-now", DEPTHS[i] === app.state.depth);
    button.setAttribute("aria-current", DEPTHS[i] === app.state.depth ? "page" : "false");
  });
}

/** Shows another depth. On the way in it grows into view, on the way out it shrinks. */
function change(from, to) {
  const at = (depth) => document.getElementById(depth);
  for (const depth of DEPTHS) {
    at(depth).hidden = depth !== to;
  }
  if (from === null || still.matches) {
    return;
  }
  const inward = DEPTHS.indexOf(to) > DEPTHS.indexOf(from);
  at(to).style.transformOrigin = origin(at(to));
  const begin = { opacity: 0, transform: `scale(${inward ? 0.86 : 1.12})` };
  at(to).animate([begin, { opacity: 1, transform: "none" }], {
    duration: TIME,
    easing: "cubic-bezier(0.2, 0.7, 0.2, 1)",
  });
  scrollTo({ top: 0 });
}

/** The origin of the zoom: the point last clicked if it is inside, else the middle. */
function origin(element) {
  const box = element.getBoundingClientRect();
  const within = touched && touched.y > box.top && touched.x > box.left && touched.x < box.right;
  return within ? `${touched.x - box.left}px ${touched.y - box.top}px` : "50% 30vh";
}
