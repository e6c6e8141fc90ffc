"""The page of `conveyor explain`, in a real browser: what it shows, what it does, and what it does not let happen."""

import json
import os
import re
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from command import called, done, snapshot
from conveyor import cli
from conveyor.explain.drawing.errors import CannotDraw
from conveyor.explain.page import assemble
from conveyor.explain.page.assemble import _drawn, page
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import run as interpreted
from conveyor.language.job import Language
from conveyor.language.model import LanguageModel
from conveyor.language.settings import Settings
from conveyor.language.trained import Trained, load
from conveyor.tasks.text import Vocabulary
from conveyor.training import train as training
from conveyor.training.progress import Progress
from conveyor.training.run import Run
from in_a_page import CELLS
from pages import READY, ZOOMED
from tiers import quick

pytestmark = pytest.mark.xdist_group("explain page")

HOSTILE = "<script>hacked = 1</script><img src=x onerror='hacked = 2'>\"&amp;' </textarea>{{7*7}} 🐈 ‮مرحبا é\u0301"
LEARNT = f"the cats that the dog sees sleep. the dog that the cats see sleeps.\n{HOSTILE}\n" * 60
MARKUP = "<img src=x onerror=hacked=3>"
TEXT = "the cats that the dog sees "
OF_CATS = Vocabulary.of(b"the cat sat on the mat.", "char")


def train(folder, **settings):
    """A run of so few steps that its model knows a little."""
    small = {"hidden_size": 16, "window": 16, "batch_size": 4, "device": "cpu", "threads": 1, "steps": 20}
    text = folder.parent / "text.txt"
    text.write_text(LEARNT)
    training.start(Language, Settings(**{**small, "text": (str(text),), **settings}), folder, Progress())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An LSTM of two layers, a GRU in a folder whose name is markup, and one that reads words."""
    home = tmp_path_factory.mktemp("runs")
    train(home / "lstm", num_layers=2)
    train(home / MARKUP, cell="gru")
    train(home / "words", tokens="word", steps=5)
    return home


@pytest.fixture(scope="module")
def one(runs):
    file = runs / "one.html"
    result = done("explain", "lstm", "--text", TEXT, "-o", file, cwd=runs)
    assert "one.html" in result.stderr
    return file


@pytest.fixture(scope="module")
def two(runs):
    file = runs / "two.html"
    file.write_text(page([load(runs / "lstm"), load(runs / MARKUP)], HOSTILE), encoding="utf-8")
    return file


SHADES = """return [...document.querySelectorAll('.reading span')]
    .map((one) => one.style.getPropertyValue('--p'))"""


def percent(share):
    """As the page writes it."""
    return "<0.1%" if 0 < share < 0.001 else f"{100 * share:.{1 if share < 0.0995 else 0}f}%"


def visible(token):
    return {"\n": "↵", " ": "␣"}.get(token, token)


@torch.no_grad()
def recorded(trained, text, edits=()):
    """All values of the model on the text, as PyTorch computes them."""
    return interpreted(trained.model, trained.vocabulary.encode(text.encode()), edits)


@torch.no_grad()
def scores(folder, text, edits=()):
    trained = load(folder)
    tokens = trained.vocabulary.encode(text.encode())
    logits = recorded(trained, text, edits).logits if edits else trained.model(tokens[:, None])[0][:, 0]
    return trained.vocabulary.symbols, logits.softmax(-1)


def assert_shown(shown, folder, text, edits=(), step=-1):
    """The candidates are the likeliest of PyTorch's model, with its probabilities."""
    symbols, probabilities = scores(folder, text, edits)
    known = {visible(symbol): float(p) for symbol, p in zip(symbols, probabilities[step], strict=True)}
    assert len(shown) == 8
    for name, percentage in shown:
        assert percentage in {percent(known[name] + tiny) for tiny in (-1e-6, 0, 1e-6)}, name
    best = sorted(known.values(), reverse=True)
    assert known[shown[0][0]] == pytest.approx(best[0])
    assert sum(known[name] >= best[6] for name, _ in shown) >= 7


# -- what is shown


