"""Prediction of the next step: `chorales`, `temperature` and `weather` of `conveyor compare`, against simple baselines.

    python benchmarks/papers/next_step.py TASK [--cells lstm gru] [--rates 0.003 0.01] [--seeds 2]

Needs pip install 'conveyor[music,series]'. A cell of 128 units is trained as in a comparison, with each of the learning
rates; the best one on validation is shown. On the chorales, frames 2 to T are evaluated (chorales.py also evaluates the
first).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import torch
from common import trained
from torch.nn import functional as F

from conveyor.compare.trial import Trial, TrialSettings
from conveyor.tasks import music
from conveyor.tasks.task import Batch
from conveyor.tasks.weather import DailyTemperature, HourlyTemperature


def logistic(penalties: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)) -> float:
    """Nats per frame of logistic regression on the previous frame's 88 keys, with the penalty chosen on validation."""
    task, parts = music.Music(), music.parts()
    fitted = [_fitted(parts["learn"], penalty) for penalty in penalties]
    with torch.no_grad():
        measured = [
            [task.measure(model(parts[part].inputs), parts[part]) for part in ("validation", "test")]
            for model in fitted
        ]
    return min(measured)[1]


def _fitted(learn: Batch, penalty: float) -> torch.nn.Linear:
    model = torch.nn.Linear(88, 88)
    best = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")
    now, after = learn.inputs[learn.mask], learn.targets[learn.mask]

    def penalised() -> torch.Tensor:
        best.zero_grad()
        nats = F.binary_cross_entropy_with_logits(model(now), after, reduction="sum") / len(now)
        loss = nats + penalty * model.weight.square().sum()
        loss.backward()
        return loss

    best.step(penalised)
    return model


def simple(task: str) -> dict[str, float]:
    """The figures of baselines with no memory, or a memory of one step."""
    if task == "chorales":
        return {
            "each key by itself": music.constant(),
            "first-order Markov": music.markov(),
            "logistic on the last frame": logistic(),
        }
    if task == "temperature":
        hours = HourlyTemperature()
        return {"as it is": hours.chance, **hours.rules()}
    return {"as it is": DailyTemperature().chance}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("chorales", "temperature", "weather"))
    parser.add_argument("--cells", nargs="+", default=["rnn", "lstm", "gru"])
    parser.add_argument("--rates", nargs="+", type=float, default=[5e-3, 1e-2, 2e-2])
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, value in simple(options.task).items():
        print(f"{name}: {value:.3g}", flush=True)
    for cell, seed in itertools.product(options.cells, range(options.seeds)):
        common = {"task": options.task, "cell": cell, "seed": seed, "steps": options.steps, "hidden_size": 128}
        found = []
        for rate in options.rates:
            settings = TrialSettings(**common, lr=rate, dropout=options.dropout, evaluate_every=50, device="cpu")
            figures = trained(Trial, settings)
            found.append((figures["validation"], figures["test"], rate, figures["time"]))
        validation, test, rate, seconds = min(found)
        print(
            f"{cell:6} seed {seed}: {test:.3g} (validation {validation:.3g}), lr {rate:g}, {seconds:.0f} s a training"
        )


if __name__ == "__main__":
    main()
