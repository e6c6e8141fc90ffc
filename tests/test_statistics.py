"""What can be believed of a comparison: against SciPy, by hand, and over simulated studies whose truth is known."""

import math

import numpy as np
import pytest

from conveyor.compare import statistics
from conveyor.compare.outcomes import Outcome, TaskInfo
from conveyor.errors import BadInput
from tiers import quick

stats = pytest.importorskip("scipy.stats")
A, B = [0.1, 0.2, 0.4, 0.3, 0.25], [0.5, 0.45, 0.7, 0.2, 0.6]


def outcome(value, cell="lstm", task="adding", repeat=False, index=0, validation=None, **settings):
    validation = value if validation is None else validation
    return Outcome(task, cell, index, 0, repeat, settings, value, validation)


def study(random, cells=5, tasks=3, seeds=10, shift=0.0):
    """Cells that are all equal, but for the second, which is worse by `shift` standard deviations."""
    return {
        (f"task{task}", f"cell{cell}"): random.normal(loc=shift * (cell == 1), size=seeds)
        for task in range(tasks)
        for cell in range(cells)
    }


def found(comparisons):
    return any(one.differs for one in comparisons)


def test_figures_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0], "no probability is above 1"
    assert statistics.holm([]) == []
    g, around = statistics.effect([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert g == pytest.approx(0.8), "1 standard deviation, times 1 - 3 / (4 * 4 - 1)"
    assert (around.low + around.high) / 2 == pytest.approx(g)
    assert (around.high - g) / 1.96 == pytest.approx(math.sqrt(6 / 9 + 0.64 / 12))


def test_welch_is_the_formula():
    n, va, vb = len(A), np.var(A, ddof=1), np.var(B, ddof=1)
    error = va / n + vb / n
    free = error**2 / ((va / n) ** 2 / (n - 1) + (vb / n) ** 2 / (n - 1))
    t = (np.mean(A) - np.mean(B)) / math.sqrt(error)
    assert statistics.welch(A, B)[0] == pytest.approx(2 * stats.t.sf(abs(t), free))


def test_an_interval_is_scipys_and_the_same_each_time():
    expected = stats.bootstrap((A,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0))
    around = statistics.interval(A)
    assert (around.low, around.high) == tuple(expected.confidence_interval)
    assert around == statistics.interval(A)


@pytest.mark.parametrize("sample", [[], [1.0], [2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 9e9], [0.1, 0.1 + 1e-16]])
def test_an_interval_of_odd_samples(sample):
    around = statistics.interval(sample)
    if len(sample) < 2:
        assert math.isnan(around.low)
        assert math.isnan(around.high)
    else:
        assert min(sample) <= around.low <= np.mean(sample) <= around.high <= max(sample)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        ([1.0] * 5, [1.0] * 5, 1.0),
        ([1.0] * 2, [2.0] * 2, 1 / 3),  # two runs beside two others prove nothing, however constant
        ([1.0] * 10, [2.0] * 10, 2 / math.comb(20, 10)),
        ([1.0, 1.0 + 1e-9, 1.0], [2.0, 2.0, 2.0 + 1e-9], 0.1),  # nor do three
    ],
)
def test_values_that_hardly_vary_are_judged_by_permutation(ours, theirs, p):
    assert statistics.welch(ours, theirs)[0] == pytest.approx(p)
    assert statistics.welch(ours, theirs)[1], "the report says so"
    assert not math.isnan(statistics.effect(ours, theirs)[0])


def test_one_constant_cell_is_still_tested_by_welch():
    p, why = statistics.welch([1.0] * 5, B)
    assert p == pytest.approx(stats.ttest_1samp(B, 1.0).pvalue), "the other's mean is known exactly"
    assert not why


def test_too_few_runs_are_not_tested_and_do_not_count_in_the_correction():
    samples = {("t", "lstm"): A, ("t", "gru"): B, ("t", "rnn"): [0.4], ("u", "gru"): B, ("v", "lstm"): []}
    gru, rnn, lonely = statistics.compare(samples, "lstm")
    assert gru.corrected == gru.p == statistics.welch(B, A)[0]
    assert not rnn.tested
    assert "rnn has fewer than two valid runs" in rnn.why
    assert "lstm has fewer than two valid runs" in lonely.why
    assert not rnn.differs
    assert not lonely.differs


def test_a_failed_run_counts_as_chance_or_else_as_the_worst():
    runs = [outcome(0.1, repeat=True), outcome(None, repeat=True), outcome(math.inf, repeat=True), outcome(0.3)]
    chosen = statistics.final(runs)
    assert statistics.values(chosen, runs, [TaskInfo("adding", "error", 0.5, 0.0, "")]) == {
        ("adding", "lstm"): [0.1, 0.5, 0.5]
    }
    assert statistics.values(chosen, runs, []) == {("adding", "lstm"): [0.1, 0.3, 0.3]}
    lost = [outcome(None)]
    assert statistics.values(statistics.final(lost), lost, []) == {("adding", "lstm"): []}


def test_repeats_speak_for_a_cell_or_else_its_best_trial_by_validation():
    search = [outcome(0.1, validation=0.4, index=0), outcome(0.2, validation=0.3, index=1), outcome(None, index=2)]
    assert statistics.final(search) == {("adding", "lstm"): [search[1]]}
    again = outcome(0.25, repeat=True, index=1)
    assert statistics.final([*search, again]) == {("adding", "lstm"): [again]}