def test_the_page_shows_the_text_and_what_the_model_expects(here, one, runs, tmp_path):
    here.open(one)
    assert here.text("#title") == "lstm"
    tokens = here.run("return [...document.querySelectorAll('.reading span')].map((span) => span.textContent)")
    assert "".join(tokens) == TEXT
    assert_shown(here.bars(), runs / "lstm", TEXT)
    _, probabilities = scores(runs / "lstm", TEXT)
    came = load(runs / "lstm").vocabulary.encode(TEXT.encode()).tolist()
    shades = here.run(SHADES)
    for step, shade in enumerate(shades[1:]):
        assert float(shade) == pytest.approx(float(probabilities[step][came[step + 1]]), abs=0.006)
    here.shot("sequence", tmp_path)


def test_the_held_out_text_is_the_default(runs):
    trained = load(runs / "lstm")
    text = json.loads(re.search(r'id="data">(.*?)</script>', page([trained]))[1])["text"]
    held_out = "".join(trained.vocabulary.decode(trained.tokens()[0].tolist()))
    assert text in held_out[:200]  # without the pieces of words at its ends
    assert len(text) > 150


def test_time_goes_by_keys_and_slider(here, one, runs):
    here.open(one)
    here.press(Keys.HOME)
    assert_shown(here.bars(), runs / "lstm", TEXT, step=0)
    here.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert_shown(here.bars(), runs / "lstm", TEXT, step=1)
    here.slide("#step", 5)
    assert_shown(here.bars(), runs / "lstm", TEXT, step=5)
    assert here.text("#sequence .came") == "came"


def test_typing_is_followed(here, one, runs):
    here.open(one)
    here.press("/").press(Keys.END, "sleep")
    assert here.find("#text").get_attribute("value").endswith("sleep")
    assert_shown(here.bars(), runs / "lstm", here.find("#text").get_attribute("value"))
    here.type("")
    assert "Type something" in here.text("#sequence .next-card")
    for depth in ("cell", "unit", "sequence"):
        here.click(f"[data-depth={depth}]")
    here.type("the dog")
    assert_shown(here.bars(), runs / "lstm", "the dog")


def test_characters_that_the_model_does_not_know_are_named_and_left_out(here, one, runs):
    here.open(one)
    here.type("the QQ dog\x07")
    assert "Q (U+0051)" in here.text("#unknown")
    assert "U+0007" in here.text("#unknown")
    assert_shown(here.bars(), runs / "lstm", "the  dog")
    here.type("the dog")
    assert here.run("return document.getElementById('unknown').textContent") == ""


def test_a_heat_map_is_the_values(here, one):
    """A click on a place of the picture chooses its step and its unit; the readout has the model's number."""
    here.open(one)
    canvas = here.find("canvas.heat")
    box = canvas.rect
    ActionChains(here.driver).move_to_element_with_offset(
        canvas, -box["width"] / 2 + 4, -box["height"] / 2 + 1
    ).perform()
    here.rest()
    assert re.fullmatch(r"f.*\[0\] = 0\.\d{4} at step 1 t", here.text(".readout").replace("\n", ""))
    canvas.click()
    here.rest()
    assert "p=" in here.address()
    before = here.run("return document.querySelector('.curve polyline').getAttribute('points')")
    here.press(Keys.ARROW_DOWN)
    assert before != here.run("return document.querySelector('.curve polyline').getAttribute('points')")


def test_the_zoom_by_keyboard(here, one, runs, tmp_path):
    here.open(one, "p=1.3.2&s=6")
    here.press(Keys.ENTER).wait(ZOOMED.format("cell"))
    assert len(here.driver.find_elements(By.CSS_SELECTOR, "#cell math")) == 6
    here.wait("document.querySelector('#cell .formula-row.lit math').getAttribute('aria-label').startsWith('f_t')")
    time.sleep(0.4)
    here.shot("cell", tmp_path)
    here.press(Keys.ENTER).wait(ZOOMED.format("unit"))
    trained = load(runs / "lstm")
    record = recorded(trained, TEXT)
    value = float(record.value(1, "f")[6, 2])
    assert here.text("#unit .result").endswith(f"{value:.4f}")
    total = float(record.sums[1][3][6, 2])
    assert f"{total:.4f}".replace("-", "−") in here.text("#unit .arithmetic")
    time.sleep(0.4)
    here.shot("unit", tmp_path)
    here.press(Keys.ESCAPE).wait(ZOOMED.format("cell"))
    here.press(Keys.ESCAPE).wait(ZOOMED.format("sequence"))
    here.driver.back()
    here.wait(ZOOMED.format("cell"))


