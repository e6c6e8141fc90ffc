"""The search for cells: genomes are read, changed and written; who comes from whom; how bad ones end."""

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
from conveyor.cell import Affine
from conveyor.compare.compare import CONFIG, LEDGER
from conveyor.compare.ledger import Claim, Key, Ledger
from conveyor.compare.worker import Worker, start
from conveyor.errors import BadInput
from conveyor.search import report
from conveyor.search.config import EVALUATED, MIN_GAIN, Outcome, SearchConfig
from conveyor.search.evaluate import Evaluation
from conveyor.search.genome import Genome, Node, canonicalise
from conveyor.search.mutate import MUTATIONS, mutate
from conveyor.search.population import Candidate, Population
from conveyor.search.reading import read
from conveyor.search.search import check
from conveyor.search.writing import write
from conveyor.zoo.find import find
from tiers import slow
from tolerance import KERNEL, assert_equal

READABLE = [name for name in zoo.CELLS if name not in ("lstm-depth-gated", "grid", "grid-priority", "clockwork")]
START = {name: read(zoo.CELLS[name]) for name in ("gru", "lstm", "lstm-peephole", "mut1", "mut2", "mut3")}
EXAMPLES = int(os.environ.get("EXAMPLES", 100))
QUICK = SearchConfig(tasks=("lag:5",), candidates=9, draws=1, steps=20, parameters=4_000, abreast=4)


def written(genome: Genome, folder: Path, name: str = "Mine") -> type[conveyor.Cell]:
    file = folder / f"{name.lower()}.py"
    file.write_text(write(genome, name, "A cell."))
    return find(f"{file}:{name}")


def mutants(count, seed=0):
    """So many different descendants of the start."""
    chance, found = random.Random(seed), {genome.key: genome for genome in START.values()}
    while len(found) < len(START) + count:
        child = mutate(chance.choice(list(found.values())), chance.choice(list(MUTATIONS)), chance)
        if child is not None and not child.invalid_reason():
            found.setdefault(child.key, child)
    return list(found.values())[len(START) :]


# genomes


@pytest.mark.parametrize("name", READABLE)
def test_what_is_written_of_a_cell_is_that_cell(name, tmp_path):
    """Read again it is equal, and with the same weights it computes the same."""
    genome = read(zoo.CELLS[name])
    assert genome.invalid_reason() == ""
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


def computed(genome, cell, x, states):
    """What a step gives, by the genome alone."""
    known = {"x": x, **dict(zip(genome.states, states, strict=True))}
    attributes = dict(zip(genome.maps(), [m for m in cell.modules() if isinstance(m, Affine)], strict=True))
    functions = {name: getattr(torch, name) for name in ("sigmoid", "tanh", "relu", "neg", "add", "sub", "mul")}
    values = []
    for node in genome.nodes:
        inputs = [values[i] for i in node.inputs]
        if node.op == "map":
            made = attributes[node.weights]
            weights = [weight for name, weight in made.named_parameters() if name != "bias"]
            total = sum(v @ w.T if w.dim() == 2 else v * w for v, w in zip(inputs, weights, strict=True))
            values.append(total + made.bias if node.bias else total)
        elif node.op in functions:
            values.append(functions[node.op](*inputs))
        else:
            values.append(torch.tensor(node.value).double() if node.op == "const" else known[node.name])
    return [values[end] for end in genome.updates]


@pytest.mark.parametrize("name", ["lstm-depth-gated", "grid", "clockwork"])
def test_a_cell_that_no_genome_has_is_refused(name):
    with pytest.raises(BadInput, match=r"a search cannot start from \w+: .*; a genome may contain learned maps"):
        read(zoo.CELLS[name])


