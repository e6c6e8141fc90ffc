"""The same work for many cells: what is asked, who does it, and that each trial ends once, whatever is killed."""

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from sqlalchemy.exc import StatementError

from comparisons import (
    SMALL,
    asked,
    begin,
    children,
    claimed_at_once,
    done,
    failed,
    kill,
    ledger,
    succeeds,
    until,
    values,
    work,
)
from conveyor import zoo
from conveyor.compare import problems, training, trial
from conveyor.compare.compare import LEDGER, best, check_folder, compare
from conveyor.compare.ledger import Claim, Counts, Key, Ledger
from conveyor.compare.study import RANGES, Choice, ComparisonConfig
from conveyor.compare.trial import Network, count, units, units_for
from conveyor.errors import BadInput
from conveyor.tasks import Adding
from conveyor.tasks.speakers import Speakers
from conveyor.training.train import Diverged
from test_speech import write_vowels
from tiers import slow

# what is asked


@pytest.mark.parametrize("name", problems.PROBLEMS)
def test_every_task_can_be_learnt_in_a_step(name, monkeypatch, tmp_path):
    if name == "speakers":  # its files are in a package that the tests do without
        write_vowels(tmp_path)
        there = replace(problems.PROBLEMS[name], make=lambda: Speakers(tmp_path))
        monkeypatch.setitem(problems.PROBLEMS, name, there)
    task, about = problems.find(name), problems.about(name)
    batch = task.draw(3, torch.Generator().manual_seed(0))
    network = Network(zoo.GRU, task, 4)
    task.loss(network(batch.inputs, batch.lengths), batch).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert (about.metric, about.chance) == (task.metric, task.chance)
    assert about.text


def test_a_number_behind_a_colon_is_the_length():
    assert problems.find("adding:30").steps == 30
    assert problems.find("anbn:4").most == 4
    for name, said in [("adding:x", "adding:100, not adding:x"), ("reber:3", "takes no number"), ("ading", "adding?")]:
        with pytest.raises(BadInput, match=said):
            problems.find(name)


def test_configurations_are_of_seed_and_index_alone():
    config, longer = ComparisonConfig(trials=3), ComparisonConfig(trials=30, tasks=("lag",), cells=("gru",))
    assert [config.hyperparameters(i) for i in range(3)] == [longer.hyperparameters(i) for i in range(3)]
    assert config.hyperparameters(0) != replace(config, seed=1).hyperparameters(0)
    drawn = [longer.hyperparameters(i) for i in range(300)]
    for name, one in RANGES.items():
        values = sorted(configuration[name] for configuration in drawn)
        if isinstance(one, Choice):
            assert all(abs(values.count(value) - 300 / len(one.values)) < 45 for value in one.values)
            continue
        assert one.low <= values[0] < values[-1] <= one.high
        middle = (one.low * one.high) ** 0.5 if one.log else (one.low + one.high) / 2
        assert abs(sum(value < middle for value in values) - 150) < 45, "half of them are below the middle"