def test_a_circle_is_reckoned_in_figures(here, one, runs):
    trained = load(runs / "lstm")
    record = recorded(trained, TEXT)
    at = record.circuits[0].named["C"]
    here.open(one, f"d=unit&p=0.{at}.3&s=4")
    f, i, new, C, old = (
        float(record.value(0, name)[t, 3]) for name, t in (("f", 4), ("i", 4), ("C_tilde", 4), ("C", 4), ("C", 3))
    )
    written = [f"({x:.4f})".replace("-", "−") if x < 0 else f"{x:.4f}" for x in (f, old, i, new)]
    expected = "{} × {} + {} × {}".format(*written)
    assert expected in here.text("#unit .arithmetic")
    assert here.text("#unit .result").endswith(f"{C:.4f}".replace("-", "−"))


def test_what_a_prediction_rests_on(here, one, runs):
    """The shades are the norms of the gradients of the likeliest token's log-probability by the tokens' vectors."""
    here.open(one, "h=rests")
    here.wait("document.querySelector('.shading p').textContent.includes('move the probability')")
    trained = load(runs / "lstm")
    tokens = trained.vocabulary.encode(TEXT.encode())
    vectors = trained.model.embedding(tokens[:, None]).detach().requires_grad_()
    output = trained.model.rnn(vectors)[0][-1, 0]
    scores = torch.nn.functional.linear(output, trained.model.embedding.weight, trained.model.bias).log_softmax(-1)
    scores.max().backward()
    norms = vectors.grad[:, 0].norm(dim=-1)
    shades = here.run(SHADES)
    assert [float(shade) for shade in shades] == pytest.approx((norms / norms.max()).tolist(), abs=0.006)


def test_a_text_that_is_too_long(here, one, runs):
    """Its beginning is read, and the page says so; the rest stays in the box."""
    here.open(one)
    text = (TEXT * 400)[:5100]
    here.type(text)
    assert "the first 5,000 of its 5,100 tokens" in here.text("#unknown")
    assert here.run("return document.getElementById('text').value") == text
    assert "5000 of 5000" in here.text("#time output")
    assert_shown(here.bars(), runs / "lstm", text[:5000])
    here.type(text[:5000])
    assert here.run("return document.getElementById('unknown').textContent") == ""


def test_what_a_long_text_rests_on(here, one, runs):
    """Only the last 300 steps are asked about, and the page says so."""
    here.open(one, "h=rests")
    here.type(TEXT * 20)
    here.wait("document.querySelector('.shading .small').textContent.includes('more than 300 steps')")
    trained, count = load(runs / "lstm"), len(TEXT) * 20
    shades = [float(shade) for shade in here.run(SHADES)]
    assert len(shades) == count
    assert not any(shades[: count - 301])
    tokens = trained.vocabulary.encode((TEXT * 20).encode())
    vectors = trained.model.embedding(tokens[:, None]).detach().requires_grad_()
    output = trained.model.rnn(vectors)[0][-1, 0]
    scores = torch.nn.functional.linear(output, trained.model.embedding.weight, trained.model.bias).log_softmax(-1)
    scores.max().backward()
    norms = vectors.grad[:, 0].norm(dim=-1)
    assert shades[-300:] == pytest.approx((norms / norms.max()).tolist()[-300:], abs=0.006)


