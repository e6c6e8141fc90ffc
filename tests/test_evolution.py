"""The search for cells: genomes are read, changed and written; who comes from whom; what becomes of a bad one."""

import os
import random
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import conveyor
from comparisons import children, kill, succeeds
from conveyor import zoo
from conveyor.compare.compare import LEDGER, QUESTION
from conveyor.compare.ledger import Claim, Key, Ledger
from conveyor.compare.worker import Worker
from conveyor.errors import BadInput
from conveyor.search.appraise import Appraisal
from conveyor.search.breed import Birth, Breed
from conveyor.search.genome import Genome, Node, tidy
from conveyor.search.mutate import MUTATIONS, mutate
from conveyor.search.quest import TRIED, Quest, Worth
from conveyor.search.reading import read
from conveyor.search.writing import write
from conveyor.zoo.find import find
from tolerance import KERNEL, assert_equal

READABLE = [name for name in zoo.CELLS if name not in ("lstm-depth-gated", "grid", "grid-priority", "clockwork")]
START = {name: read(zoo.CELLS[name]) for name in ("gru", "lstm", "lstm-peephole", "mut1", "mut2", "mut3")}
QUICK = Quest(tasks=("lag:5",), candidates=9, draws=1, steps=20, parameters=4_000, abreast=4)


def written(genome: Genome, folder: Path, name: str = "Mine") -> type[conveyor.Cell]:
    file = folder / f"{name.lower()}.py"
    file.write_text(write(genome, name, "A cell."))
    return find(f"{file}:{name}")


def mutants(count, seed=0):
    """So many different descendants of the start."""
    chance, found = random.Random(seed), {genome.key: genome for genome in START.values()}
    while len(found) < len(START) + count:
        child = mutate(chance.choice(list(found.values())), chance.choice(list(MUTATIONS)), chance)
        if child is not None and not child.why_not():
            found.setdefault(child.key, child)
    return list(found.values())[len(START) :]


# genomes


@pytest.mark.parametrize("name", READABLE)
def test_what_is_written_of_a_cell_is_that_cell(name, tmp_path):
    """Read again it is equal, and with the same weights it computes the same."""
    genome = read(zoo.CELLS[name])
    assert genome.why_not() == ""
    mine, cell = written(genome, tmp_path)(5, 8), zoo.CELLS[name](5, 8)
    assert read(type(mine)).key == genome.key
    for made in (mine, cell):
        for key, weight in made.double().state_dict().items():
            weight.copy_(torch.randn(weight.shape, generator=generator(key.rpartition(".")[0])))
    x, states = torch.randn(3, 5).double(), [torch.randn(3, 8).double() for _ in cell.state]
    for ours, wanted in zip(stepped(mine, x, states), stepped(cell, x, states), strict=True):
        assert_equal(ours, wanted)


