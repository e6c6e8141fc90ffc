"""The candidates of a search and their parents: decided by the seed and earlier fitness, not by who finished first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from conveyor.errors import BadInput
from conveyor.search.genome import Genome
from conveyor.search.mutate import MUTATIONS, mutate
from conveyor.search.writing import write

POOL = 10  # parents are drawn from this many of the fittest candidates
MUTATION_COUNTS = (1, 1, 2, 3)  # how many mutations a child has, each entry equally likely
TRIES = 1_000


@dataclass(frozen=True)
class Candidate:
    """A cell to be evaluated, with its descent."""

    number: int
    genome: Genome
    start: str = ""  # the name of the cell, for one that the search starts from
    parent: int | None = None
    changes: tuple[str, ...] = ()  # the mutations between the parent and this candidate
    refused: tuple[tuple[str, int], ...] = ()  # rejected mutations on the way to it, counted by reason

    @property
    def name(self) -> str:
        """The name of its class in the source."""
        return f"Candidate{self.number}"

    @property
    def file(self) -> str:
        """The path of its source within a search's folder."""
        return f"cells/candidate_{self.number}.py"

    @property
    def source(self) -> str:
        """The source of its cell as a Python module."""
        about = f"The cell {self.start}, from which the search starts."
        if self.parent is not None:
            about = f"Candidate {self.parent} with a change: {', '.join(self.changes)}."
        return write(self.genome, self.name, about)


class Population:
    """The candidates of a search, in order.

        population = Population({"gru": read(zoo.GRU)}, abreast=4, seed=0)
        population.candidate(7, {0: 1.0, 1: 0.8, 2: 1.1, 3: 0.0})        # a mutation of one of the fittest of 0 to 3

    Candidate n is a mutation of one of the fittest candidates before n - abreast + 1. Which worker evaluates what, and
    when, makes no difference. No two candidates have the same key.

    Raises BadInput if a start genome is invalid, or if two of them are the same.
    """

    def __init__(self, start: Mapping[str, Genome], abreast: int, seed: int):
        self.start, self.abreast, self.seed = start, abreast, seed
        self.candidates = [Candidate(n, genome, name) for n, (name, genome) in enumerate(start.items())]
        self.keys = {candidate.genome.key for candidate in self.candidates}
        for name, genome in start.items():
            if reason := genome.invalid_reason():
                raise BadInput(f"a search cannot start from {name}: {reason}")
        if len(self.keys) < len(start):
            same = "the same cell, since a search ignores initial weights"
            raise BadInput(f"two of {', '.join(start)} are {same}: leave one out")

    def parent_count(self, number: int) -> int:
        """How many candidates, counted from the first, can be the parent of this one."""
        return max(len(self.start), number - self.abreast + 1)

    def ready(self, known: int) -> int:
        """How many candidates, counted from the first, can be created once the fitness of `known` is known."""
        if known < 1:
            return 1  # the reference comes first: the fitness of all others is relative to it
        return len(self.start) if known < len(self.start) else known + self.abreast

    def candidate(self, number: int, fitness: Mapping[int, float]) -> Candidate:
        """Candidate `number`, given the fitness of the candidates before it, by their numbers."""
        while len(self.candidates) <= number:
            self.candidates.append(self.child(len(self.candidates), fitness))
            self.keys.add(self.candidates[-1].genome.key)
        return self.candidates[number]

    def child(self, number: int, fitness: Mapping[int, float]) -> Candidate:
        """A new candidate: a mutation of one of the fittest. Raises BadInput if TRIES attempts give no new cell."""
        random = Random(f"{self.seed} {number}")
        fittest = sorted(range(self.parent_count(number)), key=lambda n: (-fitness[n], n))[:POOL]
        refused = Counter[str]()
        for _ in range(TRIES):
            parent = random.choice(fittest)
            found = self.mutated(self.candidates[parent].genome, random, refused)
            if found is not None:
                genome, changes = found
                return Candidate(number, genome, "", parent, changes, tuple(sorted(refused.items())))
        raise BadInput(f"none of {TRIES} mutations gave a new cell ({dict(refused)}): choose other cells with --start")

    def mutated(self, genome: Genome, random: Random, refused: Counter[str]) -> tuple[Genome, tuple[str, ...]] | None:
        """A mutated genome and the names of its mutations, or None if it is invalid or known; counts the reason."""
        changes = []
        for _ in range(random.choice(MUTATION_COUNTS)):
            name = random.choice(list(MUTATIONS))
            changed = mutate(genome, name, random)
            if changed is None:
                refused["cannot be changed so"] += 1
                return None
            genome = changed
            changes.append(name)
            if reason := genome.invalid_reason():
                refused[reason] += 1
                return None
        if genome.key in self.keys:
            refused["known"] += 1
            return None
        return genome, tuple(changes)
