"""Statistics of the outcomes: means, tests, effect sizes, and the importance of the hyperparameters.

Lower values are always better. Three choices, which the report repeats:

- A failed run counts as a run at chance, or as the worst run of the task if chance is not known. Leaving it out would
  favour the cell that fails most often.
- Welch's t-test decides, with Holm's correction over all comparisons of the study. It compares means over seeds, which
  are the quantity of interest, and allows unequal variances: a cell that sometimes fails to learn has a larger one. The
  Mann-Whitney rank test is reported beside it. It assumes less but tests another hypothesis, and with few seeds it can
  never pass Holm's correction. If an outlier hides or creates a difference, the two tests disagree, and the report
  points this out.
- Runs of two cells with equal seeds may have seen the same data. The test ignores this, which is conservative.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conveyor.compare.outcomes import Outcome, TaskInfo
from conveyor.compare.study import RANGES
from conveyor.errors import BadInput, suggest

LEVEL = 0.05  # family-wise error rate: how often a study of identical cells may find a difference
POWER = 0.8  # the power that counts as sufficient
FEW = 4  # fewer runs inflate the t-test's error rate if runs either learn or do not: 8 % with 3, 36 % with 2
ENOUGH = 10  # the fewest trials for which importance is computed
FOREST = {"n_trees": 32, "max_depth": 5}  # bounded, since the time grows with the square of the leaves
Final = Mapping[tuple[str, str], Sequence[Outcome]]
Values = Mapping[tuple[str, str], Sequence[float]]


def need(name: str) -> Any:
    """Imports a module of the extra `compare`. Raises BadInput if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(name.partition(".")[0], name.partition(".")[0])
        raise BadInput(f"the report needs {package}: pip install 'conveyor[compare]'") from error


# The values


def failed(outcome: Outcome) -> bool:
    """Whether the run has no finite result."""
    return outcome.value is None or not math.isfinite(outcome.value)


def worst(task: str, outcomes: Iterable[Outcome], about: Iterable[TaskInfo]) -> float:
    """The value that counts for a failed run of this task: chance, or the worst result; NaN if neither is known."""
    chance = next((one.chance for one in about if one.name == task), math.nan)
    if math.isfinite(chance):
        return chance
    return max(
        (o.value for o in outcomes if o.task == task and o.value is not None and not failed(o)), default=math.nan
    )