def test_ranges_can_be_given():
    config = ComparisonConfig(ranges=("lr=0.001:0.002", "hidden_size=8", "optimiser=sgd"))
    for i in range(20):
        configuration = config.hyperparameters(i)
        assert 0.001 <= configuration["lr"] <= 0.002
        assert configuration["hidden_size"] == 8
        assert configuration["optimiser"] == "sgd"
        assert set(configuration) == set(RANGES)
    assert ComparisonConfig.of_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ranges": ("lr=0.1:0.001",)}, "is reversed: write lr=0.001:0.1"),
        ({"ranges": ("lr=0:0.1",)}, "it is drawn log-uniformly, so it must be greater than 0"),
        ({"ranges": ("rl=0:0.1",)}, "no hyperparameter is called rl; there are lr, hidden_size"),
        ({"ranges": ("lr",)}, "give one or two numbers, as in lr=0.001:0.1"),
        ({"ranges": ("hidden_size=1.5:3",)}, "give one or two whole numbers"),
        ({"ranges": ("hidden_size=8",), "parameters": 99}, "no hyperparameter is called hidden_size"),
        ({"trials": 10**9}, "more than 100,000 trials in total"),
        ({"parameters": 10**12}, "--parameters must be at most"),
        ({"ranges": ("lr=nan",)}, "lr=nan"),
        ({"ranges": ("dropout=0:1.5",)}, "--range dropout=0:1.5: dropout must be at most 1"),
        ({"ranges": ("optimiser=adam",)}, "--range optimiser=adam: optimiser cannot be 'adam'; did you mean adamw"),
        ({"tasks": ("nothing",)}, "no task is called nothing"),
        ({"cells": ("lstn",)}, "did you mean lstm"),
        ({"cells": ("lstm", "lstm")}, "names lstm twice"),
        ({"tasks": ()}, "--tasks is empty"),
        ({"trials": 0}, "--trials must be at least 1, not 0"),
        ({"seeds": -1}, "--seeds must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong, said):
    with pytest.raises(BadInput, match=said):
        ComparisonConfig(**wrong)


@pytest.mark.parametrize("name", zoo.CELLS)
def test_every_cell_can_have_about_as_many_parameters(name):
    """Nearer than one unit more or less would be."""
    cell, task = zoo.CELLS[name], Adding(24)
    size = units_for(cell, task, 5000)
    found = count(Network(cell, task, size))
    step = count(Network(cell, task, units(cell, size + 1))) - found
    assert abs(found - 5000) <= step


# who does it


def test_the_search_goes_first_and_the_repeats_take_the_best(tmp_path):
    book = ledger(tmp_path)
    claims = []
    while claim := book.claim():
        claims.append(claim)
        book.end(claim, done(claim, [0.4, 0.3][claim.key.index] if not claim.key.repeat else 0.1))
    assert [c.key.repeat for c in claims] == [False] * 8 + [True] * 4
    assert [c.key.index for c in claims[:8]] == [0] * 4 + [1] * 4
    assert len({(c.task, c.cell) for c in claims[:4]}) == 4
    for claim in claims:
        best = SMALL.hyperparameters(1 if claim.key.repeat else claim.key.index)
        assert (claim.settings, claim.seed) == (best, 1 if claim.key.repeat else 0)
    assert book.counts().ended
    assert len(book.outcomes()) == 12


def test_no_trial_is_claimed_twice(tmp_path):
    """Three processes at once, all of which write the trials down, too."""
    claims = claimed_at_once(multiprocessing.get_context("spawn"), 3, tmp_path, SMALL)
    assert set(claims.values()) == {1}
    book = ledger(tmp_path)
    assert len(claims) <= 12  # a worker may find only repeats whose search another has not ended
    while claim := book.claim():
        book.end(claim, done(claim))
    ended = Counter((o.task, o.cell, o.index, o.repeat) for o in book.outcomes())
    assert len(ended) == 12
    assert set(ended.values()) == {1}


def test_a_trial_whose_worker_is_gone_waits_again_and_what_it_says_later_does_not_count(tmp_path, monkeypatch):
    book = ledger(tmp_path)
    claim = book.claim()
    assert book.recover() == 0, "its worker is this process"
    book.run("UPDATE conveyor_trials SET owner = 'elsewhere:1:1' WHERE name = :name", name=claim.trial)
    assert book.recover() == 0, "the clock of its machine may be wrong"
    monkeypatch.setattr("conveyor.compare.ledger.GRACE", 0.0)
    time.sleep(0.01)
    assert book.recover() == 1
    again = book.claim()
    assert (again.task, again.cell, again.key, again.losses) == (claim.task, claim.cell, claim.key, 1)
    assert not book.end(claim, done(claim, 0.9))
    assert book.end(again, done(again, 0.2))
    assert [o.value for o in book.outcomes()] == [0.2]


def test_a_trial_that_is_released_is_not_lost(tmp_path):
    book = ledger(tmp_path)
    claim = book.claim()
    before = book.counts()
    book.release(claim)
    assert book.claim().losses == 0
    assert book.counts() == before


def test_a_ledger_is_written_down_at_once_or_not_at_all(tmp_path, monkeypatch):
    """As where a process dies between the study and its trials."""
    with monkeypatch.context() as patched:
        broken = {"lag:5/gru/repeat-0": {}}  # the last of them
        patched.setattr("conveyor.compare.ledger.old_ledger", lambda _: (None, broken))
        with pytest.raises(StatementError, match="'state'"):
            ledger(tmp_path)
    assert ledger(tmp_path).counts().waiting == 12


OLD = """
CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name TEXT);
CREATE TABLE study_user_attributes (study_id INTEGER, key TEXT, value_json TEXT);
CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, study_id INTEGER, state TEXT);
CREATE TABLE trial_user_attributes (trial_id INTEGER, key TEXT, value_json TEXT);
INSERT INTO studies VALUES (1, 'adding:24/rnn'), (2, 'lag:5/gru');
INSERT INTO trials VALUES (1, 2, 'PRUNED'), (2, 1, 'RUNNING'), (3, 2, 'COMPLETE'), (4, 2, 'FAIL'), (5, 2, 'COMPLETE');
"""


def test_a_ledger_that_optuna_kept_goes_on(tmp_path):
    """That of conveyor 0.1.0. Trial 1 was lost, 2 was running, 3 and 4 have ended, and 5 was written down twice."""
    claim = Claim("", "lag:5", "gru", Key(0, False), 0, {"lr": 0.1}, 0)
    ended = {3: done(claim), 4: failed(replace(claim, key=Key(1, False)), "it diverged"), 5: done(claim, 0.9)}
    with sqlite3.connect(tmp_path / LEDGER) as old:
        old.executescript(OLD)
        for study in (1, 2):
            old.execute(
                "INSERT INTO study_user_attributes VALUES (?, 'question', ?)", (study, json.dumps(SMALL.to_json()))
            )
        for trial, index in enumerate([0, 0, 0, 1, 0], start=1):
            key = json.dumps({"index": index, "repeat": False, "losses": 0})
            old.execute("INSERT INTO trial_user_attributes VALUES (?, 'trial', ?)", (trial, key))
        for trial, outcome in ended.items():
            old.execute(
                "INSERT INTO trial_user_attributes VALUES (?, 'outcome', ?)", (trial, json.dumps(asdict(outcome)))
            )
    with pytest.raises(BadInput, match="already holds another comparison or search"):
        ledger(tmp_path, replace(SMALL, steps=21))
    for _ in range(2):
        book = ledger(tmp_path)
        assert book.outcomes() == [ended[3], ended[4]]
        assert book.counts() == Counts(waiting=10, complete=1, failed=1)


def test_a_claim_whose_answer_was_lost_is_made(tmp_path):
    """The database has written it down, and went away before it said so: the same is tried again."""
    book = ledger(tmp_path)
    entry = book.entries()[0]
    assert book.take(entry)
    assert book.take(entry)
    other = ledger(tmp_path)
    other.owner = "elsewhere:1:1"
    assert not other.take(entry)
    assert not other.take(replace(book.entries()[1], losses=1)), "who has read an older entry is too late"


def test_where_the_whole_search_fails_the_repeats_do(tmp_path):
    book = ledger(tmp_path, replace(SMALL, tasks=("lag:5",), cells=("gru",)))
    while claim := book.claim():
        assert not claim.key.repeat
        book.end(claim, failed(claim, "it diverged"))
    assert [o.error for o in book.outcomes()] == ["it diverged"] * 2 + ["all trials of the search failed"]


def test_another_study_is_refused(tmp_path):
    ledger(tmp_path)
    with pytest.raises(BadInput, match="already holds another comparison or search"):
        ledger(tmp_path, replace(SMALL, steps=21))
    (tmp_path / "report").mkdir()
    asked(tmp_path / "report", SMALL)
    check_folder(tmp_path / "report", SMALL)
    with pytest.raises(BadInput, match="holds another comparison or search, which differs in steps: change it back"):
        check_folder(tmp_path / "report", replace(SMALL, steps=21))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="is not empty and holds no comparison or search"):
        check_folder(tmp_path / "mine", SMALL)