@pytest.mark.parametrize(
    "cell", quick(["clockwork", "grid", "handed-on", "masked", "two-clocks"], ["masked", "two-clocks"])
)
def test_other_cells_at_all_depths(cell, here, tmp_path):
    """Every part of a cell can be chosen, and its number is reckoned without an error."""
    model = LanguageModel(len(OF_CATS), CELLS[cell], 12, 2).eval()
    trained = Trained(model, OF_CATS, Settings(hidden_size=12, num_layers=2), Run(tmp_path / cell), "")
    file = tmp_path / "page.html"
    file.write_text(page([trained], "the cat sat"), encoding="utf-8")
    here.open(file, "d=cell")
    parts = here.run(
        "const parts = [...document.querySelectorAll('#cell g.part[data-part]:not([data-end])')];"
        "return [...new Set(parts.map((one) => Number(one.dataset.part)))]"
    )
    values = recorded(trained, "the cat sat")
    for part in parts:
        here.run("location.hash = `d=unit&p=0.${arguments[0]}.1&s=5`", part)
        here.rest()
        value = values.value(0, part)[5].flatten()
        shown = here.text("#unit .result").lstrip("=≈ ").replace("−", "-").replace("∞", "inf")
        assert float(shown) == pytest.approx(float(value[min(1, len(value) - 1)]), abs=1e-4)


RENAMED = """
import torch
from conveyor import Cell

class Renamed(Cell):
    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.gate, self.candidate = self.affine("h", "x"), self.affine("h", "x")

    def step(self, x, h, C):
        f = torch.sigmoid(self.gate(h, x))
        new_C = f * C + (1 - f) * torch.tanh(self.candidate(h, x))
        return f * torch.tanh(new_C), new_C
"""


def test_probabilities_are_reckoned_once(here, one):
    """A keystroke costs those of the step that is new."""
    here.open(one)
    here.type(TEXT * 4)
    here.run("const { exp } = Math; globalThis.exps = 0; Math.exp = (value) => { exps += 1; return exp(value); }")
    here.type(TEXT * 4 + "s")
    one_more = here.run("return exps")
    here.run("exps = 0")
    here.type(TEXT * 4 + "sl")
    assert here.run("return exps") == pytest.approx(one_more, rel=0.5)
    count = here.run("return document.querySelectorAll('.reading span').length")
    vocabulary = len(set(LEARNT))
    assert one_more < count * vocabulary, "all were reckoned again"


def test_a_state_that_the_step_calls_otherwise(here, runs):
    """Its units are found and shown by the name that it is handed on by."""
    (runs / "renamed.py").write_text(RENAMED)
    train(runs / "renamed", cell=f"{runs / 'renamed.py'}:Renamed", num_layers=2)
    done("explain", "renamed", "--text", TEXT, "-o", "renamed.html", cwd=runs)
    text = (runs / "renamed.html").read_text(encoding="utf-8")
    (network,) = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["networks"]
    best = network["found"][0]
    names = network["model"]["steps"][0]["names"]
    assert network["start"] == {"layer": best["layer"], "part": names[best["value"]], "unit": best["index"]}
    assert names["C"] == names["new_C"]
    here.open(runs / "renamed.html", "d=unit&p=" + "{layer}.{part}.{unit}".format(**network["start"]))
    value = recorded(load(runs / "renamed"), TEXT).value(best["layer"], best["value"])[-1, best["index"]]
    assert float(here.text("#unit .result").lstrip("=≈ ").replace("−", "-")) == pytest.approx(value, abs=1e-3)


# -- free play


def test_a_clamped_gate_changes_what_is_expected(here, one, runs, tmp_path):
    here.open(one, "p=0.3.0")
    plain = here.bars()
    here.press("0")
    edit = Edit(0, "f", 0.0)
    assert here.bars(0) == plain
    assert_shown(here.bars(1), runs / "lstm", TEXT, [edit])
    assert here.bars(1) != plain
    here.press("p")
    assert "= 0 in layer 1, at every step" in here.text(".edits")
    here.shot("clamped", tmp_path)
    here.press("1")
    assert_shown(here.bars(1), runs / "lstm", TEXT, [Edit(0, "f", 1.0)])
    here.click(".edits li button")
    assert here.bars() == plain


def test_a_value_is_edited_at_a_step(here, one, runs):
    here.open(one, "o=play&s=4&p=1.8.3")
    at = recorded(load(runs / "lstm"), "t").circuits[1].named["C"]
    script = "for (const [id, value] of Object.entries(arguments[0])) document.getElementById(id).value = value"
    here.run(script, {"hold-part": at, "hold-unit": "one", "hold-when": "now", "hold-value": "2.5"})
    here.click(".hold .line button:not(.quiet)")
    here.press(Keys.END)
    assert_shown(here.bars(1), runs / "lstm", TEXT, [Edit(1, "C", 2.5, unit=3, first=4, last=4)])


