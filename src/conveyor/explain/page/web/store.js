/** The state of the page, a plain object. Listeners are called at most once per frame, with the names that changed. */
export class Store {
  #listeners = new Set();
  #changed = new Set();
  #frame = 0;

  constructor(state) {
    this.state = state;
  }

  /** Applies changes; equal values do not count as changes. */
  update(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (!same(this.state[name], value)) {
        this.#changed.add(name);
      }
    }
    this.state = { ...this.state, ...changes };
    if (this.#changed.size && !this.#frame) {
      this.#frame = requestAnimationFrame(() => this.flush());
    }
  }

  /** `listener(state, changed)`; `changed` is a set of names. Returns a function that unsubscribes. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reports a change outside the state, such as how far the networks have run. */
  touch(name) {
    this.#changed.add(name);
    this.update({});
  }

  /** Calls the listeners now instead of in the next frame. */
  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const changed = this.#changed;
    this.#changed = new Set();
    if (changed.size) {
      for (const listener of [...this.#listeners]) {
        listener(this.state, changed);
      }
    }
  }
}

function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}
