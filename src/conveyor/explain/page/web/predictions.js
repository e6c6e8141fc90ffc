/** What comes out: the likeliest tokens or classes with their probabilities, or numbers; with and without the edits. */
import { alone, el, figure, put, visible } from "./dom.js";
import { likeliest } from "./likeliest.js";

const SHOWN = 8;
const MOST = 12; // numbers
const READ = { tokens: 12, characters: 60 }; // how much of the text read is shown

export class Predictions {
  constructor(app, network, element) {
    this.app = app;
    this.network = network;
    this.title = el("h3");
    this.body = el("div", { class: "columns" });
    element.append(this.title, this.body);
  }

  draw() {
    const { app, network } = this;
    const record = app.record(network);
    const plain = app.plain(network);
    const step = app.step(network);
    if (step < 0 || step >= plain.length) {
      put(this.title, "Type something to see what the network expects next.");
      put(this.body);
      return;
    }
    put(this.title, ...this.#said(step));
    const truth = app.networks[network].truth(app.state.text, step);
    const changed = app.state.edits[network].length > 0;
    const runs = [[changed ? "without edits" : "", plain], ...(changed ? [["with edits", record]] : [])];
    if (!app.networks[network].isProbable) {
      put(this.body, this.#numbers(runs, step, truth));
      return;
    }
    const came = Array.isArray(truth) ? truth.flatMap((one, i) => (one > 0.5 ? [i] : [])) : truth === null ? [] : [truth];
    put(this.body, ...runs.map(([title, run]) => this.#column(title, run.probabilities(step), came)));
  }

  #said(step) {
    const net = this.app.networks[this.network];
    const { pieces } = net.runner.read(this.app.state.text);
    if (net.isSeries) {
      const early = net.output.at === "end" && step < pieces.length - 1 ? ", which counts after the last one" : "";
      return [`What comes out at step ${step + 1} of ${pieces.length}${early}`];
    }
    const from = firstNamed(pieces, step);
    const read = pieces.slice(from, step + 1).join("");
    const before = from > 0 ? "…" : "";
    return ["After ", el("bdi", { class: "token" }, `${before}${visible(alone(read))}`), " it expects"];
  }

  #column(title, probabilities, came) {
    const net = this.app.networks[this.network];
    const order = likeliest(probabilities, SHOWN);
    if (came.length && !order.some((one) => came.includes(one))) {
      order[order.length - 1] = came[0];
    }
    const rows = order.map((token) => this.#row(net.outcome(probabilities, token), came.includes(token)));
    const head = title ? el("caption", {}, title) : null;
    return el("table", { class: "bars" }, head, el("tbody", {}, ...rows));
  }

  #row({ name, share, said }, came) {
    const bar = el("span", { class: "bar" });
    bar.style.width = `${(100 * share).toFixed(2)}%`;
    const text = el("bdi", { class: "token" }, visible(alone(name)));
    const [word, title] = this.app.networks[this.network].isSeries ? ["true", "the truth"] : ["came", "the token that really came next"];
    const note = came ? el("span", { class: "came", title }, word) : null;
    return el(
      "tr",
      { class: came ? "really" : undefined },
      el("th", { scope: "row" }, text),
      el("td", { class: "track" }, bar),
      el("td", { class: "figure" }, said),
      el("td", { class: "note" }, note),
    );
  }

  /** A row for each number: what comes out, without and with the edits, the truth, and how far it is from that. */
  #numbers(runs, step, truth) {
    const { app } = this;
    const net = app.networks[this.network];
    const chosen = Math.max(0, app.state.wanted);
    const all = runs.map(([, run]) => run.probabilities(step));
    const head = ["", ...runs.map(([title]) => title || "it gives"), ...(truth ? ["truth", "error"] : [])];
    const rows = net.expected(runs[0][1], step, MOST, chosen).map(({ index, name }) => {
      const cells = all.map((numbers) => net.outcome(numbers, index).said);
      const off = truth ? [figure(truth[index]), figure(all.at(-1)[index] - truth[index])] : [];
      const choose = () => app.update({ wanted: index, network: this.network });
      const label = net.output.count > 1 ? el("button", { class: "quiet", "aria-pressed": String(index === chosen), onclick: choose }, name) : name;
      return el("tr", {}, el("th", { scope: "row" }, label), ...[...cells, ...off].map((text) => el("td", { class: "figure" }, text)));
    });
    const titles = head.map((text) => el("th", { scope: "col" }, text));
    return el("table", { class: "counts numbers-out" }, el("thead", {}, el("tr", {}, ...titles)), el("tbody", {}, ...rows));
  }
}

function firstNamed(pieces, step) {
  let [from, room] = [step, READ.characters - (pieces[step] ?? "").length]; // the text may be shorter than what has been run
  while (from > 0 && step - from + 1 < READ.tokens && pieces[from - 1].length <= room) {
    from -= 1;
    room -= pieces[from].length;
  }
  return from;
}
