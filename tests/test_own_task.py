"""A person's own task: files of every form are read, parts and chance are counted, what is wrong is told."""

import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch

from conveyor.compare import problems
from conveyor.errors import BadInput
from conveyor.tasks import own

LABELLED = """[task]
kind = "classes"
file = "mine.csv"
sequence = "id"
inputs = ["x1", "x2"]
target = "label"
"""
# Sequence i has i % 3 + 2 rows; x1 counts them, x2 is the same for all; the label is that of i's remainder by 3.
ROWS = [(i, step, 5, "abc"[i % 3]) for i in range(20) for step in range(i % 3 + 2)]
TABLE = "id,x1,x2,label\n" + "".join(f"s{i},{x1},{x2},{label}\n" for i, x1, x2, label in ROWS)


def write(folder, toml, **files):
    for name, data in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    (folder / "mine.toml").write_text(toml)
    return str(folder / "mine.toml")


def arrays(folder, name="mine.npz", **named):
    np.savez(folder / name, **named)


# what is read


def test_a_table_of_labelled_sequences(tmp_path):
    name = write(tmp_path, LABELLED, mine_csv=TABLE)
    task, about = problems.find(name), problems.about(name)
    assert (task.input_size, task.output_size, task.labels) == (2, 3, ("a", "b", "c"))
    assert {part: len(batch.lengths) for part, batch in task.parts.items()} == {"learn": 14, "validation": 3, "test": 3}
    lengths = torch.cat([batch.lengths for batch in task.parts.values()])
    assert sorted(lengths.tolist()) == sorted(i % 3 + 2 for i in range(20))
    learn = task.parts["learn"]
    seen = learn.inputs[torch.arange(4)[:, None] < learn.lengths]
    assert torch.allclose(seen.mean(0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(seen.std(0, correction=0), torch.tensor([1.0, 0.0]), atol=1e-6)
    assert torch.equal(learn.targets[learn.lengths - 1, torch.arange(14)], learn.lengths - 2), (
        "b is the one with 3 rows"
    )
    most = learn.lengths.mode().values
    assert task.chance == pytest.approx(float((task.parts["test"].lengths != most).float().mean()))
    assert (about.name, about.metric, about.optimum) == ("mine", "error rate", 0)
    assert about.text == "classify the sequence (mine.csv)"
    assert problems.shown(name) == "mine"
    outputs = torch.nn.functional.one_hot(learn.targets, 3).float()
    assert task.measure(outputs, learn) == 0
    outputs[learn.lengths[0] - 1, 0] *= -1
    assert task.measure(outputs, learn) == pytest.approx(1 / 14)


def test_a_relative_path_is_relative_to_the_description(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", LABELLED.replace("mine.csv", "../mine.csv"))
    write(tmp_path, LABELLED, mine_csv=TABLE)
    monkeypatch.chdir(tmp_path / "below")
    assert problems.find("mine.toml").output_size == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", ";").replace(";a", ";a" + 20 * ","),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("x1,", '"x1",').replace("\n", "\n\n").replace(",5,", ", 5.0,"),
    ],
    ids=[
        "semicolons",
        "commas between semicolons",
        "tabs",
        "other line ends",
        "a mark of the byte order",
        "quotes, empty lines, spaces",
    ],
)
def test_tables_as_other_programs_write_them(tmp_path, change):
    plain = problems.find(write(tmp_path, LABELLED, mine_csv=TABLE)).parts["learn"]
    other = problems.find(write(tmp_path, LABELLED, mine_csv=change(TABLE))).parts["learn"]
    assert torch.equal(plain.inputs, other.inputs)
    assert torch.equal(plain.targets, other.targets)


def test_the_same_in_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    plain = problems.find(write(tmp_path, LABELLED, mine_csv=TABLE))
    columns = dict(zip(("id", "x1", "x2", "label"), zip(*ROWS, strict=True), strict=True))
    columns["id"] = [f"s{i}" for i in columns["id"]]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "mine.parquet")
    other = problems.find(write(tmp_path, LABELLED.replace("csv", "parquet")))
    for part, batch in plain.parts.items():
        assert torch.equal(batch.inputs, other.parts[part].inputs)
        assert torch.equal(batch.targets, other.parts[part].targets)