def test_a_file_that_changed_makes_another_study(tmp_path):
    cell, task, data = (tmp_path / name for name in ("mine.py", "mine.toml", "mine.txt"))
    cell.write_text("import conveyor\nclass Mine(conveyor.zoo.RNN): pass\n")
    task.write_text('[task]\ntext = "mine.txt"\nlength = 8\n')
    data.write_text("some words " * 200)
    mine = replace(SMALL, cells=(f"{cell}:Mine",), tasks=(str(task),))
    (tmp_path / "report").mkdir()
    asked(tmp_path / "report", mine)
    check_folder(tmp_path / "report", mine)
    for file, name in [(cell, "mine.py:Mine"), (task, "mine.toml"), (data, "mine.toml")]:
        before = file.read_text()
        file.write_text(before + ("\n" if file != data else "more words"))
        with pytest.raises(BadInput, match=f"another comparison or search, which differs in the file of .*{name}"):
            check_folder(tmp_path / "report", mine)
        file.write_text(before)
    check_folder(tmp_path / "report", mine)


def test_a_database_that_is_away_is_waited_for_and_then_named(monkeypatch):
    monkeypatch.setattr("conveyor.compare.ledger.PATIENCE", 0.3)
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"the database sqlite:////nowhere.* cannot be reached: .*nothing is lost"):
        Ledger("sqlite:////nowhere/at/all.db", SMALL)
    assert time.monotonic() - began >= 0.3
    with pytest.raises(BadInput, match="cannot be used"):
        Ledger("no database", SMALL)


# the trainings