def final(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """The runs that represent each cell on each task: its repeats or, without any, its best trial by validation."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for key in dict.fromkeys((o.task, o.cell) for o in outcomes):
        trials = [o for o in outcomes if (o.task, o.cell) == key]
        repeats = [o for o in trials if o.repeat]
        found[key] = repeats or [min(trials, key=_validation)]
    return found


def _validation(outcome: Outcome) -> float:
    known = outcome.validation is not None and math.isfinite(outcome.validation) and not failed(outcome)
    return outcome.validation if known and outcome.validation is not None else math.inf


def values(chosen: Final, outcomes: Sequence[Outcome], about: Sequence[TaskInfo]) -> dict[tuple[str, str], list[float]]:
    """The values of the runs, with failed ones at chance; none for a cell whose runs have all failed."""
    worsts = {task: worst(task, outcomes, about) for task in dict.fromkeys(task for task, _ in chosen)}
    counted = {
        key: [worsts[key[0]] if o.value is None or failed(o) else o.value for o in runs] for key, runs in chosen.items()
    }
    known = {key for key, runs in chosen.items() if not all(map(failed, runs))}  # else the cell is unknown
    return {key: [value for value in all_ if math.isfinite(value) and key in known] for key, all_ in counted.items()}


def reference_of(cells: Sequence[str], wanted: str = "") -> str:
    """The cell that the others are compared with: `wanted`, or else the LSTM, or the first; "" without cells.

    Raises BadInput if the study does not have the wanted cell.
    """
    if wanted and cells and wanted not in cells:
        raise BadInput(f"the study has no cell {wanted}: {suggest(wanted, cells)}")
    return wanted if wanted in cells else "lstm" if "lstm" in cells else next(iter(cells), "")


# Means


@dataclass(frozen=True)
class Interval:
    """An interval; both bounds are NaN if there are too few values."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def interval(sample: Sequence[float], seed: int = 0) -> Interval:
    """The 95 % bootstrap confidence interval of the mean (BCa, 10,000 resamples, a fixed seed).

        interval([0.11, 0.12, 0.19])        # Interval(low=0.11.., high=0.16..)

    Bootstrap intervals are too short for few values: for samples of 3, 5 and 10 values from a normal distribution, the
    nominal 95 % interval contained the mean in 71, 84 and 89 % of cases (measured by tests/test_statistics.py).
    Source: Efron, "Better bootstrap confidence intervals", 1987.
    """
    if len(sample) < 2:
        return UNKNOWN
    if _constant(sample):
        return Interval(min(sample), max(sample))
    stats = need("scipy.stats")
    generator = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about degenerate samples; their NaN is handled below
        found = stats.bootstrap((sample,), np.mean, n_resamples=10_000, method="BCa", rng=generator).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Interval(min(sample), max(sample))  # which contains the mean
    return Interval(float(found.low), float(found.high))


def _constant(sample: Sequence[float]) -> bool:
    """Whether the values differ only by rounding, so that their variance would be noise."""
    return max(sample) - min(sample) <= 1e-12 * max(abs(value) for value in sample)


def favourites(samples: Mapping[str, Sequence[float]], draws: int = 20_000, seed: int = 0) -> dict[str, float]:
    """The probability for each cell that its mean over all seeds is the lowest.

        favourites({"lstm": [0.10, 0.12, 0.11], "gru": [0.20, 0.22, 0.19]})     # {"lstm": 0.99.., "gru": 0.00..}

    Each mean is drawn from its t distribution, which is wide for few seeds. Empty if a cell has fewer than two runs.
    """
    if not samples or any(len(sample) < 2 for sample in samples.values()):
        return {}
    generator = np.random.default_rng(seed)
    means = np.stack([_possible_means(np.asarray(sample), draws, generator) for sample in samples.values()])
    first = means == means.min(axis=0)  # [cells, draws]; equal cells share a draw
    return dict(zip(samples, map(float, (first / first.sum(axis=0)).mean(axis=1)), strict=True))


def _possible_means(sample: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    n = len(sample)
    spread = 0.0 if _constant(list(sample)) else float(sample.std(ddof=1)) / math.sqrt(n)
    return sample.mean() + spread * generator.standard_t(n - 1, draws)


# Comparisons with the reference


@dataclass(frozen=True)
class Comparison:
    """A test of a cell against the reference on a task. Without a test the values are NaN, and `why` has the reason."""

    task: str
    cell: str
    reference: str
    difference: float = math.nan  # mean of the cell minus that of the reference: above 0 the cell is worse
    p: float = math.nan  # Welch's
    corrected: float = math.nan  # the same after Holm's correction, which decides
    ranks: float = math.nan  # of Mann and Whitney's test, uncorrected
    effect: float = math.nan  # Hedges' g, in standard deviations
    effect_interval: Interval = UNKNOWN
    why: str = ""  # a remark on the test

    @property
    def tested(self) -> bool:
        """Whether there were enough runs for a test."""
        return not math.isnan(self.p)

    @property
    def differs(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.corrected < LEVEL


def compare(samples: Values, reference: str) -> list[Comparison]:
    """Compares every cell with the reference on every task.

        compare({("adding", "lstm"): [0.1, 0.2], ("adding", "gru"): [0.3, 0.4]}, "lstm")[0].p       # 0.333..

    Of 4000 studies of 5 identical cells on 3 tasks with 10 seeds each, 3.9 % found a difference for normal values,
    and 0.3 % when they were bimodal (one run in five does not learn). With 10 seeds, a difference of one standard
    deviation between two cells is found in 55 % of studies with only this comparison, and in 18 % of studies with 12.
    tests/test_statistics.py measures this again, in fewer studies.
    Sources: Welch 1947; Holm 1979; Mann and Whitney 1947.
    """
    pairs = [_pair(*key, reference, sample, samples.get((key[0], reference), ())) for key, sample in samples.items()]
    made = [one for one, key in zip(pairs, samples, strict=True) if key[1] != reference]
    tested = [one for one in made if one.tested]
    corrected = {id(one): p for one, p in zip(tested, holm([one.p for one in tested]), strict=True)}
    return [replace(one, corrected=corrected.get(id(one), math.nan)) for one in made]


def _pair(task: str, cell: str, reference: str, ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    one = Comparison(task, cell, reference)
    if len(ours) and len(theirs):
        one = replace(one, difference=float(np.mean(ours) - np.mean(theirs)))
    if min(len(ours), len(theirs)) < 2:
        short = cell if len(ours) < 2 else reference
        return replace(one, why=f"not tested: {short} has fewer than two valid runs")
    g, around = effect(ours, theirs)
    p, why = welch(ours, theirs)
    return replace(one, p=p, ranks=ranks(ours, theirs), effect=g, effect_interval=around, why=why)


def welch(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, str]:
    """The two-sided p value of Welch's t-test, and a remark if another test was used instead.

        welch([0.1, 0.2, 0.3, 0.4], [0.4, 0.5, 0.6, 0.7])[0]      # 0.016..

    For constant samples and for fewer than 4 runs, p is at least that of a permutation test, 2 / C(n + m, n). Otherwise
    three runs that happen to agree would seem almost certain.
    """
    shuffled = 2 / math.comb(len(ours) + len(theirs), len(ours))
    if _constant([*ours, *theirs]):
        return 1.0, "all runs gave the same value"
    if _constant(ours) and _constant(theirs):
        return shuffled, "tested by permutation: the values do not vary"
    known = [(np.mean(one), np.std(one, ddof=1), len(one)) for one in (ours, theirs)]
    p = float(need("scipy.stats").ttest_ind_from_stats(*known[0], *known[1], equal_var=False).pvalue)
    if min(len(ours), len(theirs)) < FEW and p < shuffled:
        return shuffled, f"tested by permutation: fewer than {FEW} runs"
    return p, ""


def ranks(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The two-sided p value of the Mann-Whitney test."""
    if _constant([*ours, *theirs]):
        return 1.0
    return float(need("scipy.stats").mannwhitneyu(ours, theirs).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values after the Holm-Bonferroni correction, which bounds the family-wise error rate.

    holm([0.01, 0.04, 0.03])        # [0.03, 0.06, 0.06]
    """
    corrected, largest = [math.nan] * len(ps), 0.0
    for done, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - done) * ps[place]))
        corrected[place] = largest
    return corrected


def effect(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, Interval]:
    """Hedges' g, the difference of the means in standard deviations, and its 95 % interval.

        effect([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])        # (0.8, Interval(low=-0.89.., high=2.49..))

    The interval is the one for large samples (Hedges and Olkin, Statistical Methods for Meta-Analysis, 1985).
    """
    n, m = len(ours), len(theirs)
    difference = float(np.mean(ours) - np.mean(theirs))
    if _constant(ours) and _constant(theirs):
        return (0.0 if _constant([*ours, *theirs]) else math.copysign(math.inf, difference)), UNKNOWN
    pooled = math.sqrt(((n - 1) * np.var(ours, ddof=1) + (m - 1) * np.var(theirs, ddof=1)) / (n + m - 2))
    g = (1 - 3 / (4 * (n + m - 2) - 1)) * difference / pooled
    error = math.sqrt((n + m) / (n * m) + g * g / (2 * (n + m)))
    return g, Interval(g - 1.96 * error, g + 1.96 * error)


def chance_to_find(size: float, seeds: int, comparisons: int = 1) -> float:
    """The power of the test for a difference of this size, in standard deviations, at Holm's strictest level.

    chance_to_find(1.0, seeds=10)                       # 0.56
    chance_to_find(1.0, seeds=10, comparisons=12)       # 0.2
    """
    stats, free = need("scipy.stats"), 2 * seeds - 2
    bound = stats.t.ppf(1 - LEVEL / comparisons / 2, free)
    return float(stats.nct.sf(bound, free, size * math.sqrt(seeds / 2)))


def seeds_to_find(size: float, comparisons: int = 1) -> int:
    """The smallest number of seeds with a power of 80 % for a difference of this size.

    seeds_to_find(1.0)      # 17
    """
    low, high = 1, 2
    while chance_to_find(size, high, comparisons) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_to_find(size, middle, comparisons) >= POWER else (middle, high)
    return high


def size_found(seeds: int, comparisons: int = 1) -> float:
    """The smallest difference, in standard deviations, for which these seeds have a power of 80 %."""
    low, high = 0.0, 1.0
    while chance_to_find(high, seeds, comparisons) < POWER:
        high *= 2
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if chance_to_find(middle, seeds, comparisons) >= POWER else (middle, high)
    return high


# The importance of the hyperparameters


def varied(trials: Sequence[Outcome]) -> list[str]:
    """The settings that all trials have and whose values vary."""
    names = [name for name in (trials[0].settings if trials else {}) if all(name in o.settings for o in trials)]
    return [name for name in names if len({repr(o.settings[name]) for o in trials}) > 1]


def is_number(trials: Sequence[Outcome], name: str) -> bool:
    """Whether all values of a setting are finite numbers."""
    kinds = {type(o.settings[name]) for o in trials}
    return kinds <= {int, float} and all(math.isfinite(o.settings[name]) for o in trials)


def is_logarithmic(trials: Sequence[Outcome], name: str) -> bool:
    """Whether a setting is drawn log-uniformly, and therefore needs a logarithmic axis."""
    log = getattr(RANGES.get(name), "log", False)
    return log and is_number(trials, name) and all(o.settings[name] > 0 for o in trials)


def capped(outcome: Outcome, worst: float) -> float:
    """The result of a run, at most `worst`, since an outlier would otherwise dominate the variance."""
    if outcome.value is None or failed(outcome):
        return worst
    return min(outcome.value, worst) if math.isfinite(worst) else outcome.value


def importance(trials: Sequence[Outcome], worst: float, seed: int = 0) -> dict[str, float]:
    """The fraction of the variance of a task's search that each setting, and the choice of cell, explains alone.

        importance(trials, worst=0.167)     # {"lr": 0.62, "hidden_size": 0.11, "cell": 0.08, ...}; the rest is joint

    It is computed by functional ANOVA over a random forest (Hutter et al. 2014), as in Greff et al., over all trials of
    the task together. It is a coarse estimate: for a learning rate that determined everything, 60 to 800 trials gave 68
    to 95 %. The result is empty for fewer than 10 trials, and if no run was better than chance.
    """
    trials = [o for o in trials if math.isfinite(capped(o, worst))]
    results = [capped(o, worst) for o in trials]
    if len(trials) < ENOUGH or _constant(results):
        return {}
    columns = {name: _column(trials, name) for name in varied(trials)}
    if len({o.cell for o in trials}) > 1:
        columns["cell"] = [o.cell for o in trials]
    return _fanova(columns, results, seed) if columns else {}


def _column(trials: Sequence[Outcome], name: str) -> list[Any]:
    """The values of a setting in all trials; their logarithms if it is drawn log-uniformly."""
    if is_logarithmic(trials, name):
        return [math.log10(o.settings[name]) for o in trials]
    return [float(o.settings[name]) if is_number(trials, name) else str(o.settings[name]) for o in trials]


def _fanova(columns: Mapping[str, Sequence[Any]], results: Sequence[float], seed: int) -> dict[str, float]:
    optuna = need("optuna")
    need("sklearn")  # which optuna imports only when the forest grows
    kinds = {name: _distribution(optuna.distributions, column) for name, column in columns.items()}
    trials = [
        optuna.trial.create_trial(
            params={name: columns[name][place] for name in columns}, distributions=kinds, value=float(result)
        )
        for place, result in enumerate(results)
    ]
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # about this study, which is internal
    try:
        study = optuna.create_study()
        study.add_trials(trials)
        found = optuna.importance.FanovaImportanceEvaluator(**FOREST, seed=seed).evaluate(study)
    finally:
        optuna.logging.set_verbosity(said)
    return {name: float(share) for name, share in found.items()}


def _distribution(kinds: Any, column: Sequence[Any]) -> Any:
    if isinstance(column[0], float):
        return kinds.FloatDistribution(min(column), max(column))
    return kinds.CategoricalDistribution(sorted(set(column)))


@dataclass(frozen=True)
class Bin:
    """The trials in one bin of a setting's range: its middle, their mean result and their number."""

    middle: float
    mean: float
    count: int


def marginal(trials: Sequence[Outcome], name: str, worst: float, bins: int = 5) -> list[Bin]:
    """The mean result as a function of a numeric setting, in bins of equal width on its axis, without empty bins.

    marginal(trials, "lr", worst=0.167)[0]      # Bin(middle=0.0015, mean=0.141, count=9)
    """
    known = [(o.settings[name], capped(o, worst)) for o in trials]
    known = [(place, result) for place, result in known if math.isfinite(result)]
    if not known:
        return []
    log = is_logarithmic(trials, name)
    places = np.array([math.log10(place) if log else place for place, _ in known])
    edges = np.linspace(places.min(), places.max(), bins + 1)
    which = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, bins - 1)
    found = []
    for one in range(bins):
        here = [result for (_, result), bin_ in zip(known, which, strict=True) if bin_ == one]
        middle = float(edges[one] + edges[one + 1]) / 2
        if here:
            found.append(Bin(10**middle if log else middle, float(np.mean(here)), len(here)))
    return found


@dataclass(frozen=True)
class Study:
    """The outcomes of a study with all their statistics, in a common order of tasks and cells."""

    outcomes: Sequence[Outcome]
    about: dict[str, TaskInfo]
    cells: list[str]
    reference: str
    final: dict[tuple[str, str], list[Outcome]]
    samples: dict[tuple[str, str], list[float]]
    comparisons: list[Comparison]
    importance: dict[str, dict[str, float]]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], about: Sequence[TaskInfo], reference: str = "") -> Study:
        """Computes the statistics of the outcomes. Raises BadInput for a reference that the study does not have."""
        cells, known = list(dict.fromkeys(o.cell for o in outcomes)), {one.name: one for one in about}
        alive = [cell for cell in cells if not all(failed(o) for o in outcomes if o.cell == cell)]
        reference = reference_of(alive or cells, reference)
        seen = dict.fromkeys(o.task for o in outcomes)
        order = [name for name in known if name in seen] + [name for name in seen if name not in known]
        tasks = {name: known.get(name, TaskInfo(name, "result", math.nan, math.nan, "")) for name in order}
        found = final(outcomes)
        found = {(task, cell): found[task, cell] for task in tasks for cell in cells if (task, cell) in found}
        samples = values(found, outcomes, about)
        searches = {task: [o for o in outcomes if o.task == task and not o.repeat] for task in tasks}
        shares = {task: importance(trials, worst(task, outcomes, about)) for task, trials in searches.items()}
        return cls(outcomes, tasks, cells, reference, found, samples, compare(samples, reference), shares)

    def on(self, task: str) -> dict[str, list[float]]:
        """The values of each cell on this task, for cells that have any."""
        return {cell: sample for (name, cell), sample in self.samples.items() if name == task and sample}

    def search(self, task: str, cell: str = "") -> list[Outcome]:
        """The trials of the search, of one cell or of all."""
        return [o for o in self.outcomes if o.task == task and not o.repeat and cell in ("", o.cell)]

    def worst(self, task: str) -> float:
        """The value that counts for a failed run of this task."""
        return worst(task, self.outcomes, list(self.about.values()))

    def repeated(self, task: str, cell: str) -> bool:
        """Whether there are values of a cell on a task, and they come from repeats."""
        return bool(self.samples.get((task, cell))) and self.final[task, cell][0].repeat