def test_a_line_is_cut_in_the_picture_and_in_the_list(here, one, runs):
    here.open(one, "d=cell&p=0.3.0&o=play")
    lines = here.run("return [...document.querySelectorAll('#cell [data-grip]')].map((one) => one.dataset.grip)")
    grip = next(name for name in lines if re.fullmatch(r"3-\d+", name))  # from f to the circle where it is multiplied
    target = int(grip.split("-")[1])
    here.run("document.querySelector(`[data-grip='${arguments[0]}']`).dispatchEvent(new MouseEvent('click'))", grip)
    here.rest()
    assert here.run("return document.querySelectorAll('#cell .wire.cut').length")
    assert_shown(here.bars(1, "#play"), runs / "lstm", TEXT, [Edit(0, target, source=3)])
    here.click("#play summary")
    assert here.run("return document.querySelectorAll('#play .lines input:checked').length") == 1
    here.run("document.querySelector('#play .lines input:checked').click()")
    here.rest()
    assert not here.run("return document.querySelectorAll('#cell .wire.cut').length")


def test_untrained_weights_by_the_slider(here, one):
    here.open(one, "o=play")
    trained = here.bars()
    here.slide("#trained", 0)
    untrained = here.bars()
    assert untrained != trained
    here.slide("#trained", 0.5)
    assert here.bars() not in (trained, untrained)
    here.slide("#trained", 1)
    assert here.bars() == trained


def test_two_networks_on_the_same_text(here, two, runs, tmp_path):
    here.open(two)
    here.type(TEXT)
    here.press("c")
    names = here.run("return [...document.querySelectorAll('#sequence .pane-name')].map((one) => one.textContent)")
    assert names == ["lstm", MARKUP]
    assert_shown(here.bars(0), runs / "lstm", TEXT)
    assert_shown(here.bars(1), runs / MARKUP, TEXT)
    here.shot("compare", tmp_path)
    here.click("[data-depth=cell]")
    assert here.run("return document.querySelectorAll('#cell svg.diagram').length") == 2
    here.click("[data-depth=unit]")


def test_words_beside_characters(here, runs, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page([load(runs / "lstm"), load(runs / "words")], TEXT), encoding="utf-8")
    here.open(file, "c=1")
    here.press(Keys.HOME, *[Keys.ARROW_RIGHT] * 7)  # "the cats"
    assert_shown(here.bars(0), runs / "lstm", TEXT, step=7)
    assert here.run("return document.querySelectorAll('.reading .now')[1].textContent") == " cats"


# -- the address


def test_the_address_carries_the_state(here, one):
    here.open(one, "p=0.4.5&s=7")
    here.press("0").press("p")
    here.slide("#trained", 0.7)
    here.type("the dog sees the cats")
    here.press(Keys.HOME, Keys.ARROW_RIGHT)
    here.click("[data-depth=cell]")
    address = here.address()
    shown = here.run(SEEN)
    here.driver.refresh()
    here.wait(READY).rest()
    assert here.address() == address
    assert here.run(SEEN) == shown


SEEN = """return [...document.querySelectorAll('#cell .figure')].map((one) => one.textContent).join() +
    document.querySelector('.edits').textContent + document.getElementById('trained').value +
    document.getElementById('text').value + document.querySelector('#time output').textContent"""


@pytest.mark.parametrize(
    "edit",
    ['{"layer":"0"}', '{"unit":0.5}', '{"unit":16}', '{"first":"1"}', '{"last":0.5}', '{"first":[]}', '{"layer":true}'],
)
def test_an_edit_in_an_address_has_whole_numbers(edit, here, one):
    whole = {"layer": 0, "part": 3, "value": 0.5, "unit": 1, "first": 1, "last": 3}
    here.open(one, f"e={json.dumps([[whole]])}")
    assert "e=" in here.address()
    here.open(one, f"o=play&e={json.dumps([[{**whole, **json.loads(edit)}]])}&s=5")
    here.press(Keys.ARROW_LEFT)
    assert "e=" not in here.address()


