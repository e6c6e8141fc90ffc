"""A baseline for a character model: an interpolated 5-gram model, evaluated on the same held-out end of the same text.

    python benchmarks/five_gram.py runs/demo        # 10 seconds; exit code 1 if the run's model does not beat it

Interpolated Kneser-Ney smoothing, with one discount per order estimated from the counts (Kneser & Ney 1995; Chen &
Goodman 1999). Its vocabulary is that of the whole text, as for the run's model.
"""

import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

from conveyor import language
from conveyor.language.trained import load


class KneserNey:
    """An n-gram model with interpolated Kneser-Ney smoothing."""

    def __init__(self, learnt: str, order: int, characters: int):
        self.order, self.characters = order, characters
        counts: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
        for i in range(order - 1, len(learnt)):
            counts[-1][learnt[i - order + 1 : i]][learnt[i]] += 1
        for longer, shorter in zip(counts[:0:-1], counts[-2::-1], strict=True):
            for context, followers in longer.items():
                for character in followers:  # counts distinct contexts, not occurrences
                    shorter[context[1:]][character] += 1
        self.counts = counts
        self.totals = [{context: sum(f.values()) for context, f in level.items()} for level in counts]
        self.discounts = [self.discount(level) for level in counts]

    @staticmethod
    def discount(level: dict[str, Counter[str]]) -> float:
        seen = Counter(count for followers in level.values() for count in followers.values())
        return seen[1] / (seen[1] + 2 * seen[2]) if seen[1] and seen[2] else 0.5

    def probability(self, context: str, character: str) -> float:
        p = 1 / self.characters
        for k in range(self.order):
            key = context[len(context) - k :]
            if key not in self.counts[k]:
                break
            followers, total, discount = self.counts[k][key], self.totals[k][key], self.discounts[k]
            p = (max(followers[character] - discount, 0) + discount * len(followers) * p) / total
        return p


def five_gram_bits(characters: str, held_out: float) -> float:
    """Bits per character on the held-out tail."""
    cut = len(characters) - int(len(characters) * held_out)
    model = KneserNey(characters[:cut], 5, len(set(characters)))
    positions = range(cut + 1, len(characters))  # the first character of the tail is given, as to the run's model
    bits = sum(-math.log2(model.probability(characters[max(0, i - 4) : i], characters[i])) for i in positions)
    return bits / len(positions)


def main(folder: str) -> int:
    trained = load(Path(folder))
    tail, _ = trained.tokens()
    ours = language.loss(trained.model, tail) / math.log(2)
    theirs = five_gram_bits(trained.own_text().decode(), trained.settings.held_out)
    print(f"{len(tail):,} characters held out; bits per character:")
    print(f"  {folder:<20} {ours:.4f}")
    print(f"  {'5-gram, Kneser-Ney':<20} {theirs:.4f}")
    return 0 if ours < theirs else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
