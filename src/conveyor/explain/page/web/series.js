/**
 * A series of numbers as the input of a network. The page has examples; what a reader changes of one of them is a text,
 * so that it lies in the state and in the address as the text of a language model does:
 *
 *   ""                              the first example as it is
 *   "e2;n150;0@12=3.5,3.6;1@40=2"   example 2, cut or continued to 150 steps; channel 0 from step 12 on, channel 1 at 40
 */

const MOST = 20_000; // steps

export class Series {
  #last = { text: null, read: null };
  #examples = [];
  #frames = []; // those of the last reading, by example: unchanged ones stay the same objects

  /** `mean` and `deviation`, by channel: what the network reads is (value − mean) / deviation. */
  constructor({ channels, mean, deviation, examples }) {
    Object.assign(this, { kind: "series", channels, mean, deviation, examples });
    this.width = channels.length;
  }

  /**
   * {tokens, pieces, unknown, example, values}: the vectors that the network reads, a name for each step, and its numbers
   * in the units of the series.
   */
  encode(text) {
    if (this.#last.text !== text) {
      this.#last = { text, read: this.#read(parsed(text, this)) };
    }
    return this.#last.read;
  }

  #read({ example, steps, changes }) {
    const given = this.#given(example);
    const known = this.#frames[example] ?? given.tokens;
    const within = (of) => Array.from({ length: steps }, (_, t) => of[Math.min(t, of.length - 1)]);
    const [values, tokens] = [within(given.values), within(given.tokens)];
    const own = new Set();
    changes.forEach((of, channel) =>
      of.forEach((value, t) => {
        if (!own.has(t)) {
          own.add(t);
          values[t] = values[t].slice();
        }
        values[t][channel] = value;
      }),
    );
    own.forEach((t) => {
      const frame = this.#frame(values[t]);
      tokens[t] = known[t]?.every((one, c) => one === frame[c]) ? known[t] : frame;
    });
    this.#frames[example] = tokens;
    const { names } = this.examples[example];
    return { tokens, pieces: values.map((_, t) => names?.[t] ?? String(t + 1)), unknown: [], example, values };
  }

  #frame(row) {
    return Float32Array.from(row, (value, c) => (value - this.mean[c]) / this.deviation[c]);
  }

  /** An example as it was given: its rows, and the vectors that the network reads. */
  #given(example) {
    if (!this.#examples[example]) {
      const { values } = this.examples[example];
      const count = values.length / this.width;
      const rows = Array.from({ length: count }, (_, t) => values.slice(t * this.width, (t + 1) * this.width));
      this.#examples[example] = { values: rows, tokens: rows.map((row) => this.#frame(row)) };
    }
    return this.#examples[example];
  }

  /** A number of the example as it was given; where it is continued, the last one. */
  given(example, channel, step) {
    const { values } = this.examples[example];
    return values[Math.min(step, values.length / this.width - 1) * this.width + channel];
  }

  /** The text after channel `channel` has these numbers, [[step, value]]. */
  changed(text, channel, pairs) {
    const said = parsed(text, this);
    const steps = new Map(said.changes.get(channel));
    for (const [step, value] of pairs) {
      if (value === this.given(said.example, channel, step)) {
        steps.delete(step);
      } else if (Number.isFinite(value) && step >= 0 && step < said.steps) {
        steps.set(step, value);
      }
    }
    return written({ ...said, changes: new Map(said.changes).set(channel, steps) }, this);
  }

  /** The text after the series has so many steps. */
  resized(text, steps) {
    return written({ ...parsed(text, this), steps: Math.max(1, Math.min(MOST, steps)) }, this);
  }

  /** The text of an example as it is. */
  fresh(example) {
    return example ? `e${example}` : "";
  }

  example(text) {
    return parsed(text, this).example;
  }
}

/** {example, steps, changes: by channel and step}. An address may say anything: what does not fit is left out. */
function parsed(text, { examples, width }) {
  const pieces = text.split(";");
  const whole = (letter, most) => {
    const said = pieces.find((piece) => new RegExp(`^${letter}\\d{1,6}$`).test(piece));
    return said && Number(said.slice(1)) <= most ? Number(said.slice(1)) : null;
  };
  const example = whole("e", examples.length - 1) ?? 0;
  const steps = Math.max(1, whole("n", MOST) ?? examples[example].values.length / width);
  const changes = new Map();
  for (const piece of pieces) {
    const [, channel, first, numbers] = /^(\d{1,5})@(\d{1,6})=(.+)$/.exec(piece) ?? [];
    if (channel !== undefined && Number(channel) < width) {
      const of = changes.get(Number(channel)) ?? changes.set(Number(channel), new Map()).get(Number(channel));
      numbers.split(",").forEach((number, i) => {
        if (number.trim() !== "" && Number.isFinite(Number(number)) && Number(first) + i < steps) {
          of.set(Number(first) + i, Number(number));
        }
      });
    }
  }
  return { example, steps, changes };
}

function written({ example, steps, changes }, { examples, width }) {
  const pieces = [...(example ? [`e${example}`] : []), ...(steps === examples[example].values.length / width ? [] : [`n${steps}`])];
  for (const [channel, of] of changes) {
    let next = -1;
    for (const [step, value] of [...of].filter(([at]) => at < steps).sort(([a], [b]) => a - b)) {
      if (step === next) {
        pieces.push(`${pieces.pop()},${value}`);
      } else {
        pieces.push(`${channel}@${step}=${value}`);
      }
      next = step + 1;
    }
  }
  return pieces.join(";");
}
