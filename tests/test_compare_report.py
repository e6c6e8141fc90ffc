"""The report of a comparison: readable, safe and traceable, whatever the trials gave."""

import base64
import csv
import html
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from conveyor.compare import report
from conveyor.compare.outcomes import Outcome, TaskInfo
from conveyor.compare.statistics import interval
from conveyor.errors import BadInput
from tiers import slow

for module in ("matplotlib", "scipy", "optuna", "sklearn"):
    pytest.importorskip(module)
HOSTILE = "<script>alert('1')</script> & \"$x_^$\" | `a` \U0001f600\n_*b*_"
VOID = {"meta", "link", "img", "br"}


def trials(tasks=("adding:20", "adding:40"), cells=("lstm", "gru", "rnn"), count=6, seeds=5):
    """A small study in which the RNN is worse, one trial of the search fails and one repeat."""
    random = np.random.default_rng(0)
    made = []
    for task in tasks:
        for cell in cells:
            for index in range(count + seeds):
                lost = index in {1, count} and cell == "rnn"
                value = None if lost else float((0.1 if cell == "rnn" else 0.02) * np.exp(0.2 * random.normal()))
                made.append(
                    Outcome(
                        task,
                        cell,
                        min(index, count),
                        index,
                        index >= count,
                        {"lr": 10.0 ** -(1 + min(index, count) % 4), "hidden_size": 16 + index % 3, "kind": "adam"},
                        value,
                        value,
                        1000,
                        1.5,
                        2**28,
                        f"runs/{len(made)}",
                        "loss is not finite" if lost else "",
                        () if value is None else ((10, 3 * value), (20, value)),
                        {}
                        if value is None or task != "adding:40"
                        else {"0 attractors": value, "1 attractors": 2 * value},
                    )
                )
    return made


def about(tasks=("adding:20", "adding:40")):
    rules = {"the nearest": 0.25}
    return [TaskInfo(task, "mean squared error", 0.167, 0.0, "The sum of two marked numbers.", rules) for task in tasks]


