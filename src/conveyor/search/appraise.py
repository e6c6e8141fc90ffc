"""What a candidate is worth: it is written down, looked at, made to remember, and taught every task."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conveyor.backends import NotCompiled, backend
from conveyor.compare import problems
from conveyor.compare.compare import RUNS
from conveyor.compare.ledger import Claim
from conveyor.compare.training import begun, seconds
from conveyor.compare.trial import TrialSettings, figures
from conveyor.compare.worker import EXIT_STOPPED
from conveyor.errors import BadInput
from conveyor.layer import Recurrent
from conveyor.search.breed import Birth
from conveyor.search.quest import CRASHED, LITTLE, TRIED, Quest, Worth
from conveyor.training.run import Run, write
from conveyor.training.train import Diverged
from conveyor.zoo.find import find as find_cell

MEMORY = "recall:2"  # what a cell must learn to be tried further, how far from chance to perfect, and how
ENOUGH = 0.75
MEMORY_SETTINGS: dict[str, Any] = {"steps": 300, "lr": 0.02, "batch_size": 64}
HALF = 0.5  # a cell that gains less of a task than this part of the GRU's is tried no further
LOOK, ROWS = (3, 16), 8  # the widths of the layer that is looked at, and how many sequences it reads


class Stopped(Exception):
    """A signal has ended a training; it is saved."""


@dataclass(frozen=True)
class Appraisal:
    """One candidate. Its cell lies in `folder`/cells, its trainings in a folder of its own."""

    claim: Claim
    quest: Quest
    folder: Path

    @property
    def born(self) -> Birth:
        return self.claim.settings["born"]

    @property
    def own(self) -> Path:
        return self.folder / RUNS / str(self.born.number)

    @property
    def cell(self) -> str:
        return f"{(self.folder / self.born.file).resolve()}:{self.born.name}"

    def do(self) -> int:
        self.own.mkdir(parents=True, exist_ok=True)
        with open(self.own / "log.txt", "a", buffering=1) as log:
            os.dup2(log.fileno(), sys.stderr.fileno())
            try:
                found = self.appraised()
            except Stopped:
                return EXIT_STOPPED
            except (BadInput, ValueError, TypeError, RuntimeError) as error:  # which it would be the next time, too
                traceback.print_exc()
                found = {"fate": f"{CRASHED}: {type(error).__name__}: {error}"}
        write(self.own / "worth.json", json.dumps(found, indent=1).encode())
        return 0

    def appraised(self) -> dict[str, Any]:
        """What is to be said of it, as far as it came."""
        file = self.folder / self.born.file
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, self.born.source.encode())
        found: dict[str, Any] = {"fate": TRIED}
        for step in (self.look, self.remember, self.learn):
            found |= dict(step())
            if found["fate"] != TRIED:
                break
        return found | {"seconds": sum(seconds(Run(one.parent)) for one in self.own.glob("*/metrics.jsonl"))}

    def look(self) -> Iterator[tuple[str, Any]]:
        """Does it compile, are its values finite, do they depend on what it reads?"""
        torch.manual_seed(0)
        layer, x = Recurrent(find_cell(self.cell), *LOOK), torch.randn(20, ROWS, LOOK[0])
        try:
            with backend("compiled"):
                output, _ = layer(x)
            yield "compiled", True
        except NotCompiled as error:
            print(error, file=sys.stderr)
            yield "compiled", False
            output, _ = layer(x)
        output.square().mean().backward()
        weights = [weight.grad for weight in layer.parameters() if weight.grad is not None]
        if not all(value.isfinite().all() for value in (output, *weights)):
            yield "fate", "explodes"
        elif float(output[-1].detach().std(0).max()) < 1e-6:
            yield "fate", "constant"

    def remember(self) -> Iterator[tuple[str, Any]]:
        """The filter of Jozefowicz et al.: what cannot learn to repeat two symbols is tried no further."""
        made = self.quest.settings(MEMORY, self.cell, 0)
        settings = dataclasses.replace(made, dropout=0.0, scale=1.0, evaluate_every=50, **MEMORY_SETTINGS)
        found = self.trained(settings, "memory")
        if found is None:
            yield "fate", "explodes"
        elif found["validation"] > (1 - ENOUGH) * problems.find(MEMORY).chance:
            yield "fate", "does not remember"

    def learn(self) -> Iterator[tuple[str, Any]]:
        """Every task, until one is too hard."""
        reference = self.claim.settings["reference"]
        gains, tests, draws, parts = {}, {}, {}, []
        for task in self.quest.tasks:
            trained = {draw: self.trained(*self.training(task, draw)) for draw in range(self.quest.draws)}
            good = {draw: found for draw, found in trained.items() if found is not None}
            if not good:
                yield "fate", f"explodes on {task}"
                break
            best = min(good, key=lambda draw: (good[draw]["validation"], draw))
            gains[task] = 1 - good[best]["validation"] / problems.find(task).chance
            tests[task], draws[task] = good[best]["test"], best
            yield "parameters", good[best]["parameters"]
            if reference.get(task, 0.0) > LITTLE:
                parts.append(max(0.0, gains[task] / reference[task]))
                if parts[-1] < HALF:
                    yield "fate", f"poor on {task}"
                    break
        else:
            yield "worth", min(parts, default=1.0 if self.born.number == 0 else 0.0)
        yield from {"gains": gains, "tests": tests, "draws": draws}.items()

    def training(self, task: str, draw: int) -> tuple[TrialSettings, str]:
        """Of a task in a configuration the settings, and the folder."""
        return self.quest.settings(task, self.cell, draw), f"{problems.folder(task)}-{draw}"

    def trained(self, settings: TrialSettings, name: str) -> dict[str, Any] | None:
        """The figures of a training, on from where it is; None if it diverged."""
        run = Run(self.own / name)
        run.folder.mkdir(exist_ok=True)
        try:
            result = begun(settings, run)
        except Diverged as error:
            print(f"{name}: {error}", file=sys.stderr)
            return None
        if result.signal is not None:
            raise Stopped
        return figures(run)

    def outcome(self, memory: int, complete: bool) -> Worth:
        found = json.loads((self.own / "worth.json").read_text())
        return dataclasses.replace(self.failed(""), **found, memory=memory)

    def failed(self, error: str) -> Worth:
        born = self.born
        return Worth(
            number=born.number,
            key=born.genome.key,
            parent=born.parent,
            changes=list(born.changes),
            fate=f"{CRASHED}: {error}",
            nodes=len(born.genome.nodes),
            refused=dict(born.refused),
        )