def test_rows_of_sequences_may_be_mixed_and_a_column_may_say_the_part(tmp_path):
    rows = [(i, step) for step in range(3) for i in range(6)]
    parts = ["train", "train", "learn", "learn", "valid", "test"]
    table = "id,x,y,part\n" + "".join(f"{i},{10 * i + step},{i},{parts[i]}\n" for i, step in rows)
    toml = '[task]\nkind = "numbers"\nfile = "mine.csv"\nsequence = "id"\ninputs = "x"\ntarget = "y"\npart = "part"\n'
    task = problems.find(write(tmp_path, toml, mine_csv=table))
    learn = task.parts["learn"]
    steps = torch.tensor([[10.0 * i + step for i in range(4)] for step in range(3)])
    assert torch.allclose(learn.inputs[..., 0], (steps - steps.mean()) / steps.std(correction=0), atol=1e-6)
    deviation = np.std([0, 1, 2, 3])
    assert torch.allclose(learn.targets[-1, :, 0], (torch.arange(4) - 1.5) / deviation)
    assert task.chance == pytest.approx(5 - 1.5), "the mean of what is learnt, in the target's own unit"
    assert task.measure(torch.zeros(3, 1, 1), task.parts["validation"]) == pytest.approx(4 - 1.5)


def test_every_step_may_have_a_target(tmp_path):
    table = "id,x,y,z\n" + "".join(f"{i},{step},{i + step},{i % 2}\n" for i in range(10) for step in range(2 + i % 2))
    toml = '[task]\nkind = "numbers"\nfile = "mine.csv"\nsequence = "id"\ninputs = ["x"]\njudged = "every"\n'
    task = problems.find(write(tmp_path, toml + 'target = ["y", "z"]\n', mine_csv=table))
    learn = task.parts["learn"]
    assert learn.targets.shape[1:] == (6, 2)
    assert learn.mask.sum(0).tolist() == learn.lengths.tolist()
    steps = learn.targets * task.unit
    assert torch.allclose(steps[1, :, 0] - steps[0, :, 0], torch.ones(len(learn.lengths)), atol=1e-5)
    task = problems.find(write(tmp_path, toml.replace("numbers", "classes") + 'target = "z"\n', mine_csv=table))
    learn = task.parts["learn"]
    assert torch.equal(learn.targets[0] + 2, learn.lengths)
    assert learn.mask.sum(0).tolist() == learn.lengths.tolist()


def test_what_comes_next_in_one_long_series(tmp_path):
    table = "x,y\n" + "".join(f"{step},{step % 7}\n" for step in range(101))
    toml = '[task]\nkind = "next"\nfile = "mine.csv"\nwindow = 5\ninputs = ["x", "y"]\ntarget = "y"\n'
    task = problems.find(write(tmp_path, toml, mine_csv=table))
    assert {part: len(batch.lengths) for part, batch in task.parts.items()} == {"learn": 14, "validation": 3, "test": 3}
    learn, test = task.parts["learn"], task.parts["test"]
    assert (learn.inputs[0, 1:, 0] > learn.inputs[-1, :-1, 0]).all(), "in the order of time"
    assert test.inputs[..., 0].min() > task.parts["validation"].inputs[..., 0].max() > learn.inputs[..., 0].max()
    assert torch.equal(learn.targets[:-1, :, 0], learn.inputs[1:, :, 1])
    assert torch.equal(learn.targets[-1, :-1, 0], learn.inputs[0, 1:, 1])
    steps = torch.arange(85, 100)
    assert task.chance == pytest.approx(((steps % 7) - (steps + 1) % 7).float().square().mean().sqrt().item(), rel=1e-5)
    both = problems.find(write(tmp_path, toml.replace('target = "y"\n', ""), mine_csv=table))
    assert both.output_size == 2