@pytest.mark.parametrize(
    "address",
    [
        'd=nowhere&s=-5&n=9&p=7.99.9999_x&e=[[{"layer":9,"part":1}]]&w=NaN&c=1&tour=x',
        's=99999999&e=[[{"layer":0,"part":3,"value":"<b>"},{"layer":0,"part":3,"source":77},null,3]]&p=0.0.0',
        "e=%5B&t=%E0%A4%A",
        "e={}&p=_&d=unit&t=" + "<script>alert(1)</script>",
    ],
    ids=["wrong values", "edits that cannot be", "broken escapes", "a script"],
)
def test_an_address_can_be_anything(address, here, one):
    here.open(one, address)
    here.rest().press(Keys.ENTER).press(Keys.ENTER)
    assert here.run("return typeof hacked") == "undefined"


# -- what must not happen


def test_text_is_text(here, two, tmp_path):
    """Markup in the text, in what is typed, in a run's name: shown as it is, and nothing of it runs."""
    here.open(two)
    assert MARKUP in here.text("#title")
    shown = here.run("return document.querySelector('.reading').textContent")
    assert shown == HOSTILE
    for depth in ("cell", "unit", "sequence"):
        here.click(f"[data-depth={depth}]")
    here.type(HOSTILE + HOSTILE)
    here.press("c", "p", Keys.HOME)
    for _ in range(30):
        here.press(Keys.ARROW_RIGHT)
    assert here.run("return typeof hacked") == "undefined"
    assert not here.run("return document.querySelectorAll('img, #view script').length")
    here.shot("hostile", tmp_path)


def test_the_policy_is_strict_and_nothing_is_fetched(here, one):
    here.open(one)
    policy = here.run("return document.querySelector('meta[http-equiv]').content")
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'sha256-[\w+/=]+'; img-src data:; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert here.run("return performance.getEntriesByType('resource').length") == 0
    whole = one.read_text(encoding="utf-8")
    assert not re.search(
        r"https?://(?!www\.w3\.org/)", re.sub(r'<script type="application/json".*?</script>', "", whole)
    )
    assert 'style="' not in whole
    assert (
        here.driver.execute_script(
            "const one = document.createElement('script'); one.textContent = 'window.hacked = 4';"
            "document.head.append(one); return typeof hacked"
        )
        == "undefined"
    )
    assert any("Content Security Policy" in error for error in here.browser.errors())


# -- how it is seen


