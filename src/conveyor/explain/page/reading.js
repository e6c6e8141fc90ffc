/** The text, each token shaded by how probable the network held it before it came. */
import { el, percent } from "./dom.js";

export class Reading {
  #spans = [];
  #shades = [];
  #now = null;

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.paragraph = el("p", {
      class: "reading",
      dir: "auto",
      tabindex: 0,
      role: "group",
      "aria-label": "The text in tokens; arrow keys go through the steps",
      onclick: (event) => this.#choose(event),
    });
    const said = "The deeper the shade, the more probable the network held the token before it came.";
    element.append(this.paragraph, el("p", { class: "small" }, said));
  }

  /** Only what has changed is touched: a long text is typed into. */
  draw() {
    const { runner } = this.app.networks[this.network];
    const { tokens, pieces, unknown } = runner.read(this.app.state.text);
    const strange = new Set(unknown);
    const record = this.app.record(this.network);
    while (this.#spans.length > pieces.length) {
      this.#spans.pop().remove();
      this.#shades.pop();
    }
    pieces.forEach((text, step) => {
      this.#write(step, text);
      this.#shade(step, step > record.length ? -1 : step ? record.probability(step - 1, tokens[step]) : 0);
      this.#spans[step].classList.toggle("strange", strange.has(text));
    });
    this.#mark(this.app.step(this.network));
  }

  #write(i, text) {
    if (i === this.#spans.length) {
      this.#spans.push(el("span"));
      this.#shades.push(NaN);
      this.paragraph.append(this.#spans[i]);
    }
    const shown = text === "\n" ? "↵\n" : text === "\t" ? "⇥\t" : text;
    if (this.#spans[i].textContent !== shown) {
      this.#spans[i].textContent = shown;
    }
    this.#spans[i].dataset.step = i;
  }

  /** −1: not run yet; else the probability. */
  #shade(i, share) {
    if (this.#shades[i] !== share) {
      this.#shades[i] = share;
      this.#spans[i].style.setProperty("--p", Math.max(0, share).toFixed(2));
      this.#spans[i].title = share >= 0 ? percent(share) : "";
    }
  }

  #mark(step) {
    const now = this.#spans[step] ?? null;
    if (now !== this.#now) {
      this.#now?.classList.remove("now");
      now?.classList.add("now");
      this.#now = now;
      this.#reveal();
    }
  }

  /** Scrolls within the paragraph only: the page stays where it is. */
  #reveal() {
    const box = this.paragraph;
    if (this.#now && box.scrollHeight > box.clientHeight) {
      const top = this.#now.offsetTop; // within the box, which is positioned
      if (top < box.scrollTop || top + 24 > box.scrollTop + box.clientHeight) {
        box.scrollTop = top - box.clientHeight / 2;
      }
    }
  }

  #choose(event) {
    const step = Number(event.target.dataset?.step ?? -1);
    if (step >= 0) {
      this.app.goTo(step, this.network);
    }
  }
}
