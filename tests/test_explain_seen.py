"""What of a page of `conveyor explain` must be seen: signs of edits, numbers that lie on nothing, ends of curves."""

import pytest
import torch
from selenium.webdriver.common.by import By

from cases import Leaky
from conveyor.explain.page.assemble import page
from conveyor.language.model import LanguageModel
from conveyor.language.settings import Settings
from conveyor.language.trained import Trained
from conveyor.tasks.text import Vocabulary
from conveyor.training.run import Run
from conveyor.zoo import CELLS
from tiers import quick

pytestmark = pytest.mark.xdist_group("explain seen")

KINDS = {**CELLS, "leaky": Leaky}
TEXT = "the cat sat on the mat. " * 6


def untrained(home, cell="lstm", kind="char", folder="run"):
    torch.manual_seed(5)
    vocabulary = Vocabulary.of(TEXT.encode(), kind)
    model = LanguageModel(len(vocabulary), KINDS[cell], 12, 1).eval()
    return Trained(model, vocabulary, Settings(cell=cell, hidden_size=12, tokens=kind), Run(home / folder), "")


def written(home, *runs, text=TEXT):
    file = home / "page.html"
    file.write_text(page(list(runs), text), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def lstm(tmp_path_factory):
    home = tmp_path_factory.mktemp("lstm")
    return written(home, untrained(home))


LAID = """
const svg = document.querySelector('#cell svg.diagram');
const box = (one) => one.getBoundingClientRect();
const figures = [...svg.querySelectorAll('.numbers > g > text')].filter((one) => one.textContent);
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const others = [...svg.querySelectorAll('.shape, text:not(.numbers text)')];
const lines = [...svg.querySelectorAll('path.wire')].flatMap((wire) => {
  const [length, to] = [wire.getTotalLength(), wire.getScreenCTM()];
  return Array.from({length: Math.ceil(length)}, (_, i) => wire.getPointAtLength(i).matrixTransform(to));
});
const within = (a, {x, y}) => x > a.left && x < a.right && y > a.top && y < a.bottom;
const wrong = figures.filter((one, i) => {
  const a = box(one);
  return figures.slice(i + 1).some((two) => meet(a, box(two))) || others.some((two) => meet(a, box(two)))
    || lines.some((point) => within(a, point));
});
return [figures.length, wrong.map((one) => one.textContent)];
"""


@pytest.mark.parametrize("cell", quick(["lstm", "lstm-fgr", "gru", "clockwork", "leaky"], ["lstm", "leaky"]))
def test_no_figure_lies_on_another_or_on_a_line(cell, here, tmp_path):
    here.open(written(tmp_path, untrained(tmp_path, cell)), "d=cell&s=9")
    here.rest()
    count, wrong = here.run(LAID)
    assert count >= 4
    assert not wrong


def test_a_cut_in_a_merged_line_is_named_and_edits_are_counted(here, lstm):
    here.open(lstm, "d=cell&o=play")
    here.click("#play summary")
    here.click("#play .lines input")
    assert here.text("#cell .cut-names").startswith("✕ ")
    for depth in ("sequence", "cell", "unit"):
        here.click(f"[data-depth={depth}]")
        assert here.text("#edited") == "1 edit"
    here.click("#unedit")
    here.click("[data-depth=cell]")
    assert not here.driver.find_element(By.ID, "edited").is_displayed()
    assert not here.run("return document.querySelectorAll('.cut-names text').length")


def test_free_play_comes_into_sight(here, lstm):
    with here.screen(360, 780):
        here.open(lstm)
        here.click("#open-play").wait("document.activeElement.id === 'play'")
        assert here.run("return document.getElementById('play').getBoundingClientRect().top") < 390


def test_no_text_is_no_error(here, lstm):
    here.open(lstm, "o=tour&tour=8")
    here.type("")
    for _ in range(12):
        here.press("b")
    assert here.text("#time output") == "no text"


def test_words_that_are_not_known_are_read_as_such(here, tmp_path):
    here.open(written(tmp_path, untrained(tmp_path, kind="word")))
    here.type("the zyzzyx sat")
    assert "does not know zyzzyx and reads it as <unk>: it was" in here.text("#unknown")


def test_the_outline_of_a_unit_ends_with_the_text(here, lstm):
    here.open(lstm)
    here.type("the cat")
    ends = here.run("""
        const right = (name) => [...document.querySelectorAll(name)].map((one) => one.getBoundingClientRect().right);
        const cells = [...document.querySelectorAll('.score-axis .token')].filter((one) => one.textContent.trim());
        return [Math.max(...right('.score-unit:not([hidden])')), cells.at(-1).getBoundingClientRect().right];
    """)
    assert ends[0] == pytest.approx(ends[1], abs=3)


def test_steps_out_of_sight_can_be_reached(here, lstm):
    here.open(lstm)
    here.slide(".score-from", 0)
    assert here.run("return document.querySelector('.score-axis .token').textContent") == "t"


@pytest.mark.parametrize("number", [0, 1])
def test_pictures_of_the_tour_can_be_saved(number, here, lstm):
    here.open(lstm, f"o=tour&tour={number}")
    assert here.find("#tour .save").get_attribute("aria-label").startswith("save")
    here.find("#tour .save")


def test_two_runs_of_one_name_are_told_apart(here, tmp_path):
    runs = [untrained(tmp_path, folder=f"{home}/run") for home in ("first", "second")]
    here.open(written(tmp_path, *runs))
    names = here.run("return [...document.querySelectorAll('#tools option')].map((one) => one.textContent)")
    assert names == ["first/run", "second/run"]
