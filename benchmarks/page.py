"""How fast a language model runs in a page: milliseconds per step, with edits, and for gradients, in Chromium.

    PYTHONPATH=tests .venv/bin/python benchmarks/page.py                # half a minute; cells and sizes as below
    PYTHONPATH=tests .venv/bin/python benchmarks/page.py --cells gru grid --hidden 128 --layers 1

The best of several runs of 100 steps, from token to logits, with every value recorded. The gradient is that of one
prediction after 100 tokens with respect to all earlier states and inputs, computed a second time with its inputs
cached. The blend is of all weights with untrained ones, the first time and again. The text is the page's data and code
for this model.
"""

import argparse
import json
import tempfile
from pathlib import Path

from browser import started
from conveyor.language import LanguageModel
from conveyor.zoo.find import find
from in_a_page import VOCABULARY, InAPage

TIME = """
const tokens = Array.from({ length: 100 }, (_, i) => (i * 7) % network.vocabulary.symbols.length);
const best = (work) => Math.min(...Array.from({ length: 10 }, () => {
  network.last = null;
  const start = performance.now();
  work();
  return performance.now() - start;
}));
const record = network.run(tokens);
const part = network.layers[0].parts.findIndex(({ kind }) => kind === "layer");
const edits = [{ layer: 0, part, value: 1 }];
network.gradients(record, 99, 0);
const blend = (share) => {
  const start = performance.now();
  network.blend(share);
  return performance.now() - start;
};
return {
  step: best(() => network.run(tokens)) / 100,
  edited: best(() => network.run(tokens, edits)) / 100,
  gradient: best(() => network.gradients(record, 99, 0)),
  first_blend: blend(0.5),
  blend: blend(0.4),
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "lstm-peephole", "grid"])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.layers} layers of {options.hidden}, {len(VOCABULARY)} kinds of characters")
    heads = zip(
        ("ms/step", "edited", "gradient", "blend", "weights MB", "text KB"), (10, 10, 10, 12, 12, 10), strict=True
    )
    print(f"{'cell':20}" + "".join(f"{head:>{width}}" for head, width in heads))
    with started() as browser, tempfile.TemporaryDirectory() as folder:
        for name in options.cells:
            model = LanguageModel(len(VOCABULARY), find(name), options.hidden, options.layers).eval()
            here = InAPage.of(browser, Path(folder), model)
            found = browser.run(TIME)
            size = (len(json.dumps(here.described.data)) + len(here.described.script)) / 1e3
            blend = f"{found['first_blend']:.0f}, {found['blend']:.1f}"
            print(
                f"{name:20}{found['step']:10.2f}{found['edited']:10.2f}{found['gradient']:10.1f}{blend:>12}"
                f"{here.described.weights.nbytes / 1e6:12.2f}{size:10.0f}"
            )


if __name__ == "__main__":
    main()