def test_arrays(tmp_path):
    chance = np.random.default_rng(0)
    inputs, lengths = chance.normal(3, 2, (30, 6, 2)), chance.integers(1, 7, 30)
    inputs[0, lengths[0] :] = np.nan  # past its length is nothing
    targets, part = chance.choice(["no", "yes"], 30), np.array(["train"] * 20 + ["val"] * 5 + ["test"] * 5)
    arrays(tmp_path, inputs=inputs, lengths=lengths, targets=targets, part=part, more=np.zeros(2))
    toml = '[task]\nkind = "classes"\nfile = "mine.npz"\n'
    task = problems.find(write(tmp_path, toml))
    learn = task.parts["learn"]
    seen = np.concatenate([row[:length] for row, length in zip(inputs[:20], lengths[:20], strict=True)])
    expected = (inputs[3, : lengths[3]] - seen.mean(0)) / seen.std(0)
    assert torch.allclose(learn.inputs[: lengths[3], 3], torch.from_numpy(expected).float(), atol=1e-5)
    assert learn.lengths.tolist() == lengths[:20].tolist()
    last = learn.targets[learn.lengths - 1, torch.arange(20)]
    assert last.tolist() == [int(target == "yes") for target in targets[:20]]
    arrays(tmp_path, inputs=inputs[..., 0] * 0 + 1e6 * np.arange(6), lengths=lengths * 0 + 4)
    ahead = problems.find(write(tmp_path, toml.replace("classes", "next")))
    assert ahead.parts["learn"].inputs.shape == (3, 22, 1)
    assert ahead.chance == pytest.approx(1e6, rel=1e-4)
    arrays(tmp_path, inputs=inputs[1:], targets=inputs[1:, :, 0])
    every = problems.find(write(tmp_path, toml.replace("classes", "numbers") + 'judged = "every"\n'))
    assert every.parts["learn"].mask.all()
    targets = np.where(np.arange(6) < lengths[1:, None], inputs[1:, :, 0], np.nan)
    arrays(tmp_path, inputs=inputs[1:], targets=targets, lengths=lengths[1:])
    some = problems.find(str(tmp_path / "mine.toml")).parts["learn"]
    assert some.mask.sum(0).tolist() == some.lengths.tolist()
    assert torch.allclose(some.targets[..., 0], some.inputs[..., 0], atol=1e-5), "past the length is nothing"


def test_parts_are_drawn_by_the_seed(tmp_path):
    def parts(seed):
        table = "id,x,y\n" + "".join(f"s{i},{i},{i % 2}\n" for i in range(100))
        toml = LABELLED.replace('["x1", "x2"]', '["x"]').replace("label", "y") + f"seed = {seed}\n"
        found = problems.find(write(tmp_path, toml, mine_csv=table)).parts
        return [found[part].inputs[0, :, 0].sort().values for part in ("learn", "validation", "test")]

    first, again, other = parts(0), parts(0), parts(1)
    assert [len(part) for part in first] == [70, 15, 15]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert len(torch.cat(first).unique()) == 100, "none is in two parts"


def test_where_in_the_file_a_sequence_stands_does_not_matter(tmp_path):
    rows = TABLE.splitlines()[1:]
    turned = "\n".join([TABLE.splitlines()[0], *sorted(rows, key=lambda row: (-int(row[1 : row.index(",")]), row))])
    plain, other = (problems.find(write(tmp_path, LABELLED, mine_csv=table)).parts for table in (TABLE, turned))
    for part in plain:
        assert sorted(plain[part].lengths.tolist()) == sorted(other[part].lengths.tolist())
        assert sorted(plain[part].inputs.sum((0, 2)).tolist()) == pytest.approx(
            sorted(other[part].inputs.sum((0, 2)).tolist()), abs=1e-5
        )


FUNCTION = """
import numpy as np
import torch

def draw(rows, generator):
    bits = torch.randint(2, (rows, 5), generator=generator)
    return bits.float(), bits.sum(1) % 2

def numbers(rows, generator):
    x = torch.rand(rows, 4, 2, generator=generator)
    lengths = torch.randint(1, 5, (rows,), generator=generator)
    return x.numpy(), x.sum((1, 2)).numpy(), lengths.numpy()
"""
DRAWN = '[task]\nkind = "classes"\nfunction = "mine.py:draw"\n'


def test_a_function(tmp_path):
    task = problems.find(write(tmp_path, DRAWN, mine_py=FUNCTION))
    batch = task.draw(7, torch.Generator().manual_seed(3))
    assert (batch.inputs.shape, task.input_size, task.output_size) == ((5, 7, 1), 1, 2)
    assert torch.equal(batch.targets[-1], batch.inputs.sum((0, 2)).long() % 2)
    assert torch.equal(batch.inputs, task.draw(7, torch.Generator().manual_seed(3)).inputs)
    assert task.chance == pytest.approx(0.5, abs=0.05)
    assert problems.about(str(tmp_path / "mine.toml")).text == "classify the sequence (mine.py:draw)"
    task = problems.find(write(tmp_path, DRAWN.replace("draw", "numbers").replace("classes", "numbers")))
    batch = task.held_out("test", 50)
    assert batch.inputs.shape == (4, 50, 2)
    assert torch.equal(batch.mask, torch.arange(4)[:, None] == batch.lengths - 1)
    assert not batch.inputs[torch.arange(4)[:, None] >= batch.lengths].any()
    assert task.chance == pytest.approx((8 / 12) ** 0.5, rel=0.1)