@pytest.mark.parametrize("width", [360, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen(width, scheme, here, two, tmp_path):
    with here.screen(width, 780 if width < 600 else 1080, scheme):
        here.open(two, "c=1&o=play&p=0.8.3_0.3.0")
        for depth in ("sequence", "cell", "unit"):
            here.click(f"[data-depth={depth}]")
            wide = here.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide[0] <= wide[1], depth
            time.sleep(0.3)
            here.shot(f"{depth}-{width}-{scheme}", tmp_path)
        light = here.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(light) > 380) == (scheme == "light")


@pytest.mark.parametrize("width", [360, 1280])
def test_long_words_stay_in_their_cards(width, here, tmp_path):
    text = f"{'long' * 30} internationalisation electroencephalographically disestablishmentarianism the end "
    vocabulary = Vocabulary.of(text.encode(), "word")
    model = LanguageModel(len(vocabulary), CELLS["gru"], 8).eval()
    trained = Trained(model, vocabulary, Settings(tokens="word", hidden_size=8), Run(tmp_path / ("run-" * 30)), "")
    file = tmp_path / "page.html"
    file.write_text(page([trained], text), encoding="utf-8")
    with here.screen(width):
        for step in (0, 3):
            here.open(file, f"s={step}")
            assert here.run("return document.documentElement.scrollWidth - innerWidth") <= 0
            over = here.run(
                "const right = (one) => one.getBoundingClientRect().right; const card = arguments[0];"
                "return [...card.querySelectorAll('h3 *, table')].map((one) => right(one) - right(card))",
                here.find(".next-card"),
            )
            assert max(over) <= 0
            for depth in ("cell", "unit"):
                here.click(f"[data-depth={depth}]")
                assert here.run("return document.documentElement.scrollWidth - innerWidth") <= 0, depth


def test_nothing_moves_for_those_who_want_it_still(here, one):
    with here.screen(1280, motion="reduce"):
        here.open(one)
        here.press(Keys.ENTER)
        assert here.run("return document.getAnimations().length") == 0


def test_every_control_has_a_name_and_can_be_reached(here, two):
    here.open(two, "c=1&o=play")
    for depth in ("sequence", "cell", "unit"):
        here.click(f"[data-depth={depth}]")
        nameless = here.run(
            "return [...document.querySelectorAll('button, input, select, textarea, summary, [role=button]')]"
            ".filter((one) => one.checkVisibility()).filter((one) => !(one.textContent.trim() || one.ariaLabel || "
            "one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)"
        )
        assert not nameless, depth
    here.press("?")
    assert here.run("return document.getElementById('help').open")
    here.press(Keys.ESCAPE)
    assert not here.run("return document.getElementById('help').open")


def test_pictures_are_saved_as_svg(here, one):
    here.open(one)
    here.run(
        "window.saved = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { saved.push(blob); return make.call(URL, blob); };"
        "HTMLAnchorElement.prototype.click = () => {};"
    )
    for depth, pictures in (("sequence", 1), ("cell", 1), ("unit", 1)):
        here.click(f"[data-depth={depth}]")
        here.run(
            "saved.length = 0; document.querySelectorAll(`#${arguments[0]} .save`).forEach((one) => one.click())", depth
        )
        texts = here.run("return Promise.all(saved.map((blob) => blob.text()))")
        assert len(texts) >= pictures
        for text in texts:
            wrong = here.run(
                "const parsed = new DOMParser().parseFromString(arguments[0], 'image/svg+xml');"
                "return parsed.querySelector('parsererror')?.textContent ?? ''",
                text,
            )
            assert not wrong
            assert "var(--" not in text
            assert "class=" not in text or depth == "sequence"


# -- what the command says


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["nothing", "conveyor train"]),
        (["."], ["holds no run"]),
        (["lstm", "--text", "QQ\x07"], ["'Q'", "never saw"]),
        (["lstm", "nothing"], ["nothing", "conveyor train"]),
        (["lstm", "-o", "none/page.html"], ["the folder none does not exist"]),
        (["lstm", "-o", "folder"], ["folder", "is a folder"]),
        (["lstm", "-o", ""], ["is a folder"]),
        (["lstm", "gru", "third"], ["third"]),
        (["tagger"], ["tagger", "not a language model", "conveyor run"]),
        (["damaged"], ["model.safetensors"]),
        (["own"], ["own.py"]),
        (["lstm", "--serve", "-o", "x.html"], ["--serve writes no file", "x.html"]),
        (["lstm", "--port", "8001"], ["--port 8001", "--serve"]),
    ],
    ids=lambda value: " ".join(value).replace("\x07", "bell"),
)
def test_what_cannot_be_explained_is_refused(arguments, words, runs, capfd, monkeypatch):
    odd(runs)
    monkeypatch.chdir(runs)
    monkeypatch.setattr(sys, "argv", ["conveyor", "explain", *arguments])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = snapshot(runs)
    with pytest.raises(SystemExit) as end, warnings.catch_warnings(action="ignore"):
        cli.main()
    out, told = capfd.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch("conveyor: .*\n", told), told
    for word in words:
        assert word in told
    assert snapshot(runs) == before


OWN = """
import torch
from conveyor import Cell

class Own(Cell):
    state = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        if h.sum() > 0:
            return torch.tanh(self.candidate(h, x))
        return torch.sigmoid(self.candidate(h, x))
"""


def odd(runs):
    """Runs that no page can be made of."""
    if (runs / "folder").exists():
        return
    (runs / "folder").mkdir()
    shutil.copytree(runs / "lstm", runs / "damaged")
    (runs / "damaged" / "model.safetensors").write_bytes(b"nothing")
    shutil.copytree(runs / "lstm", runs / "tagger")
    config = runs / "tagger" / "config.toml"
    config.write_text(config.read_text().replace("# made by: conveyor train", "# made by: conveyor run attend"))
    (runs / "own.py").write_text(OWN)
    with warnings.catch_warnings(action="ignore"):  # that it runs slowly
        train(runs / "own", cell=f"{runs / 'own.py'}:Own", steps=2)