def generator(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def stepped(cell, x, states):
    found = cell.step(x, *states)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("name", ["lstm-depth-gated", "grid", "clockwork"])
def test_a_cell_that_no_genome_has_is_refused(name):
    with pytest.raises(BadInput, match=r"cannot be what a search starts from: it .*; a genome has learned maps"):
        read(zoo.CELLS[name])


def test_every_mutant_is_a_cell_that_reads_as_it_was_written(tmp_path):
    found = mutants(300)
    for number, genome in enumerate(found):
        cell = written(genome, tmp_path, f"Mutant{number}")
        assert read(cell).key == genome.key, (tmp_path / f"mutant{number}.py").read_text()
    assert {one for genome in found for one in genome.states} == {"h", "C"}


@pytest.mark.parametrize("number", range(6))
def test_mutants_have_kernels_which_are_the_loop(number, tmp_path):
    genome = mutants(60, seed=1)[10 * number]
    layer = conveyor.Recurrent(written(genome, tmp_path), 3, 8).double()
    x, found = torch.randn(7, 4, 3).double(), []
    for name in ("compiled", "eager"):
        layer.zero_grad()
        with conveyor.backend(name):
            output, _ = layer(x)
            output.square().mean().backward()
        found.append([output, *(w.grad for w in layer.parameters())])
    for ours, wanted in zip(*found, strict=True):
        assert_equal(ours, wanted, table=KERNEL)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_changes_cells(name):
    chance = random.Random(name)
    made = [mutate(chance.choice(list(START.values())), name, chance) for _ in range(60)]
    keys = {genome.key for genome in made if genome is not None} - {genome.key for genome in START.values()}
    assert len(keys) > 5


def test_a_key_is_of_what_is_computed():
    x, h = Node("x", name="x"), Node("state", name="h")
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    one = [x, h, both, Node("tanh", (2,)), Node("mul", (1, 3))]
    other = [h, x, replace(both, inputs=(1, 0), weights="B"), Node("tanh", (2,)), Node("mul", (3, 0))]
    assert tidy(one, ("h",), (4,)).key == tidy(other, ("h",), (4,)).key
    assert tidy(one, ("h",), (4,)).key != tidy(one, ("h",), (3,)).key


def test_what_is_no_cell_has_a_reason():
    x, h, C = Node("x", name="x"), Node("state", name="h"), Node("state", name="C")
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    assert tidy([x, h, Node("tanh", (1,))], ("h",), (2,)).why_not() == "blind to x"
    assert tidy([x, h, Node("map", (0,), weights="A", diagonal=(False,))], ("h",), (2,)).why_not() == "not recurrent"
    twice = Node("map", (1, 1, 0), weights="A", diagonal=(False,) * 3)
    assert tidy([x, h, twice], ("h",), (2,)).why_not() == "a map reads a value twice"
    left = tidy([x, h, C, both, Node("tanh", (2,))], ("h", "C"), (3, 4))
    assert left.states == ("h",), "the output does not depend on C"
    with pytest.raises(ValueError, match="need itself"):
        tidy({0: x, 1: Node("add", (0, 2)), 2: Node("tanh", (1,))}, ("h",), (2,))


# who comes from whom


def test_births_are_the_same_whoever_computes_them():
    worths = {n: random.Random(n).random() for n in range(40)}
    one, other = (Breed(START, abreast=4, seed=7) for _ in range(2))
    wanted = [one.birth(n, worths) for n in range(40)]
    late = {n: worth for n, worth in worths.items() if n < 40 - 4 + 1 - 1 + 1}
    assert other.birth(39, late) == wanted[39]
    assert other.births == wanted
    assert len({birth.genome.key for birth in wanted}) == 40
    for birth in wanted[len(START) :]:
        assert birth.parent < max(len(START), birth.number - 3)
    assert Breed(START, abreast=4, seed=8).birth(39, worths) != wanted[39]


def test_candidates_are_ready_when_their_elders_are_known():
    breed = Breed(START, abreast=4, seed=0)
    assert breed.ready(0) == 1, "the GRU goes before all"
    assert breed.ready(1) == breed.ready(5) == len(START) == 6
    for known in range(6, 20):
        last = breed.ready(known) - 1
        assert breed.elders(last) <= known < breed.elders(last + 1)


# what a candidate is worth


def appraised(genome, folder, quest=QUICK, reference=None):
    torch.set_num_threads(1)
    settings = {"born": Birth(0, genome), "reference": reference or {}}
    claim = Claim(0, "search", "candidates", Key(0, False), 0, settings, 0)
    work = Appraisal(claim, quest, folder)
    work.own.mkdir(parents=True)
    return work.failed("").__dict__ | work.appraised()


def test_a_good_cell_is_tried_on_every_task(tmp_path):
    found = appraised(START["gru"], tmp_path)
    assert (found["fate"], found["compiled"]) == (TRIED, True)
    assert found["worth"] == 1
    assert set(found["gains"]) == set(found["tests"]) == {"lag:5"}
    assert found["parameters"] == pytest.approx(QUICK.parameters, rel=0.2)


def test_bad_cells_come_to_a_named_end(tmp_path):
    x, h = Node("x", name="x"), Node("state", name="h")
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    steep = [x, h, both, Node("const", value=1e9), Node("mul", (2, 3)), Node("mul", (4, 4)), Node("add", (5, 1))]
    zero = [x, h, both, Node("sub", (2, 2)), Node("mul", (3, 1))]
    deaf = [x, h, Node("map", (0,), weights="A", diagonal=(False,)), Node("relu", (1,)), Node("mul", (2, 3))]
    for name, nodes, end in [("steep", steep, 6), ("zero", zero, 4), ("deaf", deaf, 4)]:
        found = appraised(tidy(nodes, ("h",), (end,)), tmp_path / name)
        assert found["fate"] == {"steep": "explodes", "zero": "constant", "deaf": "constant"}[name]
        assert found["worth"] == 0
    little = [x, h, Node("map", (0,), weights="A", diagonal=(False,)), Node("const", value=1e-3), Node("mul", (1, 3))]
    forgets = tidy([*little, Node("add", (2, 4))], ("h",), (5,))
    assert appraised(forgets, tmp_path / "forgets")["fate"] == "does not remember"


def test_a_cell_much_worse_than_the_gru_is_given_up(tmp_path):
    found = appraised(START["gru"], tmp_path, reference={"lag:5": 100.0})
    assert (found["fate"], found["worth"]) == ("poor on lag:5", 0)


def test_a_candidate_that_ends_its_process_has_crashed(tmp_path, monkeypatch):
    monkeypatch.setattr(Appraisal, "appraised", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    quest = Quest(tasks=("lag:5",), start=("gru",), candidates=1)
    ledger = Ledger(f"sqlite:///{tmp_path / LEDGER}", quest)
    ledger.open()
    Worker(ledger, partial(Appraisal, quest=quest, folder=tmp_path)).run()
    (one,) = ledger.outcomes()
    assert one.fate.startswith("crashed: its process ended 3 times")


# the command


def begin(folder, *words):
    asked = "search --tasks lag:5 --start lstm --candidates 5 --draws 1 --steps 20 --parameters 4000 --workers 2"
    return subprocess.Popen(
        [sys.executable, "-m", "conveyor", *asked.split(), "-o", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def found(folder: Path) -> list[Worth]:
    """What came out, without what depends on the machine."""
    book = Ledger(f"sqlite:///{folder / LEDGER}", Quest.of_json((folder / QUESTION).read_text()))
    book.open()
    return [Worth(**vars(one) | {"seconds": 0.0, "memory": 0}) for one in book.outcomes()]


def test_a_search_that_is_killed_goes_on_and_finds_the_same(tmp_path):
    said = succeeds(begin(tmp_path / "whole"))
    whole = found(tmp_path / "whole")
    assert [one.number for one in whole] == list(range(5))
    best = max(whole, key=lambda one: (one.worth, -one.number))
    assert f"class {best.name}(Cell):" in said
    for one in whole:
        cell = find(f"{tmp_path / 'whole' / one.file}:{one.name}")
        assert len(read(cell).nodes) == one.nodes
    report = (tmp_path / "whole" / "search.md").read_text()
    assert "```python" in report
    assert "flowchart BT" in report
    assert len((tmp_path / "whole" / "candidates.csv").read_text().splitlines()) == 6

    process = begin(tmp_path / "cut")
    while not (tmp_path / "cut" / "runs" / "2").exists():
        assert process.poll() is None
        time.sleep(0.05)
    kill([process.pid, *children(process.pid)])
    process.communicate()
    succeeds(begin(tmp_path / "cut"))
    assert found(tmp_path / "cut") == whole


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tasks": ("nothing",)}, "no task is called nothing"),
        ({"start": ("clockwork",)}, "ClockworkRNN cannot be what a search starts from"),
        ({"start": ("lstm", "lstm")}, "names lstm twice"),
        ({"candidates": 3}, "--candidates must be at least 5, the cells of --start, not 3"),
        ({"draws": 0}, "--draws must be at least 1"),
    ],
)
def test_what_cannot_be_sought_is_refused(wrong, said):
    with pytest.raises(BadInput, match=said):
        Quest(**wrong)
