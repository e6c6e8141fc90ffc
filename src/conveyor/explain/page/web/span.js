/** Which steps of a series the curves show: all, or some around the present one; the same for inputs and outputs. */
export class Span {
  #seen = -1;
  #first = 0;

  constructor() {
    this.wanted = 0; // how many steps; 0: all
  }

  /** {first, count} for a series of so many steps, with the present one among them. */
  of(length, step) {
    const count = Math.max(2, this.wanted ? Math.min(this.wanted, length) : length);
    if (this.#seen !== `${step} ${count}`) {
      this.#seen = `${step} ${count}`;
      const margin = Math.floor(count / 6);
      const low = Math.min(this.#first, step - margin);
      this.#first = Math.max(low, step - count + 1 + margin);
    }
    this.#first = Math.max(0, Math.min(this.#first, length - count));
    return { first: this.#first, count };
  }
}

/** A round number: that of 1, 2, 5, 10, ... that is nearest below. */
export function roundBelow(size) {
  const ten = 10 ** Math.floor(Math.log10(size));
  return [5, 2, 1].find((one) => one * ten <= size * 1.0001) * ten;
}
