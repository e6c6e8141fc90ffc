/**
 * The page: its state, its networks, its views.
 *
 * To add a module: export `mountX(app, element)`, which fills the element once and then subscribes. It can use
 *
 *   app.data                       the data of the page, see assemble.py
 *   app.state                      text (of a series what was changed of it, see series.js), step, depth ("sequence", "cell", "unit"), network (the one in focus), picks
 *                                  (layer, part and unit, for each network), edits (a list for each network), trained
 *                                  (0: the weights before training, 1: after), compare, panel ("", "play", "tour"),
 *                                  shade (of the text; "came": how probable each token was, "rests": how much the next
 *                                  prediction depends on it), wanted (the output that is asked about; -1: the likeliest),
 *                                  tour (the page of the tour, -1: none), variant, lit (for
 *                                  each network null or {parts, wires}, what a walk-through highlights in the diagram of
 *                                  the cell; not in the address)
 *   app.update(changes, {push})    changes some of it; `push`: so that "back" in the browser undoes it
 *   app.pick({layer, part, unit})  changes the pick of the network in focus, or app.pick({...}, network)
 *   app.subscribe(listener)        listener(state, changed), once per frame; `changed` is a set of names, and has
 *                                  "run" while the networks process the text
 *   app.networks[i]                network i (net.js): its data from assemble.py as `said`, its parts, its `runner`
 *   app.record(i), app.plain(i)    its values on the text, with and without the edits: a Run (runner.js)
 *   app.step(i)                    the step of network i that is shown
 *
 * and call it in `start` of main.js. All that is shown is a function of the state, and the state is in the address.
 */
import { fromAddress, toAddress } from "./address.js";
import { onScheme } from "./colours.js";
import { Store } from "./store.js";

const FRAME = 12; // ms per frame in which networks may run
const ADDRESS_AFTER = 300; // ms: browsers refuse an address that changes too often

export class App {
  #written = 0;
  #push = false;
  #running = 0;

  constructor(data, networks) {
    this.data = data;
    this.networks = networks;
    this.begin = beginning(data);
    this.store = new Store(this.#fitting(fromAddress(location.hash.slice(1), this.begin)));
  }

  get state() {
    return this.store.state;
  }

  update(changes, { push = false } = {}) {
    this.#push ||= push;
    if ("network" in changes && changes.network !== this.state.network && !("step" in changes)) {
      changes.step = this.#translated(changes.network);
    }
    this.store.update(this.#fitting({ ...this.state, ...changes }));
  }

  subscribe(listener) {
    return this.store.subscribe(listener);
  }

  pick(changes, network = this.state.network, how = {}) {
    const picks = this.state.picks.map((pick, i) => (i === network ? { ...pick, ...changes } : pick));
    this.update({ picks, network }, how);
  }

  setEdits(edits, network = this.state.network) {
    this.update({ edits: this.state.edits.map((old, i) => (i === network ? edits : old)) });
  }

  record(i = this.state.network) {
    return this.networks[i].runner.record;
  }

  plain(i = this.state.network) {
    return this.networks[i].runner.plain;
  }

  /** The step of a network that is shown: that of the state, or the last one computed so far. */
  step(i = this.state.network) {
    return Math.min(this.#translated(i), this.record(i).length - 1);
  }

  /** The step of network i: the state counts tokens of the network in focus, and vocabularies may differ. */
  #translated(i) {
    const { step, network, text } = this.state;
    const [from, to] = [network, i].map((which) => this.networks[which].runner);
    if (from.network.reads.kind === to.network.reads.kind) {
      return step;
    }
    const end = from.ends(text)[step] ?? 0;
    return Math.max(0, to.ends(text).filter((other) => other <= end).length - 1);
  }

  /** The last step after which this many characters have been read. */
  stepAt(text, characters) {
    return Math.max(0, this.networks[this.state.network].runner.tokens(text.slice(0, characters)).length - 1);
  }

  goTo(step, network = this.state.network) {
    this.update({ step, network });
  }

  /** Goes to another depth, which "back" in the browser undoes. */
  zoom(depth, changes = {}) {
    this.update({ depth, ...changes }, { push: true });
  }

  /** The networks that are shown. */
  get shown() {
    return this.state.compare ? this.networks.map((_, i) => i) : [this.state.network];
  }

  /** The nearest valid state, since an address or a shorter text may make parts of it invalid. */
  #fitting(state) {
    const picks = state.picks.map((pick, i) => this.networks[i].fitting(pick));
    const count = this.networks[state.network].runner.tokens(state.text).length;
    const step = Math.max(0, Math.min(state.step, count - 1));
    const wanted = state.wanted < this.networks[state.network].output.count ? state.wanted : -1;
    const edits = state.edits.map((list, i) => list.filter((edit) => this.networks[i].runner.allows(edit)));
    return { ...state, picks, step, wanted, edits };
  }

  /** Starts to run and to follow the address. */
  begun() {
    this.subscribe((state, changed) => {
      if (["text", "edits", "trained", "all"].some((name) => changed.has(name))) {
        this.#ask();
      }
      this.#remember();
    });
    addEventListener("hashchange", () => this.#follow());
    addEventListener("popstate", () => this.#follow());
    onScheme(() => this.store.touch("all"));
    this.#ask();
    this.store.touch("all");
    this.store.flush();
  }

  #ask() {
    const { text, edits, trained } = this.state;
    this.networks.forEach(({ runner }, i) => runner.ask(text, edits[i], trained));
    cancelAnimationFrame(this.#running);
    this.#work();
  }

  #work() {
    const until = performance.now() + FRAME;
    const left = this.networks.map(({ runner }) => runner.work(until)).some(Boolean);
    this.store.touch("run");
    this.#running = left ? requestAnimationFrame(() => this.#work()) : 0;
  }

  #follow() {
    if (location.hash.slice(1) !== toAddress(this.state, this.begin)) {
      this.store.update({ ...this.#fitting(fromAddress(location.hash.slice(1), this.begin)) });
    }
  }

  #remember() {
    if (this.#push) {
      this.#push = false;
      clearTimeout(this.#written);
      this.#write("pushState");
      return;
    }
    clearTimeout(this.#written);
    this.#written = setTimeout(() => this.#write("replaceState"), ADDRESS_AFTER);
  }

  #write(how) {
    const address = toAddress(this.state, this.begin);
    if (address !== location.hash.slice(1)) {
      try {
        history[how](null, "", address ? `#${address}` : location.pathname + location.search);
      } catch {
        location.hash = address; // some browsers let no file change its history
      }
    }
  }
}

/** The state of a page that is opened without an address. */
function beginning(data) {
  return {
    text: data.text,
    step: data.step,
    depth: "sequence",
    network: 0,
    picks: data.networks.map(({ start }) => start),
    edits: data.networks.map(() => []),
    trained: 1,
    compare: false,
    panel: "",
    shade: "came",
    wanted: -1,
    tour: -1,
    variant: "",
    lit: data.networks.map(() => null),
  };
}
