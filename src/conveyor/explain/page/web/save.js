/** Saves pictures as SVG files, with the styles of the page inlined, so that they look the same on their own. */
import { el } from "./dom.js";

const STYLED = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linecap",
  "stroke-linejoin",
  "opacity",
];
const LETTERED = ["font-family", "font-size", "font-style", "font-weight", "text-anchor", "dominant-baseline"];

/** A button that saves the picture that `make()` returns. */
export function saveButton(what, make) {
  const save = () => download(`${what.replaceAll(" ", "-")}.svg`, asText(make()));
  return el(
    "button",
    { class: "quiet save", "aria-label": `save ${what} as SVG`, title: "save as SVG", onclick: save },
    "⤓ SVG",
  );
}

function asText(svg) {
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(svg);
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A copy of a picture of the page in which every shape has the style that it is seen in. */
export function inlined(svg) {
  const copy = svg.cloneNode(true);
  const copies = copy.querySelectorAll("*");
  svg.querySelectorAll("*").forEach((shown, i) => {
    const style = getComputedStyle(shown);
    if (style.display === "none" || style.visibility === "hidden") {
      copies[i].setAttribute("display", "none");
      return;
    }
    const names = shown.matches("text, tspan") ? [...STYLED, ...LETTERED] : STYLED;
    for (const name of shown.matches("g, defs, title, desc, style") ? ["opacity"] : names) {
      copies[i].setAttribute(name, style.getPropertyValue(name));
    }
    copies[i].removeAttribute("class");
  });
  copy.querySelectorAll("style").forEach((style) => style.remove());
  copy.removeAttribute("class");
  const box = svg.viewBox.baseVal;
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper") || "white";
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({
    x: box.x,
    y: box.y,
    width: box.width,
    height: box.height,
    fill: colour(paper),
  })) {
    ground.setAttribute(name, value);
  }
  copy.prepend(ground);
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  return copy;
}

/** A colour that other programs understand, of one that may have a light and a dark form. */
function colour(text) {
  const probe = el("span");
  probe.style.color = text;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
