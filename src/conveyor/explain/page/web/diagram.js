/** The diagram of the cell: parts can be chosen and lines cut, and the present values stand beside them. */
import { css } from "./colours.js";
import { figure, shape } from "./dom.js";
import { findRoom } from "./room.js";

const BINS = 16; // of the small strip of a vector
const STRIP = { width: 48, height: 7 };
const BOX = { width: 54, height: 28 };

export class Diagram {
  /**
   * `text`: the picture as diagram.py has drawn it. `on`: {part(index), open(index), wires(list of [source, target])}, `symbol(part)`
   * its name as text.
   */
  constructor(text, title, on, symbol) {
    this.symbol = symbol;
    const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
    this.svg = document.importNode(parsed.documentElement, true);
    this.svg.setAttribute("aria-label", title);
    this.svg.setAttribute("role", "group");
    this.parts = [...this.svg.querySelectorAll("g.part[data-part]")];
    this.wires = [...this.svg.querySelectorAll("[data-wire]")];
    this.tips = this.wires.filter((wire) => wire.classList.contains("tip"));
    this.numbers = new Map();
    this.#listen(on);
  }

  #listen(on) {
    for (const group of this.parts) {
      const part = Number(group.dataset.part);
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", "button");
      group.addEventListener("click", () => on.part(part));
      group.addEventListener("dblclick", () => on.open(part));
      group.addEventListener("keydown", (event) => {
        if (["Enter", " "].includes(event.key)) {
          event.preventDefault();
          event.stopPropagation();
          (group.classList.contains("chosen") ? on.open : on.part)(part);
        }
      });
    }
    for (const wire of this.svg.querySelectorAll("path.wire[data-wire]")) {
      const within = joined(wire);
      const wide = shape("path", { class: "grip", d: wire.getAttribute("d"), "data-grip": wire.dataset.wire });
      wide.append(shape("title", {}, within.length ? "cut or restore this line" : "this line leaves the step"));
      wide.addEventListener("click", () => within.length && on.wires(within));
      wire.parentNode.append(wide);
    }
    for (const group of this.parts) {
      group.parentNode.append(group); // above the lines
    }
  }

  /** Places for the numbers are found once the picture is in the page and has a size. */
  place() {
    if (this.layer || !this.svg.isConnected || !this.svg.clientWidth) {
      return;
    }
    this.layer = shape("g", { class: "numbers", "aria-hidden": "true" });
    const shown = this.parts.filter((group) => group.dataset.end === undefined);
    const rooms = findRoom(this.svg, shown, () => BOX).filter(([, room]) => room); // the others are in the table
    for (const [group, { x, y }] of rooms) {
      const cells = Array.from({ length: BINS }, (_, i) =>
        shape("rect", { x: (i * STRIP.width) / BINS, y: 17, width: STRIP.width / BINS + 0.2, height: STRIP.height }),
      );
      const text = shape("text", { x: STRIP.width / 2, y: 13, class: "figure", "font-size": 12 });
      const frame = shape("rect", { class: "frame", x: 0, y: 17, width: STRIP.width, height: STRIP.height });
      const part = Number(group.dataset.part);
      const element = shape("g", { transform: `translate(${x + 3} ${y})` }, text, ...cells, frame);
      this.numbers.set(part, { cells, text, element });
      this.layer.append(element);
    }
    this.svg.append(this.layer);
  }

  /** The present numbers: `of(part)` gives {numbers, scale}, `unit` the one that is written out. */
  write(of, unit) {
    this.place();
    for (const [part, { cells, text }] of this.numbers) {
      const { numbers, scale } = of(part);
      if (numbers) {
        text.textContent = figure(numbers[numbers.length === 1 ? 0 : unit] ?? mean(numbers, 0, numbers.length));
        cells.forEach((cell, i) => {
          const from = Math.floor((i * numbers.length) / BINS);
          const to = Math.max(from + 1, Math.floor(((i + 1) * numbers.length) / BINS));
          cell.setAttribute("fill", css(scale, mean(numbers, from, to)));
        });
      }
    }
  }

  /**
   * Lights what is chosen, and marks what is cut and what is held. `lit`, of a walk-through, is {parts, wires}: these
   * are lit and all else is pale; wires are named as in the picture, "3-6" or "8-end:C".
   */
  mark({ chosen, lit, cut, held }) {
    const parts = new Set(lit?.parts);
    for (const group of this.parts) {
      const part = Number(group.dataset.part);
      const isEnd = group.dataset.end !== undefined;
      const isLit = isEnd ? (lit?.wires ?? []).includes(`${part}-end:${group.dataset.end}`) : parts.has(part);
      group.classList.toggle("chosen", part === chosen && !isEnd);
      group.setAttribute("aria-pressed", String(part === chosen));
      group.classList.toggle("held", held.has(part) && !isEnd);
      group.classList.toggle("lit", Boolean(lit) && isLit);
      group.classList.toggle("pale", Boolean(lit) && !isLit);
    }
    this.numbers.forEach(({ element }, part) => element.classList.toggle("pale", Boolean(lit) && !parts.has(part)));
    for (const wire of this.wires) {
      const within = joined(wire);
      const names = wire.dataset.wire.split(" ");
      const isLit = names.some((name) => lit?.wires?.includes(name));
      const near = names.some((name) => name.split("-").some((end) => Number(end) === chosen));
      wire.classList.toggle("near", near && !lit);
      wire.classList.toggle("lit", isLit);
      wire.classList.toggle("pale", Boolean(lit) && !isLit);
      wire.classList.toggle("cut", within.length > 0 && within.every((ends) => cut.has(ends.join("-"))));
    }
    this.#nameCuts(cut);
    this.#reveal(chosen);
  }

  /** Beside each entrance the names of what is cut there: a line may be cut for one of those that run in it only. */
  #nameCuts(cut) {
    const key = [...cut].join(" ");
    if (this.named === key || !this.svg.clientWidth) {
      return;
    }
    this.named = key;
    this.cuts?.remove();
    const entrances = this.tips.map((tip) => [tip, joined(tip).filter((ends) => cut.has(ends.join("-")))]);
    const marked = new Map(entrances.filter(([, ends]) => ends.length));
    const names = new Map([...marked].map(([tip, ends]) => [tip, shape("text", { "font-size": 16 }, this.#cutName(ends))]));
    this.cuts = shape("g", { class: "cut-names" }, ...names.values());
    this.svg.append(this.cuts);
    const sizeOf = (tip) => ({ width: names.get(tip).getBBox().width + 4, height: 20 });
    for (const [tip, room] of findRoom(this.svg, [...names.keys()], sizeOf)) {
      const { x, y } = room ?? tip.getBBox(); // what is cut is to be seen, room or not
      names.get(tip).setAttribute("transform", `translate(${x + 2} ${y + 15})`);
    }
  }

  #cutName(ends) {
    return `✕ ${ends.map(([from]) => this.symbol(from)).join(", ")}`;
  }

  /** Where the picture is wider than the screen, the chosen part is brought into sight. */
  #reveal(chosen) {
    const box = this.svg.parentElement;
    if (this.revealed === chosen || !box || box.scrollWidth <= box.clientWidth) {
      return;
    }
    this.revealed = chosen;
    const group = this.parts.find((one) => Number(one.dataset.part) === chosen && one.dataset.end === undefined);
    const at = group?.getBoundingClientRect();
    if (at) {
      box.scrollLeft += at.left + at.width / 2 - box.getBoundingClientRect().left - box.clientWidth / 2;
    }
  }
}

/** The lines that run in a drawn piece, but for those that leave the step. */
function joined(wire) {
  const names = wire.dataset.wire.split(" ").filter((name) => /^\d+-\d+$/.test(name));
  return names.map((name) => name.split("-").map(Number));
}

function mean(numbers, from, to) {
  let sum = 0;
  for (let i = from; i < to; i += 1) {
    sum += numbers[i];
  }
  return sum / (to - from);
}
