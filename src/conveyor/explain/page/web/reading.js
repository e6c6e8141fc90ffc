/** The text with each token shaded by its probability, or by how much the next prediction depends on it. */
import { el, percent, put, visible } from "./dom.js";
import { FAR } from "./runner.js";

const REST = 180; // ms without changes before gradients are computed

export class Reading {
  #spans = [];
  #shades = [];
  #now = null;
  #rests = { key: "", from: 0, shares: [] };
  #waiting = 0;

  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.paragraph = el("p", {
      class: "reading",
      dir: "auto",
      tabindex: 0,
      role: "group",
      "aria-label": "The text in tokens; the arrow keys move through the steps",
      onclick: (event) => this.#choose(event),
    });
    const button = (shade, text) => el("button", { "data-shade": shade, onclick: () => app.update({ shade }) }, text);
    this.choice = el("span", { class: "choice" }, button("came", "probable?"), button("rests", "depends on?"));
    this.said = el("p", { class: "small" });
    element.append(this.paragraph, el("div", { class: "line shading" }, this.choice, this.said));
  }

  /** Updates only what has changed, so that typing into a long text is fast. */
  draw() {
    const { runner } = this.app.networks[this.network];
    const { pieces, unknown } = runner.read(this.app.state.text);
    const strange = new Set(unknown);
    while (this.#spans.length > pieces.length) {
      this.#spans.pop().remove();
      this.#shades.pop();
    }
    pieces.forEach((text, step) => {
      this.#write(step, text);
      this.#spans[step].classList.toggle("strange", strange.has(text));
    });
    for (const button of this.choice.children) {
      button.setAttribute("aria-pressed", String(button.dataset.shade === this.app.state.shade));
    }
    this.#mark(this.app.step(this.network));
    if (this.app.state.shade === "rests") {
      this.#shadeByRest();
    } else {
      this.#shadeByProbability();
    }
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

  #shadeByProbability() {
    const record = this.app.record(this.network);
    const { tokens } = this.app.networks[this.network].runner.read(this.app.state.text);
    tokens.forEach((token, step) => {
      const share = step > record.length ? -1 : step ? record.probability(step - 1, token) : 0;
      this.#shade(step, share, share >= 0 ? percent(share) : "");
    });
    this.said.textContent = "The stronger the colour of a token, the higher the probability that the network gave it.";
  }

  /** Gradients take a while, so they are computed when nothing else happens. */
  #shadeByRest() {
    const { app, network } = this;
    const step = app.step(network);
    const record = app.record(network);
    const key = `${step} ${app.state.wanted} ${app.state.text} ${app.state.trained} ${JSON.stringify(app.state.edits[network])}`;
    if (this.#rests.key !== key && step >= 0) {
      clearTimeout(this.#waiting);
      this.#waiting = setTimeout(() => {
        const token = app.networks[network].wanted(record, step, app.state.wanted);
        this.#rests = { key, token, ...record.restsOn(step, token) };
        app.store.touch("run");
      }, REST);
    }
    const { from, shares, token } = this.#rests;
    const most = shares.reduce((peak, one) => Math.max(peak, one), 0) || 1;
    this.#spans.forEach((_, i) => {
      const share = shares[i - from];
      this.#shade(i, (share ?? 0) / most, share === undefined ? "" : percent(share / most));
    });
    if (token !== undefined) {
      const name = el("bdi", { class: "token" }, visible(app.networks[network].runner.outcome(token)));
      put(
        this.said,
        "The stronger the colour of a token, the more a small change of it would move the probability of ",
        name,
        " after the marked step.",
        from ? ` Tokens more than ${FAR} steps earlier are left out.` : "",
      );
    }
  }

  /** −1: not run yet. */
  #shade(i, share, title) {
    if (this.#shades[i] !== share) {
      this.#shades[i] = share;
      this.#spans[i].style.setProperty("--p", Math.max(0, share).toFixed(2));
      this.#spans[i].title = title;
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