def test_every_mutant_is_written_as_the_cell_that_it_is(tmp_path):
    """Its step computes what its graph says, and reads as it was written."""
    torch.manual_seed(0)
    found = mutants(EXAMPLES)
    for number, genome in enumerate(found):
        kind = written(genome, tmp_path, f"Mutant{number}")
        source = (tmp_path / f"mutant{number}.py").read_text()
        cell = kind(3, 8).double()
        x, states = torch.randn(2, 3).double(), [torch.randn(2, 8).double() for _ in genome.states]
        for ours, wanted in zip(stepped(cell, x, states), computed(genome, cell, x, states), strict=True):
            assert_equal(ours, wanted, source)
        if number % 4 == 0:
            assert read(kind).key == genome.key, source
    assert {one for genome in found for one in genome.states} == {"h", "C"}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_smallest_cells_can_be_changed_or_not(name):
    x, h = Node("x", name="x"), Node("state", name="h")
    deaf = Node("map", (0,), weights="A", diagonal=(False,))
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    for nodes, end in [([h], 0), ([x, deaf], 1), ([x, h, both], 2)]:
        for seed in range(200):
            mutate(canonicalise(nodes, ("h",), (end,)), name, random.Random(seed))


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
    assert canonicalise(one, ("h",), (4,)).key == canonicalise(other, ("h",), (4,)).key
    assert canonicalise(one, ("h",), (4,)).key != canonicalise(one, ("h",), (3,)).key


def test_what_is_no_cell_has_a_reason():
    x, h, C = Node("x", name="x"), Node("state", name="h"), Node("state", name="C")
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    assert canonicalise([x, h, Node("tanh", (1,))], ("h",), (2,)).invalid_reason() == "blind to x"
    of_x = canonicalise([x, h, Node("map", (0,), weights="A", diagonal=(False,))], ("h",), (2,))
    assert of_x.invalid_reason() == "not recurrent"
    twice = Node("map", (1, 1, 0), weights="A", diagonal=(False,) * 3)
    assert canonicalise([x, h, twice], ("h",), (2,)).invalid_reason() == "a map reads a value twice"
    thin = Node("map", (0, 1), weights="A", diagonal=(True, False))
    assert canonicalise([x, h, thin], ("h",), (2,)).invalid_reason() == "a map reads x where it cannot"
    turned = [x, h, both, Node("map", (2, 0), weights="A", diagonal=(False, False))]
    assert canonicalise(turned, ("h",), (3,)).invalid_reason() == "a map reads x where it cannot"
    left = canonicalise([x, h, C, both, Node("tanh", (2,))], ("h", "C"), (3, 4))
    assert left.states == ("h",), "the output does not depend on C"
    with pytest.raises(ValueError, match="depends on itself"):
        canonicalise({0: x, 1: Node("add", (0, 2)), 2: Node("tanh", (1,))}, ("h",), (2,))


# who comes from whom


def test_births_are_the_same_whoever_computes_them():
    fitness = {n: random.Random(n).random() for n in range(40)}
    one, other = (Population(START, abreast=4, seed=7) for _ in range(2))
    wanted = [one.candidate(n, fitness) for n in range(40)]
    late = {n: value for n, value in fitness.items() if n < 36}
    assert other.candidate(39, late) == wanted[39]
    assert other.candidates == wanted
    assert len({candidate.genome.key for candidate in wanted}) == 40
    for candidate in wanted[len(START) :]:
        assert candidate.parent < max(len(START), candidate.number - 3)
    assert Population(START, abreast=4, seed=8).candidate(39, fitness) != wanted[39]


def test_candidates_are_ready_when_their_elders_are_known():
    population = Population(START, abreast=4, seed=0)
    assert population.ready(0) == 1, "the GRU goes before all"
    assert population.ready(1) == population.ready(5) == len(START) == 6
    for known in range(6, 20):
        last = population.ready(known) - 1
        assert population.parent_count(last) <= known < population.parent_count(last + 1)


# the fitness of a candidate


def evaluation(genome, folder, config=QUICK, reference=None, number=0):
    torch.set_num_threads(1)
    settings = {"candidate": Candidate(number, genome, "gru"), "reference": reference or {}}
    return Evaluation(Claim(0, "search", "candidates", Key(number, False), 0, settings, 0), config, folder)


def evaluated(*given, **named):
    work = evaluation(*given, **named)
    work.run_folder.mkdir(parents=True)
    return vars(work.failed("")) | work.evaluate()