def test_a_text(tmp_path):
    text = " ".join(f"the number {n} is {'even' if n % 2 == 0 else 'odd'}." for n in range(500))
    toml = '[task]\ntext = "mine.txt"\nlength = 20\nabout = "odd or even"\n'
    name = write(tmp_path, toml, mine_txt=text)
    letters, words = problems.find(name), problems.find(write(tmp_path, toml + 'unit = "word"\n'))
    assert (letters.metric, words.metric) == ("bits per character", "bits per word")
    assert letters.input_size == len(set(text))
    assert letters.held_out("test", 3).inputs.shape[0] == words.held_out("test", 3).inputs.shape[0] == 20
    assert problems.about(name).text == "odd or even"


def test_it_is_learnt_as_the_others_are(tmp_path):
    """By a network that a comparison trains; in a process of its own, as a worker is."""
    name = write(tmp_path, LABELLED, mine_csv=TABLE)
    code = (
        "from conveyor.compare.trial import Trial, TrialSettings\n"
        f"trial = Trial(TrialSettings(task={name!r}, cell='gru', hidden_size=8))\n"
        "trial.loss(0)[0].backward(); print(sorted(trial.measure()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['validation']\n", done.stderr


# what is wrong

TEXT = '[task]\nkind = "next"\ntext = "mine.txt"\n'
GOOD = {"mine_csv": TABLE, "mine_py": FUNCTION, "mine_txt": "a b c " * 500}
SERIES = LABELLED.replace('sequence = "id"', "window = 3").replace("classes", "next").replace('"label"', '"x1"')


def in_toml(old, new):
    return lambda: (LABELLED.replace(old, new), GOOD)


def in_table(old, new, toml=LABELLED):
    return lambda: (toml, GOOD | {"mine_csv": TABLE.replace(old, new, 1) if old else new})


def in_function(body, kind="classes"):
    code = "import torch\ncount = 0\ndef draw(rows, generator):\n    global count\n    count += 1\n" + body
    return lambda: (DRAWN.replace("classes", kind), GOOD | {"mine_py": code})


WRONG = {
    "no table task": (lambda: ("x = 1", {}), "must have one table, [task], with kind, file, sequence"),
    "no TOML": (lambda: ("[task", {}), "mine.toml is not a TOML file: "),
    "a misspelt key": (in_toml("sequence =", "sequnce ="), "a task has no key sequnce; did you mean sequence?"),
    "an unknown key": (
        in_toml("sequence =", "q = 1\nsequence ="),
        "a task has no key q; there are kind, file, function",
    ),
    "a key of another type": (in_toml('"id"', "3"), "sequence must be a string, not 3"),
    "no number": (in_toml("[task]", '[task]\nseed = "x"'), "seed must be a whole number, not 'x'"),
    "inputs that are no names": (in_toml('["x1", "x2"]', "[1]"), "inputs must be one or more column names, each once"),
    "inputs twice": (in_toml('"x2"', '"x1"'), "each once, not ['x1', 'x1']"),
    "no inputs": (in_toml('inputs = ["x1", "x2"]', ""), "inputs names no columns"),
    "no target": (in_toml('target = "label"', ""), "target names no column"),
    "two classes at once": (in_toml('"label"', '["label", "x1"]'), 'with kind = "classes" there must be one target'),
    "no kind": (in_toml('kind = "classes"\n', ""), 'kind must be "classes", "numbers" or "next", not ""'),
    "no source": (in_toml('file = "mine.csv"\n', ""), "one of file, function and text; this one has none"),
    "two sources": (in_toml("[task]", '[task]\ntext = "x"'), "this one has file and text"),
    "another form": (in_toml("mine.csv", "mine.xlsx"), "a file must be .csv, .parquet or .npz, which mine.xlsx is not"),
    "no sequence": (in_toml('sequence = "id"\n', ""), "give either sequence, the column that identifies sequences"),
    "sequence and window": (in_toml("[task]", "[task]\nwindow = 3"), "give either sequence, the column"),
    "a window of -1": (in_toml('sequence = "id"', "window = -1"), "window must be a number of steps, not -1"),
    "fractions": (in_toml("[task]", "[task]\ntest = 0.9"), "validation and test must be fractions above 0"),
    "judged": (in_toml("[task]", '[task]\njudged = "all"'), 'judged must be "last" or "every", not "all"'),
    "judged next": (lambda: (SERIES + 'judged = "last"', GOOD), "every step has a target; leave judged out"),
    "a target that is no input": (
        lambda: (SERIES.replace('["x1", "x2"]', '["x2"]'), GOOD),
        'with kind = "next" the targets must be among the inputs, but x1 is not',
    ),
    "a key of another source": (
        lambda: (DRAWN + "window = 3", GOOD),
        "window does not apply to a function; leave it out",
    ),
    "a missing file": (in_toml("mine.csv", "other.csv"), "other.csv: No such file or directory"),
    "a missing column": (in_toml('"x2"', '"x3"'), "mine.csv has no column x3: there are id, x1, x2, label"),
    "a missing sequence": (in_toml('"id"', '"ids"'), "mine.csv has no column ids: did you mean id?"),
    "an empty file": (in_table("", " \n"), "mine.csv is empty: its first line must name the columns"),
    "no rows": (in_table("", "id,x1,x2,label\n"), "mine.csv has column names but no rows"),
    "a ragged row": (in_table("s1,0,5,b", "s1,0,5"), "mine.csv, line 4: 3 cells, but the first line names 4 columns"),
    "a column twice": (in_table("x1,x2", "x1,x1"), "mine.csv has two columns called x1"),
    "an open quote": (in_table("s1,0", '"s1,0'), "mine.csv is not a CSV file: unexpected end of data"),
    "another encoding": (in_table("", TABLE.encode("utf-16")), "mine.csv is not UTF-8 (byte 0): convert it"),
    "a word for a number": (
        in_table("s1,0,5", "s1,many,5"),
        "mine.csv, line 4: column x1 is 'many', not a finite number",
    ),
    "NaN": (in_table("s1,0,5", "s1,0,nan"), "mine.csv, line 4: column x2 is 'nan', not a finite number"),
    "an empty cell": (in_table("s1,0,5", "s1,,5"), "mine.csv, line 4: column x1 is empty"),
    "an empty name": (in_table("s1,0,5", ",0,5"), "mine.csv, line 4: column id is empty"),
    "a target that varies": (
        in_table("s1,1,5,b", "s1,1,5,c"),
        "line 5: label is c, but it was b before in the same sequence, s1: a sequence has one target, or write judged",
    ),
    "one class": (
        in_table("", re.sub("[abc]$", "a", TABLE, flags=re.M)),
        "every target is a; at least two classes are needed",
    ),
    "too many classes": (
        in_table("", "id,x1,x2,label\n" + "".join(f"{i},1,1,{i / 7}\n" for i in range(1001))),
        "has 1001 different targets, such as 0.0 and 0.14285714285714285: if they are not classes, write",
    ),
    "one number": (
        lambda: (LABELLED.replace("classes", "numbers").replace('"label"', '"x2"'), GOOD),
        "mine.csv: the target is constant",
    ),
    "few sequences": (in_table("", TABLE[: TABLE.index("s2")]), "has 2 sequences, too few for training, validation"),
    "a short series": (
        in_table("", TABLE[: TABLE.index("s1")], SERIES),
        "has 2 rows, too few for a window of 3 and the next step",
    ),
    "a sequence of one step": (
        in_table("s0,1,5,a\n", "", LABELLED.replace("classes", "next").replace('"label"', '"x1"')),
        "mine.csv: sequence s0 has only one step, so there is no next step to predict",
    ),
    "a part of another name": (
        lambda: (LABELLED + 'part = "label"', GOOD),
        "mine.csv: sequence s0 is in the part a, but the parts are learn, validation, test",
    ),
    "a part that varies": (
        lambda: (LABELLED + 'part = "x1"', GOOD),
        "line 3: x1 is 1, but it was 0 before in the same sequence, s0: a sequence is in one part",
    ),
    "an empty part": (
        in_table("", re.sub("[abc]$", "train", TABLE, flags=re.M), LABELLED + 'part = "label"'),
        "mine.csv: no sequence is in the part validation",
    ),
    "damaged Parquet": (
        lambda: (LABELLED.replace("csv", "parquet"), {"mine_parquet": b"PAR1 and nothing"}),
        "mine.parquet is not a Parquet file: ",
    ),
    "a missing text": (lambda: (TEXT.replace("mine.txt", "no.txt"), GOOD), "no.txt: there is no such file or folder"),
    "a short text": (
        lambda: (TEXT, {"mine_txt": "abc " * 50}),
        "its part for validation has 20 characters, and a sequence needs 65",
    ),
    "an empty text": (lambda: (TEXT, {"mine_txt": " "}), "is empty: there is nothing to learn from"),
    "a text in another encoding": (lambda: (TEXT, {"mine_txt": b"\xff\xfe"}), "mine.txt is not UTF-8 (byte 0 is 0xff)"),
    "a text's unit": (lambda: (TEXT + 'unit = "line"', GOOD), 'unit must be "char" or "word", not "line"'),
    "a text's kind": (lambda: (TEXT.replace("next", "classes"), GOOD), 'the kind of a text must be "next"'),
    "a piece of 0": (
        lambda: (TEXT + "length = 0", GOOD),
        "the length of a sequence must be a whole number, 1 or more, not 0",
    ),
    "a function's kind": (lambda: (DRAWN.replace("classes", "next"), GOOD), 'the kind of a function must be "classes"'),
    "no function's name": (
        lambda: (DRAWN.replace(":draw", ""), GOOD),
        'function must be "file.py:name", not "mine.py"',
    ),
    "a missing function's file": (lambda: (DRAWN, {}), "mine.py: there is no such file"),
    "a missing function": (
        lambda: (DRAWN.replace("draw", "drew"), GOOD),
        "mine.py has no function drew: did you mean draw?",
    ),
    "no Python": (lambda: (DRAWN, {"mine_py": "def draw(:"}), "mine.py cannot be run: SyntaxError: "),
    "a function that raises": (in_function("    raise KeyError('x')"), "mine.py:draw raised KeyError: 'x' (line 6)"),
    "one that raises further down": (in_function("    __import__('json').loads('{')"), "(line 6)"),
    "one that returns nothing": (
        in_function("    pass"),
        "must return a tuple of inputs, targets and optionally lengths, not NoneType",
    ),
    "one that returns strings": (
        in_function("    return ['x'] * rows, [0] * rows"),
        "inputs must be numbers, [sequences, steps, features], none of size 0, not <U1 [8]",
    ),
    "too few rows": (
        in_function("    return torch.zeros(3, 4), torch.zeros(3).long()"),
        "returns 3 sequences where 8 were asked for",
    ),
    "targets of another number": (
        in_function("    return torch.zeros(rows, 4), torch.zeros(1).long()"),
        "inputs has 8 sequences, but targets is [1]",
    ),
    "targets of another shape": (
        in_function("    return torch.zeros(rows, 4), torch.zeros(rows, 4).long()"),
        "targets must be [sequences], not [8, 4]",
    ),
    "targets that are no numbers": (
        in_function("    return torch.zeros(rows, 4), [str(row) for row in range(rows)]", "numbers"),
        ", not numbers",
    ),
    "classes that are no whole numbers": (
        in_function("    return torch.zeros(rows, 4), torch.zeros(rows)"),
        "targets are float32, but classes must be whole numbers or strings",
    ),
    "classes below 0": (
        in_function("    return torch.zeros(rows, 4), torch.arange(rows) % 2 - 1"),
        "returns classes -1 to 0; classes must be 0, 1 and so on",
    ),
    "a rare class": (
        in_function("    return torch.zeros(rows, 4), torch.arange(rows) % 2 + 5 * (rows < 9)"),
        "returned class 6, but no class above 1 in the first 1,000 sequences",
    ),
    "a number that is not finite": (
        in_function("    return torch.full((rows, 4), torch.nan), torch.zeros(rows).long()"),
        "sequence 0 has a number that is not finite in its inputs",
    ),
    "an empty sequence": (
        in_function("    return torch.zeros(rows, 4), torch.arange(rows) % 2, torch.arange(rows) % 5"),
        "the length of sequence 0 must be from 1 to 4, not 0",
    ),
    "lengths that are none": (
        in_function("    return torch.zeros(rows, 4), torch.arange(rows) % 2, torch.ones(rows)"),
        "lengths must be 8 whole numbers, not float32 [8]",
    ),
    "other chance": (
        in_function("    return torch.rand(rows, 4), torch.arange(rows) % 2"),
        "mine.py:draw draws different sequences for equal seeds: take all randomness from the generator",
    ),
}


@pytest.mark.parametrize(("make", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told(tmp_path, make, said):
    toml, files = make()
    with pytest.raises(BadInput, match=re.escape(said)) as told:
        problems.about(write(tmp_path, toml, **files))
    assert "\n" not in str(told.value), "in one line"
    assert str(tmp_path) in str(told.value) or "the length of a sequence" in str(told.value), (
        "with the name of the file"
    )


ARRAYS = {
    "no inputs": (
        {"input": np.zeros((9, 3))},
        "has no array named inputs, [sequences, steps, features]: did you mean input?",
    ),
    "no targets": ({"inputs": np.zeros((9, 3))}, "has no array targets"),
    "inputs of another shape": ({"inputs": np.zeros(9)}, "none of size 0, not float64 [9]"),
    "no sequences": ({"inputs": np.zeros((0, 3))}, "none of size 0, not float64 [0, 3]"),
    "inputs that are no numbers": ({"inputs": np.full((9, 3), "x")}, "inputs must be numbers"),
    "lengths too long": (
        {"inputs": np.zeros((9, 3)), "lengths": np.arange(9)},
        "the length of sequence 0 must be from 1 to 3, not 0",
    ),
    "other lengths": ({"inputs": np.zeros((9, 3)), "lengths": np.ones(8, int)}, "has 9 sequences, but lengths is [8]"),
    "a number for an array": ({"inputs": np.zeros((9, 3)), "part": np.array(3)}, "has 9 sequences, but part is []"),
    "no finite number": (
        {"inputs": np.full((9, 3), np.inf), "targets": np.arange(9)},
        "sequence 0 has a number that is not finite in its inputs",
    ),
    "no finite target": (
        {"inputs": np.zeros((9, 3)), "targets": np.full(9, np.nan)},
        "sequence 0 has a number that is not finite in its targets",
    ),
}


@pytest.mark.parametrize(("named", "said"), ARRAYS.values(), ids=ARRAYS)
def test_what_is_wrong_with_arrays_is_told(tmp_path, named, said):
    arrays(tmp_path, **named)
    with pytest.raises(BadInput, match=re.escape(said)):
        problems.find(write(tmp_path, '[task]\nkind = "numbers"\nfile = "mine.npz"\n'))


@pytest.mark.parametrize(
    "data", [b"", b"nothing of the kind", b"PK\x03\x04 damaged"], ids=["empty", "no zip", "a damaged zip"]
)
def test_a_damaged_file_of_arrays_is_told(tmp_path, data):
    toml = '[task]\nkind = "numbers"\nfile = "mine.npz"\n'
    with pytest.raises(BadInput, match=r"mine\.npz is not a file of arrays, as written by numpy\.savez: "):
        problems.find(write(tmp_path, toml, mine_npz=data))
    np.savez(tmp_path / "mine.npz", inputs=np.array([{}], object))  # which could run code as it is read
    with pytest.raises(BadInput, match=r"is not a file of arrays, .*allow_pickle"):
        problems.find(write(tmp_path, toml))


def test_a_missing_package_and_a_missing_description_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[parquet\]', or save the table as \.csv"):
        problems.find(write(tmp_path, LABELLED.replace("csv", "parquet"), mine_parquet=b""))
    with pytest.raises(BadInput, match=r"cannot read .*other\.toml: No such file or directory"):
        problems.find(str(tmp_path / "other.toml"))
    (tmp_path / "other.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"other\.toml is not a TOML file: "):
        problems.find(str(tmp_path / "other.toml"))
    (tmp_path / "other.csv").mkdir()
    with pytest.raises(BadInput, match=r"cannot read .*other\.csv: Is a directory"):
        problems.find(write(tmp_path, LABELLED.replace("mine.csv", "other.csv")))


def test_the_example_of_the_docstring_is_a_description(tmp_path):
    (tmp_path / "mine.toml").write_text(own.__doc__.split("\n\n")[1].replace("    ", "", 1))
    said = own.describe(tmp_path / "mine.toml")
    keys = set(re.findall(r"^    (\w+) = ", own.__doc__, re.M)) | {"unit", "length"}
    assert keys == {field.name for field in fields(own.Description)}, "every key is told"
    assert (said.kind, said.sequence, said.inputs, said.target) == ("classes", "id", ("x1", "x2"), ("label",))
