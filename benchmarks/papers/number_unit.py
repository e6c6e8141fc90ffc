"""The unit that stores the number of the subject, and what happens to the verbs when it forgets.

    python benchmarks/papers/number_unit.py         # 5 seeds of 3 sizes, 7 minutes; needs the extra agreement

Lakretz et al. 2019, "The emergence of number and syntax units in LSTM language models": two units of 1,300 carry the
number over a distance, and without one verbs go wrong after a noun of the other number. Here a small language model is
trained on 18,000 sentences of the corpus agreement, without labels of number.

The script finds the unit of C that best indicates the number of the main subject, from the subject to its verb and
through all clauses between. The threshold is learned on 1,000 held-out sentences, and the accuracy is measured on
another 1,000. Then the model reads 2,000 new sentences with that unit's forget gate shut at every step, and for
comparison with each other unit's. Finally, the unit's C is replaced once, right after the subject, by its value for a
subject of the other number. A verb is wrong if its other form is at least as likely.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from common import arguments, table
from torch import Tensor, sigmoid, tanh

import conveyor
from conveyor import zoo
from conveyor.explain.measure.record import predict, record
from conveyor.explain.measure.units import Unit, units
from conveyor.language.job import Language
from conveyor.language.settings import Settings
from conveyor.language.trained import Trained, load
from conveyor.tasks.agreement import lexicon, sentence, verbs_of
from conveyor.training import train as training
from conveyor.training.progress import Lines

PUBLISHED = "2 of 1,300 units carry it; without one, verbs go wrong after a noun of the other number*"
SUBJECT = 2  # the step at which the main subject is read: "\nthe keys ..."
EXAMPLE = "the keys to the cabinet near the door are old .\nthe child swims ."


class Edited(zoo.LSTM):
    """An LSTM whose forget gate is multiplied by `keep`, and whose C is replaced by `given` where `swap` is 1."""

    def step(self, x: Tensor, h: Tensor, C: Tensor, keep: Tensor, swap: Tensor, given: Tensor):
        f = sigmoid(self.forget(h, x)) * keep
        i = sigmoid(self.input(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        C = swap * given + (1 - swap) * C
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C


@dataclass(frozen=True)
class Verbs:
    """The verbs of a batch of sentences, `tokens` [T, B]; `turned` has main subjects of the other number.

    For each verb [verbs]: where it is predicted, its token and that of its other form, the number of attractors
    (intervening nouns of the other number), whether any noun intervenes, and whether it is the main verb.
    """

    tokens: Tensor
    turned: Tensor
    time: Tensor
    row: Tensor
    token: Tensor
    other: Tensor
    attractors: Tensor
    apart: Tensor
    main: Tensor


def trained(seed: int, hidden: int, steps: int, folder: Path) -> Trained:
    """The model of `conveyor train agreement --tokens word --embedding-size 32 --dropout 0`."""
    sizes = {"hidden_size": hidden, "embedding_size": 32, "dropout": 0.0}
    settings = Settings(text=("agreement",), tokens="word", steps=steps, evaluate_every=steps, seed=seed, **sizes)
    if training.start(Language, settings, folder, Lines("token", seconds=600)).signal:
        raise SystemExit("interrupted: there is no model to look into")
    return load(folder)


def other_forms() -> dict[str, str]:
    """Plurals by singulars and singulars by plurals, for all nouns and verbs."""
    known = lexicon()
    pairs = [*known.nouns, *known.verbs, *known.sees, ("is", "are")]
    return {one: other for a, b in pairs for one, other in ((a, b), (b, a))}


def new_verbs(model: Trained, sentences: int) -> Verbs:
    """The verbs of new random sentences, each after a newline."""
    random, others = Random(1), other_forms()
    numbers = {symbol: n for n, symbol in enumerate(model.vocabulary.symbols)}
    texts = [sentence(random) for _ in range(sentences)]
    tokens = torch.zeros(max(map(len, texts)) + 1, len(texts), dtype=torch.long)
    found = []
    for row, words in enumerate(texts):
        tokens[: len(words) + 1, row] = model.vocabulary.encode(("\n" + " ".join(words)).encode())
        verbs = verbs_of(words)
        for verb in verbs:
            forms = (numbers[" " + form] for form in (words[verb.place], others[words[verb.place]]))
            found.append((verb.place, row, *forms, verb.attractors, bool(verb.between), verb is verbs[-1]))
    turned = tokens.clone()
    turned[SUBJECT] = torch.tensor([numbers[" " + others[words[SUBJECT - 1]]] for words in texts])
    return Verbs(tokens, turned, *(torch.tensor(column) for column in zip(*found, strict=True)))


@torch.no_grad()
def wrong(model: Trained, verbs: Verbs, forget: int | None = None, swap: int | None = None) -> Tensor:
    """Which verbs are wrong [verbs]: unchanged, with one unit forgetting at every step, or with one unit swapped."""
    layer = conveyor.Recurrent(Edited, model.settings.embedding_size, model.settings.hidden_size)
    layer.load_state_dict(model.model.rnn.state_dict())
    x = model.model.embedding(verbs.tokens)
    shape = (*x.shape[:2], layer.hidden_size)
    keep, swapped, given = torch.ones(shape), torch.zeros(shape), torch.zeros(shape)
    if forget is not None:
        keep[..., forget] = 0
    if swap is not None:
        swapped[SUBJECT, :, swap] = 1
        given[SUBJECT] = record(model, verbs.turned[: SUBJECT + 1]).values["C"][0][-1]
    output, _ = layer(x, keep=keep, swap=swapped, given=given)
    scores = predict(model.model, output[verbs.time, verbs.row])  # after the token before the verb
    right, other = (scores.gather(1, form[:, None])[:, 0] for form in (verbs.token, verbs.other))
    return ~(right > other)


@dataclass(frozen=True)
class Found:
    """The unit, and which verbs are wrong [verbs]: unchanged, with it forgetting, swapped, with others forgetting."""

    unit: Unit
    verbs: Verbs
    before: Tensor
    after: Tensor
    swapped: Tensor
    others: list[Tensor]

    def __str__(self) -> str:
        main, apart, attractors = self.verbs.main, self.verbs.apart, self.verbs.attractors
        others = [rate(one, main) for one in self.others]
        numbers = (f"{n}: {self.change(main & (attractors == n))}" for n in range(5))
        lines = [
            f"C[{self.unit.index}] tells the number at {self.unit.score:.1%} (chance {self.unit.chance:.1%})",
            f"main verbs wrong {self.change(main)} as it forgets; others {mean(others):.1%}, worst {max(others):.1%}",
            f"with nouns between {self.change(main & apart)}, without {self.change(main & ~apart)}",
            f"by attractors {', '.join(numbers)}",
            f"swapped once {rate(self.swapped, main):.1%}, with nouns between {rate(self.swapped, main & apart):.1%}",
            f"verbs of clauses wrong {self.change(~main)}",
        ]
        return "\n    ".join(lines)

    def change(self, which: Tensor) -> str:
        return f"{rate(self.before, which):.1%} -> {rate(self.after, which):.1%}"


def rate(wrong: Tensor, which: Tensor) -> float:
    return float(wrong[which].float().mean())


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def measure(model: Trained, sentences: int = 2_000) -> Found:
    name = "main subject number"
    unit = units(model, model.tokens()[0], [name], values=["C"], top=1)[name][0]
    verbs, hidden = new_verbs(model, sentences), range(model.settings.hidden_size)
    others = [wrong(model, verbs, forget=other) for other in hidden if other != unit.index]
    edited = (wrong(model, verbs), wrong(model, verbs, forget=unit.index), wrong(model, verbs, swap=unit.index))
    return Found(unit, verbs, *edited, others)


def example(model: Trained, unit: Unit) -> str:
    """The unit's C along a sentence and into the next."""
    recording = record(model, EXAMPLE)
    values = recording.values["C"][0][:, unit.index].tolist()
    told = [f"{text.strip()} {value:+.1f}" for text, value in zip(recording.texts, values, strict=True) if text != "\n"]
    return f"C[{unit.index}], plural {'above' if unit.sign > 0 else 'below'} {unit.threshold:+.1f}: {', '.join(told)}"


def found(seed: int, hidden: int, steps: int = 4_000) -> str:
    with tempfile.TemporaryDirectory() as folder:
        model = trained(seed, hidden, steps, Path(folder) / "run")
        measured = measure(model)
        return f"{measured}\n    {example(model, measured.unit)}"


if __name__ == "__main__":
    given = arguments(5, __doc__)
    for hidden in (24,) if given.quick else (24, 12, 48):
        table(f"the number unit of {hidden}", PUBLISHED, partial(found, hidden=hidden), given.seeds)
