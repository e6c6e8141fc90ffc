"""The fitness of a candidate: its cell is written to a file, checked, tested for memory, and trained on every task."""

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

from conveyor.compare import problems
from conveyor.compare.compare import RUNS
from conveyor.compare.ledger import Claim
from conveyor.compare.training import begun, seconds
from conveyor.compare.trial import TrialSettings, figures
from conveyor.compare.worker import EXIT_STOPPED
from conveyor.errors import BadInput
from conveyor.layer import Recurrent
from conveyor.layer.backends import NotCompiled, backend
from conveyor.search.config import CRASHED, EVALUATED, MIN_GAIN, Outcome, SearchConfig
from conveyor.search.population import Candidate
from conveyor.training.run import Run, write
from conveyor.training.train import Diverged
from conveyor.zoo.find import find as find_cell

MEMORY_TASK = "recall:2"  # a cell must learn this task to be trained on the others
MEMORY_GAIN = 0.75  # over chance, where 1 is perfect
MEMORY_SETTINGS: dict[str, Any] = {"steps": 300, "lr": 0.02, "batch_size": 64}
MIN_RELATIVE_GAIN = 0.5  # a cell that gains less on a task, relative to the GRU, is not trained on the next
CHECK_SIZES, CHECK_ROWS = (3, 16), 8  # input and hidden size of the layer that is checked, and the rows of its batch
RESULT = "outcome.json"


class Stopped(Exception):
    """A signal has interrupted a training run, which is saved."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one candidate. Its cell lies in `folder`/cells, its training runs in a folder of their own."""

    claim: Claim
    config: SearchConfig
    folder: Path

    @property
    def candidate(self) -> Candidate:
        """The candidate to be evaluated."""
        return self.claim.settings["candidate"]

    @property
    def run_folder(self) -> Path:
        """The folder of its training runs, log and outcome."""
        return self.folder / RUNS / str(self.candidate.number)

    @property
    def cell(self) -> str:
        """Its cell as a command takes it, file.py:ClassName."""
        return f"{(self.folder / self.candidate.file).resolve()}:{self.candidate.name}"

    def do(self) -> int:
        """Evaluates the candidate, in a process of its own; the exit status. A cell that raises counts as crashed."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        with open(self.run_folder / "log.txt", "a", buffering=1) as log:
            os.dup2(log.fileno(), sys.stderr.fileno())
            try:
                found = self.evaluate()
            except Stopped:
                return EXIT_STOPPED
            except (BadInput, ValueError, TypeError, RuntimeError) as error:  # it would fail again the next time
                traceback.print_exc()
                found = {"status": f"{CRASHED}: {type(error).__name__}: {error}"}
        write(self.run_folder / RESULT, json.dumps(found, indent=1).encode())
        return 0

    def evaluate(self) -> dict[str, Any]:
        """The fields of its `Outcome` that this process knows; later stages are skipped when one fails."""
        file = self.folder / self.candidate.file
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, self.candidate.source.encode())
        found: dict[str, Any] = {"status": EVALUATED}
        for stage in (self.check, self.test_memory, self.train):
            found |= dict(stage())
            if found["status"] != EVALUATED:
                break
        return found | {"seconds": sum(seconds(Run(one.parent)) for one in self.run_folder.glob("*/metrics.jsonl"))}

    def check(self) -> Iterator[tuple[str, Any]]:
        """Does it compile, are its values finite, do they depend on the input?"""
        torch.manual_seed(0)
        layer, x = Recurrent(find_cell(self.cell), *CHECK_SIZES), torch.randn(20, CHECK_ROWS, CHECK_SIZES[0])
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
            yield "status", "explodes"
        elif float(output[-1].detach().std(0).max()) < 1e-6:
            yield "status", "constant"

    def test_memory(self) -> Iterator[tuple[str, Any]]:
        """The filter of Jozefowicz et al. 2015: a cell that cannot learn to repeat two symbols is rejected."""
        made = self.config.settings(MEMORY_TASK, self.cell, 0)
        settings = dataclasses.replace(made, dropout=0.0, scale=1.0, evaluate_every=50, **MEMORY_SETTINGS)
        found = self.trained(settings, "memory")
        if found is None:
            yield "status", "explodes"
        elif found["validation"] > (1 - MEMORY_GAIN) * problems.find(MEMORY_TASK).chance:
            yield "status", "does not remember"

    def train(self) -> Iterator[tuple[str, Any]]:
        """Trains on the tasks in order, up to the first on which it does poorly; yields the fields of the outcome."""
        reference = self.claim.settings["reference"]
        gains, tests, draws, relative = {}, {}, {}, []
        for task in self.config.tasks:
            trained = {draw: self.trained(*self.training(task, draw)) for draw in range(self.config.draws)}
            good = {draw: found for draw, found in trained.items() if found is not None}
            if not good:
                yield "status", f"explodes on {task}"
                break
            best = min(good, key=lambda draw: (good[draw]["validation"], draw))
            gains[task] = 1 - good[best]["validation"] / problems.find(task).chance
            tests[task], draws[task] = good[best]["test"], best
            yield "parameters", good[best]["parameters"]
            if reference.get(task, 0.0) > MIN_GAIN:
                relative.append(max(0.0, gains[task] / reference[task]))
                if relative[-1] < MIN_RELATIVE_GAIN:
                    yield "status", f"poor on {task}"
                    break
        else:
            yield "fitness", min(relative, default=1.0 if self.candidate.number == 0 else 0.0)
        yield from {"gains": gains, "tests": tests, "draws": draws}.items()

    def training(self, task: str, draw: int) -> tuple[TrialSettings, str]:
        """The settings of a training run on a task in one configuration, and the name of its folder."""
        return self.config.settings(task, self.cell, draw), f"{problems.folder(task)}-{draw}"

    def trained(self, settings: TrialSettings, name: str) -> dict[str, Any] | None:
        """The figures of a training run, resumed if it was interrupted; None if it diverged."""
        run = Run(self.run_folder / name)
        run.folder.mkdir(exist_ok=True)
        try:
            result = begun(settings, run)
        except Diverged as error:
            print(f"{name}: {error}", file=sys.stderr)
            return None
        if result.signal is not None:
            raise Stopped
        return figures(run)

    def outcome(self, memory: int, complete: bool) -> Outcome:
        """The outcome that `do` left; `memory` is the peak of its process in bytes."""
        found = json.loads((self.run_folder / RESULT).read_text())
        return dataclasses.replace(self.failed(""), **found, memory=memory)

    def failed(self, error: str) -> Outcome:
        """The outcome where the process of the evaluation ended by itself."""
        candidate = self.candidate
        return Outcome(
            number=candidate.number,
            key=candidate.genome.key,
            parent=candidate.parent,
            changes=list(candidate.changes),
            status=f"{CRASHED}: {error}",
            nodes=len(candidate.genome.nodes),
            refused=dict(candidate.refused),
        )
