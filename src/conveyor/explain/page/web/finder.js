/** Searches the whole text of the run, by the server, for passages where units behave as in a span. */
import { alone, el, figure, put, visible } from "./dom.js";
import { strip } from "./heat.js";
import { math } from "./symbols.js";

const FEW = 3; // units that are used by default

export function mountFinder(app, element) {
  if (!app.data.served) {
    return; // a page in a file has only its own text
  }
  const finder = new Finder(app);
  element.append(finder.element);
  app.subscribe((_, changed) => ["all", "step", "picks", "network", "text", "run", "edits"].some((name) => changed.has(name)) && finder.draw());
}

class Finder {
  #span = null;
  #units = null; // the units typed in
  #asked = 0;

  constructor(app) {
    this.app = app;
    const from = el("button", { id: "span-from", onclick: () => this.#begin() }, "span from here");
    const to = el("button", { id: "span-to", onclick: () => this.#end() }, "to here");
    this.span = el("p", { class: "span-text" });
    this.value = el("select", { id: "find-value" });
    this.units = el("input", { id: "find-units", type: "text", inputmode: "numeric", autocomplete: "off", spellcheck: "false" });
    this.go = el("button", { id: "find-similar", onclick: () => this.find() }, "Find similar");
    this.said = el("p", { class: "small", role: "status" });
    this.places = el("ol", { class: "places" });
    this.value.addEventListener("change", () => this.#take(null));
    this.units.addEventListener("change", () => this.#take(parsed(this.units.value)));
    const fields = el("div", { class: "line" }, el("label", { for: "find-value" }, "value"), this.value, el("label", { for: "find-units" }, "units"), this.units, this.go);
    const about = el("p", { class: "small" }, "Choose a span: go to its first token, then to its last. The whole training text is searched for passages in which the units have nearly the same values, without edits.");
    const head = el("div", { class: "line" }, el("h3", {}, "Find similar"), from, to);
    this.element = el("section", { class: "card finder", "aria-label": "Find similar" }, head, about, this.span, fields, this.said, this.places);
  }

  get net() {
    return this.app.networks[this.app.state.network];
  }

  #take(units) {
    this.#units = units;
    this.draw();
  }

  #begin() {
    const step = this.app.step();
    this.#span = [step, Math.max(step, this.#span?.[1] ?? step)];
    this.draw();
  }

  #end() {
    const step = this.app.step();
    this.#span = [Math.min(step, this.#span?.[0] ?? step), step];
    this.draw();
  }

  /** The span, within the text as it is now. */
  get #now() {
    const last = this.net.runner.tokens(this.app.state.text).length - 1;
    const [from, to] = this.#span ?? [Math.max(0, this.app.step() - 3), this.app.step()];
    return [Math.min(from, last), Math.min(to, last)];
  }

  draw() {
    const { app, net } = this;
    const { layer, part } = app.state.picks[app.state.network];
    this.#fill(net, layer, part);
    const [from, to] = this.#now;
    const { pieces } = net.runner.read(app.state.text);
    put(this.span, ...(to < 0 ? [] : [el("bdi", { class: "token span-now" }, visible(alone(pieces.slice(from, to + 1).join(""))))]));
    if (document.activeElement !== this.units) {
      this.units.value = this.#chosen().join(", ");
    }
    this.go.disabled = to < 0;
  }

  /** The values that can be looked for: those that the step names. The chosen part is taken, if it is one. */
  #fill(net, layer, part) {
    const key = `${this.app.state.network} ${layer} ${part}`;
    if (this.value.dataset.key === key) {
      return;
    }
    this.value.dataset.key = key;
    const named = net.named(layer).filter((one) => net.part(layer, one).name);
    put(this.value, ...named.map((one) => el("option", { value: one }, bare(net.symbol(layer, one)))));
    this.value.value = named.includes(part) ? part : (named.find((one) => one === net.start.part) ?? named[0]);
  }

  /** The units that are written down, or else the one that is chosen and those that are the farthest from 0. */
  #chosen() {
    const { app } = this;
    const { layer, part, unit } = app.state.picks[app.state.network];
    const which = Number(this.value.value);
    const numbers = app.record().values(this.#now[1], layer, which);
    if (this.#units?.length || !numbers) {
      return (this.#units ?? []).filter((one) => one < this.net.part(layer, which).size);
    }
    const order = Array.from(numbers.keys()).sort((a, b) => Math.abs(numbers[b]) - Math.abs(numbers[a]));
    const first = which === part ? [unit] : [];
    return [...new Set([...first, ...order])].slice(0, FEW);
  }

  async find() {
    const { app, net } = this;
    const { layer } = app.state.picks[app.state.network];
    const [first, last] = this.#now;
    const units = this.#chosen();
    const part = Number(this.value.value);
    const value = net.part(layer, part).name;
    const asked = (this.#asked += 1);
    this.said.textContent = "Searching the text …";
    try {
      const question = { network: app.state.network, text: app.state.text, first, last: last + 1, value, layer, units };
      const found = await ask("similar", question);
      if (asked === this.#asked) {
        this.#show(found, net, layer, part, units);
      }
    } catch (error) {
      if (asked === this.#asked) {
        this.said.textContent = error.message;
        put(this.places);
      }
    }
  }

  #show({ total, matches }, net, layer, part, units) {
    put(this.said, `The ${matches.length} most similar passages of ${total.toLocaleString("en")} tokens, by `, math(net.symbol(layer, part)), `[${units.join(", ")}]:`);
    const peak = Math.max(1e-9, ...matches.flatMap(({ values }) => values.flat().map(Math.abs)));
    const { bounds } = net.part(layer, part);
    const scale = bounds?.[0] === 0 ? { kind: "gate", low: 0, high: bounds[1] } : { kind: "signed", low: -peak, high: peak };
    put(this.places, ...matches.map((match) => this.#match(match, units, scale)));
  }

  /** A passage with the units' values below, a strip for each. */
  #match({ score, at, length, tokens, values }, units, scale) {
    const words = tokens.map((token, i) => el("span", { class: i >= at && i < at + length ? "within" : "" }, alone(token).replaceAll("\n", "↵ ")));
    const strips = units.map((unit, k) => {
      const canvas = el("canvas", { class: "strip", role: "img", "aria-label": `unit ${unit} along the passage` });
      requestAnimationFrame(() => strip(canvas, Float32Array.from(values, (row) => row[k]), scale));
      return canvas;
    });
    const mark = el("div", { class: "place-mark", "aria-hidden": "true" });
    mark.style.left = `${(100 * at) / tokens.length}%`;
    mark.style.width = `${(100 * length) / tokens.length}%`;
    const use = () => this.app.update({ text: tokens.join(""), step: at + length - 1 }, { push: true });
    const isText = !tokens.some((token) => token.startsWith("\\x")); // of a byte that is no character by itself
    const button = isText ? el("button", { class: "quiet", onclick: use }, "read it here") : null;
    return el("li", {}, el("div", { class: "line" }, el("bdi", { class: "token passage" }, ...words), el("span", { class: "figure" }, figure(score)), button ?? ""), el("div", { class: "place-strips" }, ...strips, mark));
  }
}

/** A symbol without its step, where only text can stand. */
function bare(symbol) {
  return symbol.replace(/,?t\}$/u, "}").replace(/_t$/u, "").replaceAll(/[_{}]/gu, "");
}

/** Whole numbers out of "3, 17 4". */
function parsed(text) {
  return [...new Set((text.match(/\d+/g) ?? []).map(Number))];
}

async function ask(name, question) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`/api/${name}`, { method: "POST", headers, body: JSON.stringify(question) }).catch(() => {
    throw new Error("The server does not answer: is it still running?");
  });
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (found.error) {
    throw new Error(found.error);
  }
  return found;
}
