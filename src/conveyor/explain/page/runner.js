/**
 * A network on a text, a little at a time: the page stays at hand while it runs, and after a keystroke only what is
 * new is run. Twice, with the edits and without, so that both can be seen side by side.
 */
export class Runner {
  #wanted = { tokens: [], edits: [] };
  #known = { text: null, read: null };
  #done = { edited: 0, plain: 0 };

  /** `edited` and `plain`: two of the same network; each keeps what it has run. */
  constructor(edited, plain) {
    this.networks = { edited, plain };
    this.record = this.plain = edited.run([], []);
  }

  /** The text in the tokens of this network: {tokens, pieces, unknown}. */
  read(text) {
    if (this.#known.text !== text) {
      this.#known = { text, read: this.networks.plain.encode(text) };
    }
    return this.#known.read;
  }

  tokens(text) {
    return this.read(text).tokens;
  }

  /** What is to be run. What of it was run before is kept. */
  ask(text, edits, trained) {
    const { tokens } = this.read(text);
    this.#wanted = { tokens, edits };
    for (const network of Object.values(this.networks)) {
      if (network.share !== trained) {
        network.blend(trained);
        network.share = trained;
      }
    }
    this.#done = { edited: 0, plain: 0 };
  }

  /** Runs until then, by the clock, and says whether something is left. */
  work(until) {
    const { tokens, edits } = this.#wanted;
    this.record = this.#run("edited", edits, until);
    this.plain = edits.length ? this.#run("plain", [], until) : this.record;
    const behind = edits.length ? Math.min(this.#done.edited, this.#done.plain) : this.#done.edited;
    return behind < tokens.length;
  }

  /** Longer and longer beginnings of the text: what a beginning has computed, the next need not. */
  #run(which, edits, until) {
    const network = this.networks[which];
    const { tokens } = this.#wanted;
    let record = which === "edited" ? this.record : this.plain;
    do {
      this.#done[which] = Math.min(tokens.length, this.#done[which] + 4);
      record = network.run(tokens.slice(0, this.#done[which]), edits);
    } while (this.#done[which] < tokens.length && performance.now() < until);
    return record;
  }
}
