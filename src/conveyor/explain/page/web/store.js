/** The page's state: one plain object. Whoever listens is told at most once a frame, and what has changed. */
export class Store {
  #listeners = new Set();
  #changed = new Set();
  #frame = 0;

  constructor(state) {
    this.state = state;
  }

  /** Takes the changes over; what is as it was is no change. */
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

  /** `listener(state, changed)`; `changed` is a set of names. Returns a function that ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Something that is not in the state has changed, such as how far the networks have run. */
  touch(name) {
    this.#changed.add(name);
    this.update({});
  }

  /** Tells now what would be told in the next frame. */
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