def test_a_worker_does_every_trial(tmp_path):
    """One that diverges, one whose process ends by itself, and the others."""
    torch.set_num_threads(1)
    config = replace(SMALL, tasks=("lag:5",), cells=("gru",), seeds=2)
    book = ledger(tmp_path, config)
    work(tmp_path, book)
    outcomes = book.outcomes()
    assert [(o.index, o.repeat, o.seed) for o in outcomes] == [(0, False, 0), (1, False, 0), (0, True, 1), (1, True, 2)]
    best = min(outcomes[:2], key=lambda o: o.validation)
    for one in outcomes:
        assert one.error == ""
        assert 0 <= one.value <= 1
        assert one.parameters > 0
        assert one.memory > 2**20
        assert one.seconds > 0
        assert [step for step, _ in one.curve] == list(range(2, 21, 2))
        assert one.validation == min(value for _, value in one.curve)
        figures = json.loads((tmp_path / one.folder / "results" / "figures.json").read_text())
        assert figures["test"] == one.value
        if one.repeat:
            assert one.settings == best.settings


def test_a_trial_that_diverges_fails_and_says_why(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(
        trial.Trial, "loss", lambda self, _: (sum(p.sum() for p in self.model.parameters()) * float("nan"), 1)
    )
    book = ledger(tmp_path, replace(SMALL, tasks=("lag:5",), cells=("gru",), trials=1, seeds=0))
    work(tmp_path, book)
    (one,) = book.outcomes()
    assert one.failed
    assert "the loss was nan" in one.error


def test_outputs_that_are_no_numbers_are_no_result():
    """By a metric that counts what is wrong they could be right."""
    made = trial.Trial(trial.TrialSettings(task="agreement", cell="rnn", hidden_size=4))
    made.model.readout.bias.data.fill_(float("nan"))
    with pytest.raises(Diverged, match="an output is not finite"):
        made.measure()
    assert made.task.measure(made.model(made.test.inputs, made.test.lengths), made.test) == 1


def test_a_cell_of_ones_own_that_fails_is_told_before_anything_starts(tmp_path):
    file = tmp_path / "mine.py"
    step = "    def step(self, x, h):\n        raise ValueError('my bug')"
    file.write_text(f"import conveyor\nclass Mine(conveyor.zoo.RNN):\n{step}\n")
    config = replace(SMALL, cells=("gru", f"{file}:Mine"))
    with pytest.raises(BadInput, match=r"mine.py:Mine fails on adding:24: .*my bug.* \(line 4\)"):
        compare(config, tmp_path / "report", None, 1, None, lambda *_: None)
    assert not (tmp_path / "report").exists()


def test_a_cell_that_fails_later_is_not_tried_again_and_says_why(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trial.Trial, "loss", lambda *_: {}["nothing"])
    book = ledger(tmp_path, replace(SMALL, tasks=("lag:5",), cells=("gru",), trials=1, seeds=0))
    work(tmp_path, book)
    (one,) = book.outcomes()
    assert one.error == "KeyError: 'nothing'"
    assert "KeyError" in (tmp_path / one.folder / "log.txt").read_text()
    assert best([one]) == "best on validation: none yet"


def test_a_trial_whose_process_ends_is_tried_again_and_then_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "teach", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    book = ledger(tmp_path, replace(SMALL, tasks=("lag:5",), cells=("gru",), trials=1, seeds=0))
    work(tmp_path, book)
    (one,) = book.outcomes()
    assert one.error == "its process died 3 times, the last time with exit status -9"


def disturbed(test):
    """In one process, which makes what these tests compare with."""
    return slow(pytest.mark.xdist_group("disturbed")(test))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "report"
    process = begin(folder)
    succeeds(process)
    return folder


@disturbed
def test_a_comparison_leaves_a_report(undisturbed):
    assert len(values(undisturbed)) == 12
    for name in ("report.html", "report.md", "results.csv"):
        assert (undisturbed / name).stat().st_size > 100
    assert "adding:24" in (undisturbed / "report.md").read_text()


@disturbed
@pytest.mark.parametrize("what", ["a worker", "everything"])
def test_whatever_is_killed_every_trial_ends_once_with_the_same_results(undisturbed, tmp_path, what):
    folder, chance = tmp_path / "report", random.Random(what)
    process = begin(folder)
    until(folder, process, chance.randint(1, 7))
    time.sleep(chance.uniform(0, 1))
    workers = children(process.pid)
    if what == "a worker":
        kill(workers[:1])
    else:
        os.kill(process.pid, signal.SIGKILL)
        kill(workers[1:])  # one lives on, without a parent
        process.communicate(timeout=60)  # it saves what it is at, and ends
        process = begin(folder)
    succeeds(process)
    assert values(folder) == values(undisturbed)


@disturbed
def test_ctrl_c_saves_and_the_same_command_goes_on(undisturbed, tmp_path):
    folder = tmp_path / "report"
    process = begin(folder)
    until(folder, process, 3)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "resume with the same command" in said
    assert "Traceback" not in said
    process = begin(folder)
    succeeds(process)
    assert values(folder) == values(undisturbed)