class Page(HTMLParser):
    """Checks that every element is closed, and collects what a browser would ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.asked, self.pictures, self.names = [], [], [], set()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names.add(tag)
        self.asked += [attributes[name] for name in ("src", "href", "srcset", "action", "data") if name in attributes]
        if tag == "img":
            self.pictures.append(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def layout_of(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(text, title):
    """The rows of a table in Markdown, by column."""
    lines = text.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    grid = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines if line.startswith("| ")]
    return [dict(zip(grid[0], row, strict=True)) for row in grid[1:]]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write(folder, trials(), about(), facts={"command": "conveyor compare"})
    return folder


def test_all_files_are_there_and_whole(written):
    names = {file.name for file in written.rglob("*") if file.is_file()}
    kinds = {"search", "means", "cost", "curves", "settings", "importance", "lag"}
    assert names == {"report.html", "report.md", "results.csv"} | {f"{k}{s}" for k in kinds for s in (".svg", ".png")}
    assert all(file.stat().st_size for file in written.rglob("*"))


def test_the_page_is_closed_in_itself(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(asked.startswith("data:") for asked in page.asked)
    assert "http" not in re.sub(r"http-equiv|base64,[\w+/=]*", "", text)
    assert "url(" not in text
    assert "script" not in page.names
    assert "default-src 'none'" in text, "nor may it ask for anything"
    assert "prefers-color-scheme" in text
    assert "width=device-width" in text
    assert len(page.pictures) == 7
    for picture in page.pictures:
        assert picture["alt"]
        assert picture["title"]
        svg = base64.b64decode(picture["src"].partition(",")[2]).decode()
        assert "<title>" in svg
        assert "prefers-color-scheme:dark" in svg
        assert not re.findall(r'(?:href|src)="(?!#)|url\((?!#)', svg), "it holds nothing from elsewhere"


def test_hostile_names_are_text(tmp_path):
    tasks, cells = (HOSTILE + ":1", HOSTILE + ":2"), (HOSTILE, "_gru", "=1+1")
    named = [TaskInfo(task, HOSTILE, 0.167, math.nan, HOSTILE) for task in tasks]
    report.write(tmp_path, trials(tasks, cells, count=4, seeds=2), named, facts={HOSTILE: HOSTILE})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.names
    assert "<script" not in text
    assert html.escape(HOSTILE) in text
    assert HOSTILE in page.text
    words = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in words
    assert {len(row) for row in table(words, "Results")} == {11}, "no bar of a name is a column"
    assert {row["cell"] for row in layout_of(tmp_path)} == set(cells)
    assert {row["task"] for row in layout_of(tmp_path)} == set(tasks)


def test_every_trial_is_in_the_csv_in_full(written):
    rows, outcomes = layout_of(written), trials()
    assert len(rows) == len(outcomes)
    for place, (row, outcome) in enumerate(zip(rows, outcomes, strict=True), 1):
        assert row["row"] == str(place)
        assert (row["task"], row["cell"], row["folder"], row["error"]) == (
            outcome.task, outcome.cell, outcome.folder, outcome.error,
        )  # fmt: skip
        assert (row["repeat"] == "True") == outcome.repeat
        assert (float(row["value"]) if row["value"] else None) == outcome.value
        assert float(row["settings.lr"]) == outcome.settings["lr"]
        assert int(row["memory"]) == outcome.memory


def chosen(row, rows):
    spans = [span.partition("–") for span in row["rows"].split(", ")]
    return [rows[i - 1] for low, _, high in spans for i in range(int(low), int(high or low) + 1)]


def test_every_figure_comes_from_the_rows_that_it_names(written):
    text, rows = (written / "report.md").read_text(encoding="utf-8"), layout_of(written)
    samples = {}
    for row in table(text, "Results"):
        runs = chosen(row, rows)
        assert {(run["task"], run["cell"], run["repeat"]) for run in runs} == {(row["task"], row["cell"], "True")}
        sample = samples[row["task"], row["cell"]] = [float(run["value"] or 0.167) for run in runs]
        assert row["mean"] == report.number(float(np.mean(sample)))
        assert row["sd"] == report.number(float(np.std(sample, ddof=1)))
        assert (row["from"], row["to"]) == tuple(map(report.number, vars(interval(sample)).values()))
        assert row["failed"] == str(sum(not run["value"] for run in runs))
    for row in table(text, "Differences"):
        ours, theirs = samples[row["task"], row["cell"]], samples[row["task"], "lstm"]
        assert row["difference"] == report.number(float(np.mean(ours) - np.mean(theirs)))
        assert {run["cell"] for run in chosen(row, rows)} == {row["cell"], "lstm"}
    for row in table(text, "Cost"):
        assert row["seconds"] == report.number(np.mean([float(run["seconds"]) for run in chosen(row, rows)]))
    for row in table(text, "Importance of the settings"):
        assert {(run["task"], run["repeat"]) for run in chosen(row, rows)} == {(row["task"], "False")}


def said(outcomes, tasks=("adding:20", "adding:40"), **options):
    study = report.Study.of(outcomes, about(tasks), **options)
    return "\n".join(text for _, lines in report.answer(study) for text in lines)


def test_the_answer_says_what_is_sure_and_what_is_not():
    words = said(trials())
    assert "rnn is worse than lstm on adding:20" in words
    assert "This does not mean that the cells are equal" in words
    assert "gru is" not in words, "it is drawn from what the LSTM is drawn from"
    assert "4 of 66 runs failed" in words
    assert "inconclusive with only 2 seeds" in said(trials(seeds=2))
    assert "rnn is worse than gru" in said(trials(), reference="gru")
    hopeless = [Outcome("adding:20", c, i, i, True, {}, 0.2 + 0.01 * i, 0.2) for c in ("lstm", "gru") for i in range(5)]
    assert "no cell is better than chance (0.167)" in said(hopeless)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([], "No trial has ended yet"),
        (trials(["adding:20"], ["gru"], 1, 0), "only one cell"),
        pytest.param(trials(["adding:20"], ["lstm", "gru"], 3, 0), "There are too few seeds to tell", marks=slow),
        (trials(["adding:20"], ["lstm", "gru"], 3, 1), "There are too few seeds to tell"),
        ([Outcome("adding:20", c, i, i, False, {}, None, None) for c in "ab" for i in range(3)], "every run failed"),
        ([Outcome("other", "a", 0, 0, False, {}, None, None)], "every run failed"),
        ([Outcome("other", "a", 0, 0, True, {"lr": 1}, math.inf, math.nan)], "every run failed"),
        (
            [Outcome("other", c, i, i, True, {"lr": 1}, 0.5, 0.5) for c in "ab" for i in range(5)],
            "No trial|inconclusive",
        ),
    ],
    ids=["nothing", "one trial", "no repeats", "one repeat", "all failed", "unknown task", "infinite", "constant"],
)
def test_little_data(tmp_path, outcomes, words):
    report.write(tmp_path, outcomes, about(["adding:20"]))
    assert re.search(words, (tmp_path / "report.md").read_text(encoding="utf-8"))
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(layout_of(tmp_path)) == len(outcomes)


@slow
def test_a_report_is_written_over_an_earlier_one_and_leaves_no_parts(tmp_path):
    report.write(tmp_path, trials(["adding:20"], ["lstm", "gru"], 2, 2), about())
    report.write(tmp_path, trials(["adding:20"], ["lstm", "gru"], 3, 2), about())
    assert len(layout_of(tmp_path)) == 10
    assert not list(tmp_path.rglob("*.tmp"))


def test_bad_input(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="no cell lstn: did you mean lstm"):
        report.write(tmp_path, trials(), about(), "lstn")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BadInput, match=r"needs matplotlib: pip install 'conveyor\[compare\]'"):
        report.write(tmp_path, trials(["adding:20"], ["lstm"], 1, 0), about())
    assert not list(tmp_path.iterdir()), "nothing is written then"


def test_simple_rules_and_kinds_of_sequences_have_their_figures():
    outcomes = trials()
    tables = {table.title: table for table in report.tables(report.Study.of(outcomes, about()))}
    assert all("the nearest: 0.25" in row for row in tables["Tasks"].rows)
    assert not any(title.startswith("adding:20,") for title in tables)
    kinds = tables["adding:40 in detail"]
    assert kinds.head == ("cell", "0 attractors", "1 attractors", "rows")
    means = {row[1]: row[2] for row in tables["Results"].rows if row[0] == "adding:40"}
    for cell, none, *_ in kinds.rows:
        if cell != "rnn":  # whose failed run counts in the one mean and has no kinds
            assert none == means[cell]