def test_the_reference():
    assert statistics.reference_of(["gru", "lstm"]) == "lstm"
    assert statistics.reference_of(["gru", "rnn"]) == "gru"
    assert statistics.reference_of(["gru", "lstm"], "gru") == "gru"
    assert statistics.reference_of([]) == ""
    with pytest.raises(BadInput, match="no cell gur: did you mean gru"):
        statistics.reference_of(["gru", "lstm"], "gur")


def test_the_favourite():
    odds = statistics.favourites({"a": A, "b": B, "same as a": A})
    assert sum(odds.values()) == pytest.approx(1)
    assert odds["a"] == pytest.approx(odds["same as a"], abs=0.02)
    assert odds["a"] > odds["b"]
    assert statistics.favourites({"a": [1.0, 1.0], "b": [1.0, 1.0]}) == {"a": 0.5, "b": 0.5}
    assert statistics.favourites({"a": A, "b": [0.1]}) == {}, "one run tells nothing"


def test_it_does_not_cry_wolf():
    """Over 200 studies of identical cells at most 5 % find anything.

    The rate in the long run is 3.9 % (of 4000 studies), so that another 200 would stay below 10.5 in 85 % of cases;
    these are always the same 200.
    """
    random = np.random.default_rng(0)
    alarms = sum(found(statistics.compare(study(random), "cell0")) for _ in range(200))
    assert alarms <= 10


@pytest.mark.parametrize("seeds", quick([2, 3, 5, 10], [3]))
def test_nor_where_a_run_either_learns_or_does_not(seeds):
    random = np.random.default_rng(1)

    def values():
        return np.where(random.random(seeds) < 0.2, 0.16, 0.001) + 1e-4 * random.normal(size=seeds)

    studies = [{(f"{t}", f"cell{c}"): values() for t in range(3) for c in range(5)} for _ in range(60)]
    assert sum(found(statistics.compare(one, "cell0")) for one in studies) <= 3


def test_it_finds_a_difference_of_one_standard_deviation():
    """With 10 seeds, more often than not in a study of that one comparison: 56 % by theory; and 17 seeds for 80 %."""
    random, times = np.random.default_rng(2), 400
    hits = sum(found(statistics.compare(study(random, 2, 1, 10, shift=1.0), "cell0")) for _ in range(times))
    expected = statistics.chance_to_find(1.0, seeds=10)
    assert expected == pytest.approx(0.562, abs=0.001)
    assert hits > times / 2
    assert hits / times == pytest.approx(expected, abs=3 * math.sqrt(0.25 / times))
    assert statistics.seeds_to_find(1.0) == 17


def test_among_twelve_comparisons_it_finds_less():
    """Each of three cells that are worse by one standard deviation in one of five: 10 seeds are few for that."""
    random, times = np.random.default_rng(3), 60
    compared = [one for _ in range(times) for one in statistics.compare(study(random, shift=1.0), "cell0")]
    rate = sum(one.differs for one in compared if one.cell == "cell1") / (3 * times)
    assert rate == pytest.approx(statistics.chance_to_find(1.0, seeds=10, comparisons=12), abs=0.1)
    assert statistics.seeds_to_find(1.0, comparisons=12) == 30
    assert statistics.chance_to_find(statistics.size_found(10, 12), 10, 12) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("size", "held"), [(3, 0.71), (5, 0.84), (10, 0.89)])
def test_intervals_of_few_values_are_too_short_as_said(size, held):
    random, times = np.random.default_rng(4), 300
    around = [statistics.interval(random.normal(size=size)) for _ in range(times)]
    rate = sum(one.low <= 0 <= one.high for one in around) / times
    assert rate == pytest.approx(held, abs=3 * math.sqrt(held * (1 - held) / times))


def searched(random, count=30):
    """Trials in which the learning rate decides nearly everything, on a logarithmic axis."""
    return [
        outcome(
            0.1 + 0.05 * (math.log10(lr) + 3) ** 2 + 0.001 * random.normal(),
            cell=cell,
            lr=lr,
            hidden_size=int(random.integers(16, 64)),
            optimiser=str(random.choice(["adam", "sgd"])),
            same=1,
        )
        for lr in 10 ** random.uniform(-5, -1, count)
        for cell in ("lstm", "gru")
    ]


def test_importance_finds_what_decides():
    pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    trials = searched(np.random.default_rng(5))
    shares = statistics.importance(trials, worst=1.0)
    assert set(shares) == {"lr", "hidden_size", "optimiser", "cell"}, "what never differs explains nothing"
    assert shares["lr"] > 0.6
    assert sum(shares.values()) < 1.01, "the rest they explain together"
    assert shares == statistics.importance(trials, worst=1.0), "the same each time"
    runaway = [*trials, outcome(1e12, lr=1e-3, hidden_size=20, optimiser="sgd", same=1)]
    assert statistics.importance(runaway, worst=0.3)["lr"] > 0.4, "one that ran away does not explain everything"
    assert statistics.importance(trials[:9], worst=1.0) == {}
    assert statistics.importance(trials, worst=0.0) == {}, "no run was better than chance"


def test_marginals():
    trials = [outcome(value, lr=lr) for lr, value in [(1e-4, 1.0), (1e-3, 2.0), (1e-2, 9.0), (1e-4, 3.0)]]
    trials += [outcome(None, lr=1e-2)]
    bins = statistics.marginal(trials, "lr", worst=5.0, bins=2)
    assert [(one.mean, one.count) for one in bins] == [(2.0, 2), (4.0, 3)], "none counts as worse than chance"
    assert [one.middle for one in bins] == pytest.approx([10**-3.5, 10**-2.5])
    assert statistics.marginal([], "lr", worst=1.0) == []


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(BadInput, match=r"needs scipy: pip install 'conveyor\[compare\]'"):
        statistics.welch(A, B)