@slow
def test_a_candidate_is_worth_the_least_of_what_it_gains_by_the_gru(tmp_path):
    config = replace(QUICK, tasks=("recall:1", "lag:5"), steps=60)
    gru = evaluated(START["gru"], tmp_path / "gru", config)
    assert (gru["status"], gru["compiled"], gru["fitness"]) == (EVALUATED, True, 1)
    assert gru["parameters"] == pytest.approx(config.parameters, rel=0.2)
    assert gru["gains"]["recall:1"] > MIN_GAIN
    known = {"recall:1": gru["gains"]["recall:1"] / 0.8, "lag:5": 0.05}
    other = evaluated(START["gru"], tmp_path / "other", config, known, number=1)
    assert other["gains"] == gru["gains"]
    assert other["fitness"] == pytest.approx(0.8), "a task on which the GRU learns nothing is ignored"
    poor = evaluated(START["gru"], tmp_path / "poor", config, {"recall:1": 100.0}, number=1)
    assert (poor["status"], poor["fitness"], list(poor["gains"])) == ("poor on recall:1", 0, ["recall:1"])


def test_bad_cells_come_to_a_named_end(tmp_path):
    x, h = Node("x", name="x"), Node("state", name="h")
    both = Node("map", (0, 1), weights="A", diagonal=(False, False))
    steep = [x, h, both, Node("const", value=1e9), Node("mul", (2, 3)), Node("mul", (4, 4)), Node("add", (5, 1))]
    zero = [x, h, both, Node("sub", (2, 2)), Node("mul", (3, 1))]
    deaf = [x, h, Node("map", (0,), weights="A", diagonal=(False,)), Node("relu", (1,)), Node("mul", (2, 3))]
    for name, nodes, end in [("steep", steep, 6), ("zero", zero, 4), ("deaf", deaf, 4)]:
        found = evaluated(canonicalise(nodes, ("h",), (end,)), tmp_path / name)
        assert found["status"] == {"steep": "explodes", "zero": "constant", "deaf": "constant"}[name]
        assert found["fitness"] == 0
    little = [x, h, Node("map", (0,), weights="A", diagonal=(False,)), Node("const", value=1e-3), Node("mul", (1, 3))]
    forgets = canonicalise([*little, Node("add", (2, 4))], ("h",), (5,))
    assert evaluated(forgets, tmp_path / "forgets")["status"] == "does not remember"


def test_what_goes_wrong_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluation, "check", lambda _: torch.zeros(2) @ torch.zeros(3))
    work = evaluation(START["gru"], tmp_path)
    process = start(work.do)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert work.outcome(0, True).status.startswith("crashed: RuntimeError: inconsistent tensor size")


