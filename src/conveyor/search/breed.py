"""Which candidate comes from which: a matter of the seed and of what came out before, not of who finished first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from conveyor.errors import BadInput
from conveyor.search.genome import Genome
from conveyor.search.mutate import MUTATIONS, mutate
from conveyor.search.writing import write

POOL = 10  # so many of the best have children
CHANGES = (1, 1, 2, 3)  # how many a child has, each as probable
TRIES = 1_000


@dataclass(frozen=True)
class Birth:
    """A candidate before it is tried."""

    number: int
    genome: Genome
    start: str = ""  # the cell that it is, for one of the start
    parent: int | None = None
    changes: tuple[str, ...] = ()
    refused: tuple[tuple[str, int], ...] = ()  # changes that gave no new cell, by reason

    @property
    def name(self) -> str:
        return f"Candidate{self.number}"

    @property
    def file(self) -> str:
        """Where its source lies in a search's folder."""
        return f"cells/candidate_{self.number}.py"

    @property
    def source(self) -> str:
        about = f"The cell {self.start}, from which the search starts."
        if self.parent is not None:
            about = f"Candidate {self.parent} with a change: {', '.join(self.changes)}."
        return write(self.genome, self.name, about)


class Breed:
    """The candidates of a search, in their order.

        breed = Breed({"gru": read(zoo.GRU)}, abreast=4, seed=0)
        breed.birth(7, {0: 1.0, 1: 0.8, 2: 1.1, 3: 0.0})        # a change of one of the best of 0 to 3

    Candidate n is a change of one of the best of the candidates before n - abreast + 1; who computes what, and when,
    changes nothing. No two have the same key.

    Raises BadInput for what is no cell, and for two that are one.
    """

    def __init__(self, start: Mapping[str, Genome], abreast: int, seed: int):
        self.start, self.abreast, self.seed = start, abreast, seed
        self.births = [Birth(n, genome, name) for n, (name, genome) in enumerate(start.items())]
        self.keys = {birth.genome.key for birth in self.births}
        for name, genome in start.items():
            if why := genome.why_not():
                raise BadInput(f"a search cannot start from {name}: it is {why}")
        if len(self.keys) < len(start):
            same = "the same cell, since a search knows no initial weights"
            raise BadInput(f"two of {', '.join(start)} are {same}: leave one out")

    def elders(self, number: int) -> int:
        """How many candidates, from the first, can be parents of this one."""
        return max(len(self.start), number - self.abreast + 1)

    def ready(self, known: int) -> int:
        """How many candidates, from the first, can be born when what so many are worth is known."""
        if known < 1:
            return 1  # all others are measured by it
        return len(self.start) if known < len(self.start) else known + self.abreast

    def birth(self, number: int, worths: Mapping[int, float]) -> Birth:
        """Candidate `number`, from what the candidates before are worth."""
        while len(self.births) <= number:
            self.births.append(self.child(len(self.births), worths))
            self.keys.add(self.births[-1].genome.key)
        return self.births[number]

    def child(self, number: int, worths: Mapping[int, float]) -> Birth:
        random = Random(f"{self.seed} {number}")
        best = sorted(range(self.elders(number)), key=lambda n: (-worths[n], n))[:POOL]
        refused = Counter[str]()
        for _ in range(TRIES):
            parent = random.choice(best)
            found = self.changed(self.births[parent].genome, random, refused)
            if found is not None:
                genome, changes = found
                return Birth(number, genome, "", parent, changes, tuple(sorted(refused.items())))
        raise BadInput(f"of {TRIES} changes none gave a new cell ({dict(refused)}): name other cells with --start")

    def changed(self, genome: Genome, random: Random, refused: Counter[str]) -> tuple[Genome, tuple[str, ...]] | None:
        """The genome with some changes, and which they are; None, and why, if that is no new cell."""
        changes = []
        for _ in range(random.choice(CHANGES)):
            name = random.choice(list(MUTATIONS))
            changed = mutate(genome, name, random)
            if changed is None:
                refused["cannot be changed so"] += 1
                return None
            genome = changed
            changes.append(name)
            if why := genome.why_not():
                refused[why] += 1
                return None
        if genome.key in self.keys:
            refused["known"] += 1
            return None
        return genome, tuple(changes)