def test_the_tour_says_where_the_search_is(here, one):
    here.open(one)
    here.press("t")
    for _ in range(20):
        if here.run("return document.getElementById('middle').dataset.scene") == "units":
            break
        here.press(Keys.ENTER)
    assert "conveyor explain --serve searches" in here.text("#tour")
    assert not here.driver.find_elements(By.CSS_SELECTOR, ".finder")


def test_two_runs_of_one_name_have_values_of_their_own(here, runs, tmp_path):
    """In the search for what is alike; the LSTM and the GRU have the same part of the same layer chosen."""
    shutil.copytree(runs / MARKUP, tmp_path / "lstm")
    file = tmp_path / "page.html"
    document = page([load(runs / "lstm"), load(tmp_path / "lstm")], TEXT, served=True)
    file.write_text(document, encoding="utf-8")
    here.open(file, "p=0.8.0_0.8.0")
    values = "return [...document.querySelectorAll('#find-value option')].map((one) => one.textContent)"
    first = here.run(values)
    here.run(
        "const choice = document.querySelector('#tools select'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change'))"
    )
    second = here.rest().run(values)
    assert "C" in first
    assert "C" not in second
    assert "z" in second


def test_a_folder_whose_name_is_no_text(runs, tmp_path):
    folder = tmp_path / os.fsdecode(b"run\xff")
    shutil.copytree(runs / "lstm", folder)
    done("explain", ".", "--text", TEXT, "-o", tmp_path / "page.html", cwd=folder)
    assert "<title>run\ufffd explained</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_cell_that_cannot_be_laid_out_has_a_page(here, runs, tmp_path, monkeypatch, capsys):
    def no_way(*_):
        raise CannotDraw("a line runs through f")

    monkeypatch.setattr(assemble, "draw", no_way)
    _drawn.cache_clear()
    file = tmp_path / "page.html"
    file.write_text(page([load(runs / "lstm")], TEXT), encoding="utf-8")
    _drawn.cache_clear()
    assert "could not be laid out (a line runs through f)" in capsys.readouterr().err
    here.open(file)
    for depth in ("sequence", "unit", "cell"):
        here.click(f"[data-depth={depth}]")
    assert "could not be drawn" in here.text(".picture")
    here.click(".formula")
    here.press("t")
    while here.run("return !document.getElementById('tour').hidden"):  # through all its scenes
        here.press(Keys.ENTER)


def test_a_link_leads_to_the_page_and_a_device_stays_one(runs):
    """/dev/full is a device with room for nothing."""
    (runs / "link.html").symlink_to("linked.html")
    done("explain", "lstm", "-o", "link.html", cwd=runs)
    assert (runs / "link.html").is_symlink()
    assert (runs / "linked.html").read_bytes().startswith(b"<!doctype html>")
    result = called("explain", "lstm", "-o", "/dev/full", cwd=runs)
    assert result.returncode == 2
    assert result.stderr.startswith("conveyor: /dev/full: No space left")
    assert Path("/dev/full").is_char_device()


def test_a_full_disk_costs_no_page(runs, one, capfd, monkeypatch):
    before = one.read_bytes()
    monkeypatch.chdir(runs)
    monkeypatch.setattr(sys, "argv", ["conveyor", "explain", "lstm", "-o", str(one)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # no file can grow longer
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.value.code == 2
    assert "one.html" in capfd.readouterr().err
    assert one.read_bytes() == before
    assert not list(runs.glob("*.tmp"))


def test_a_page_of_a_network_as_people_train_is_small():
    """Two layers of 256 units are a million weights, of 4 bytes each in full."""
    vocabulary = Vocabulary.of(bytes(range(32, 127)) + b"\n\t", "char")
    model = LanguageModel(len(vocabulary), CELLS["lstm"], 256, 2).eval()
    settings = Settings(hidden_size=256, num_layers=2, text=("none",))
    document = page([Trained(model, vocabulary, settings, Run(Path("none")), "")], "the cat sat on the mat.")
    assert len(document.encode()) < 6_000_000
