/** What the network expects next: the likeliest tokens with their probabilities, with and without the edits. */
import { alone, el, percent, put, visible } from "./dom.js";

const SHOWN = 8;
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
    const { tokens, pieces } = app.networks[network].runner.read(app.state.text);
    const from = firstNamed(pieces, step);
    const read = pieces.slice(from, step + 1).join("");
    const before = from > 0 ? "…" : "";
    put(this.title, "After ", el("bdi", { class: "token" }, `${before}${visible(alone(read))}`), " it expects");
    const came = step + 1 < tokens.length ? tokens[step + 1] : null;
    const changed = app.state.edits[network].length > 0;
    const columns = [this.#column(changed ? "without edits" : "", plain.probabilities(step), came)];
    if (changed) {
      columns.push(this.#column("with edits", record.probabilities(step), came));
    }
    put(this.body, ...columns);
  }

  #column(title, probabilities, came) {
    const order = likeliest(probabilities, SHOWN);
    if (came !== null && !order.includes(came)) {
      order[SHOWN - 1] = came;
    }
    const rows = order.map((token) => this.#row(token, probabilities[token], token === came));
    const head = title ? el("caption", {}, title) : null;
    return el("table", { class: "bars" }, head, el("tbody", {}, ...rows));
  }

  #row(token, share, came) {
    const bar = el("span", { class: "bar" });
    bar.style.width = `${(100 * share).toFixed(2)}%`;
    const name = el("bdi", { class: "token" }, visible(alone(this.app.networks[this.network].runner.symbol(token))));
    const note = came ? el("span", { class: "came", title: "the token that really came next" }, "came") : null;
    return el(
      "tr",
      { class: came ? "really" : undefined },
      el("th", { scope: "row" }, name),
      el("td", { class: "track" }, bar),
      el("td", { class: "figure" }, percent(share)),
      el("td", { class: "note" }, note),
    );
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

/** The most probable tokens, likeliest first. */
export function likeliest(probabilities, count) {
  const best = [];
  for (let token = 0; token < probabilities.length; token += 1) {
    if (best.length < count || probabilities[token] > probabilities[best.at(-1)]) {
      let at = best.length;
      while (at > 0 && probabilities[best[at - 1]] < probabilities[token]) {
        at -= 1;
      }
      best.splice(at, 0, token);
      best.length = Math.min(best.length, count);
    }
  }
  return best;
}