def test_a_candidate_that_ends_its_process_has_crashed(tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluation, "evaluate", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    config = SearchConfig(tasks=("lag:5",), start=("gru",), candidates=1)
    ledger = Ledger(f"sqlite:///{tmp_path / LEDGER}", config)
    Worker(ledger, partial(Evaluation, config=config, folder=tmp_path)).run()
    (one,) = ledger.outcomes()
    assert one.status.startswith("crashed: its process died 3 times")


# the command


def searches(test):
    """In one process, which makes what these tests compare with."""
    return slow(pytest.mark.xdist_group("searches")(test))


def begin(folder, *words):
    asked = "search --tasks recall:1 --start lstm --candidates 7 --draws 1 --steps 60 --parameters 3000 --abreast 2"
    return subprocess.Popen(
        [sys.executable, "-m", "conveyor", *asked.split(), "--workers", "2", "-o", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def found(folder: Path) -> list[Outcome]:
    """What came out, without what depends on the machine."""
    book = Ledger(f"sqlite:///{folder / LEDGER}", SearchConfig.of_json((folder / CONFIG).read_text()))
    return [Outcome(**vars(one) | {"seconds": 0.0, "memory": 0}) for one in book.outcomes()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nobody disturbed: its folder, and what it said."""
    folder = tmp_path_factory.mktemp("whole") / "search"
    return folder, succeeds(begin(folder))


@searches
def test_a_search_prints_the_best_and_leaves_a_report(whole):
    folder, said = whole
    outcomes = found(folder)
    assert [one.number for one in outcomes] == list(range(7))
    assert [one.parent for one in outcomes[:2]] == [None, None]
    assert outcomes[0].fitness == 1
    best = max(outcomes, key=lambda one: (one.fitness, -one.number))
    assert f"class Candidate{best.number}(Cell):" in said
    for one in outcomes:
        if one.status == EVALUATED:
            cell = find(f"{folder}/cells/candidate_{one.number}.py:Candidate{one.number}")
            assert read(cell).key == one.key
    text = (folder / "search.md").read_text()
    for part in ("```python", "flowchart BT", f"candidate_{best.number}.py:Candidate{best.number} --tasks recall:1"):
        assert part in text
    assert len((folder / "candidates.csv").read_text().splitlines()) == 8


@searches
def test_a_search_that_is_killed_goes_on_and_finds_the_same(whole, tmp_path):
    process = begin(tmp_path / "cut")
    while not (tmp_path / "cut" / "runs" / "3").exists():
        assert process.poll() is None
        time.sleep(0.05)
    kill([process.pid, *children(process.pid)])
    process.communicate()
    succeeds(begin(tmp_path / "cut"))
    assert found(tmp_path / "cut") == found(whole[0])


@searches
def test_another_machine_writes_the_report_from_the_ledger(whole, tmp_path):
    config = SearchConfig.of_json((whole[0] / CONFIG).read_text())
    book = Ledger(f"sqlite:///{whole[0] / LEDGER}", config)
    report.write(tmp_path, config, book.outcomes())
    for name in ("search.md", "candidates.csv"):
        ours, theirs = ((folder / name).read_text() for folder in (tmp_path, whole[0]))
        assert ours.replace(str(tmp_path), "") == theirs.replace(str(whole[0]), "")
    for one in report.ranked(book.outcomes()):
        assert read(find(f"{tmp_path}/cells/candidate_{one.number}.py:Candidate{one.number}")).key == one.key


def test_an_outcome_of_version_0_1_can_be_read():
    new = Outcome(3, "k", 1, ["swap"], EVALUATED, 0.5)
    old = {"number": 3, "key": "k", "parent": 1, "changes": ["swap"], "fate": "tried", "worth": 0.5}
    assert QUICK.outcome(old) == QUICK.outcome(vars(new)) == new
    assert QUICK.outcome(old | {"fate": "poor on lag:5"}).status == "poor on lag:5"


def test_where_nobody_can_be_measured_by_the_gru_the_search_says_so(tmp_path):
    config = SearchConfig(tasks=("recall:1", "lag:5"))
    good = Outcome(0, "", None, [], EVALUATED, 1.0, {"recall:1": 0.4, "lag:5": 0.0})
    check(config, tmp_path, [])
    check(config, tmp_path, [good])
    assert "next to nothing on lag:5" in report.markdown(
        tmp_path,
        config,
        [replace(good, key=START["gru"].key, tests={"recall:1": 0.1, "lag:5": 0.5}, draws={"recall:1": 0, "lag:5": 1})],
    )
    with pytest.raises(BadInput, match="learns next to nothing on recall:1, lag:5: increase --steps"):
        check(config, tmp_path, [replace(good, gains={"recall:1": 0.05, "lag:5": 0.0})])
    with pytest.raises(BadInput, match="failed: does not remember; increase --steps"):
        check(config, tmp_path, [replace(good, status="does not remember")])


def test_a_cell_of_its_own_that_cannot_start_a_search_is_told_in_a_line(tmp_path):
    steps = {
        "x.item()": "reads a tensor's value",
        "torch.tanh(self.a(h))": "blind to x",
        "self.b(h, x) * torch.tanh(self.a(h))": "width of its value .* is not hidden_size",
    }
    for number, (step, said) in enumerate(steps.items()):
        cell = tmp_path / f"mine{number}.py"
        cell.write_text(
            "import torch, conveyor\nclass Mine(conveyor.Cell):\n"
            "    def __init__(self, input_size, hidden_size):\n"
            "        super().__init__(input_size, hidden_size)\n"
            '        self.a, self.b = self.affine("h"), self.affine("h", "x", out=1)\n'
            f"    def step(self, x, h):\n        return {step}\n"
        )
        with pytest.raises(BadInput, match=said):
            SearchConfig(start=(f"{cell}:Mine",))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tasks": ("nothing",)}, "no task is called nothing"),
        ({"start": ("clockwork",)}, "a search cannot start from ClockworkRNN"),
        ({"start": ("lstm", "lstm")}, "names lstm twice"),
        ({"start": ("lstm", "lstm-forget-bias")}, "the same cell, since a search ignores initial weights"),
        ({"seed": 2**40}, "--seed must be at most"),
        ({"candidates": 3}, "--candidates must be at least 5, the cells of --start with the gru, not 3"),
        ({"draws": 0}, "--draws must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value[:60],
)
def test_what_cannot_be_sought_is_refused(wrong, said):
    with pytest.raises(BadInput, match=said):
        SearchConfig(**wrong)
