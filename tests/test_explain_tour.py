"""The guided tour in a real browser: from start to end by keyboard, what it lights, what it says in figures."""

import json
import re
from math import sqrt
from pathlib import Path

import pytest
import torch
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from conveyor.explain.measure.units import MARGIN, units
from conveyor.explain.page import example as examples
from conveyor.explain.page.assemble import opening, page
from conveyor.explain.page.gradient_decay import gradient_decay
from conveyor.explain.page.variants import SHOWN, variants
from conveyor.explain.page.walk import walk
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import run as interpreted
from conveyor.explain.running.layers import traced_layers
from conveyor.explain.running.model import Model
from conveyor.language.job import Language
from conveyor.language.model import LanguageModel
from conveyor.language.settings import Settings
from conveyor.language.trained import Trained, load
from conveyor.tasks.text import Vocabulary
from conveyor.training import train as training
from conveyor.training.progress import Progress
from conveyor.training.run import Run
from conveyor.zoo import CELLS
from test_explain_page import HOSTILE, percent
from test_explain_walk import Own
from tiers import slow

pytestmark = pytest.mark.xdist_group("explain tour")

TEXT = "the cat sat on the mat. a cat sat."
AROUND = ("loop-unrolled", "long-spans"), ("units", "variants", "next")
KINDS = {name: CELLS[name] for name in ("lstm", "gru", "rnn")} | {"own": Own}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("tour")


def untrained(name, home, layers=1):
    torch.manual_seed(5)
    vocabulary = Vocabulary.of((TEXT + HOSTILE).encode(), "char")
    model = LanguageModel(len(vocabulary), KINDS[name], 8, layers).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    settings = Settings(cell=name, hidden_size=8, num_layers=layers, text=(str(home / "none"),))
    return Trained(model, vocabulary, settings, Run(home / name), "")


@pytest.fixture(scope="module")
def models(home):
    (home / "none").write_text("none")
    return {name: untrained(name, home, layers=2 if name == "gru" else 1) for name in KINDS}


def decay(trained):
    """As the page has it, of its first text."""
    return gradient_decay(Model.of(trained.model), trained.vocabulary.encode(TEXT.encode()))


def written(home, name, runs, text=TEXT):
    file = home / f"{name}.html"
    file.write_text(page(runs, text), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def agreement(home):
    """A model that has learnt the sentences for some seconds."""
    small = {"hidden_size": 24, "embedding_size": 32, "dropout": 0.0, "steps": 700, "evaluate_every": 700}
    small |= {"lr": 0.01, "seed": 2}
    settings = Settings(text=("agreement",), tokens="word", device="cpu", threads=1, **small)
    training.start(Language, settings, home / "agreement", Progress())
    return load(home / "agreement")


SCENE = "document.getElementById('middle').dataset.scene"
LIT = """
const cell = document.querySelector('#cell svg.diagram');
const parts = [...cell.querySelectorAll('g.part.lit:not([data-end])')].map((one) => Number(one.dataset.part));
const wires = [...cell.querySelectorAll('path.wire.lit')].map((one) => one.dataset.wire.split(' '));
const pale = [...cell.querySelectorAll('g.part.pale:not([data-end])')].map((one) => Number(one.dataset.part));
return [parts, wires, pale];
"""


def scene(here):
    return here.run(f"return {SCENE}")


# -- from start to end


@pytest.mark.parametrize("name", KINDS)
def test_the_tour_by_keyboard(here, models, home, name):
    """Each scene comes; in the cell exactly its parts and lines are lit, and its formulas are written."""
    circuit = traced_layers(models[name].model)[-1].circuit
    scenes = {one["id"]: one for one in walk(circuit)}
    order = [*AROUND[0], *scenes, *AROUND[1]]
    here.open(written(home, name, [models[name]]))
    here.press("t")
    for k, wanted in enumerate(order):
        here.rest()
        assert scene(here) == wanted
        assert here.run("return document.activeElement.id") == "tour-next"
        assert here.run("return document.querySelectorAll('.tour-progress li').length") == len(order)
        if wanted in scenes:
            check_light(here, scenes[wanted], len(circuit.parts))
        if k in (1, 4):
            assert f"tour={k}" in here.address()
        here.press(Keys.ENTER)
    assert here.run("return document.getElementById('tour').hidden")
    assert here.run("return document.activeElement.id") == "open-tour"
    here.click("[data-depth=cell]")
    assert not here.driver.find_elements(By.CSS_SELECTOR, "#cell .lit.part, #cell .pale.part")


def check_light(here, wanted, count):
    parts, wires, pale = here.run(LIT)
    assert sorted(set(parts)) == wanted["parts"]
    assert set(pale) == set(range(count)) - set(wanted["parts"])
    assert wires or not wanted["wires"]
    lit = {name for names in wires for name in names}
    assert set(wanted["wires"]) <= lit
    for names in wires:  # a piece that several lines share is lit for one of them
        assert set(names) & set(wanted["wires"])
    shown = here.run("return [...document.querySelectorAll('#tour .tour-formula')].map((one) => one.dataset.equation)")
    assert [int(k) for k in shown] == wanted["equations"]


def test_back_leave_and_come_again(here, models, home):
    file = written(home, "lstm", [models["lstm"]])
    here.open(file)
    here.press("t").press("n", "n", "n")
    assert scene(here) == "keep f"
    here.press("b")
    assert scene(here) == "belt C"
    here.press(Keys.ESCAPE)
    assert here.run("return document.getElementById('tour').hidden")
    assert here.run("return document.getElementById('cell').hidden") is False
    here.press("t")
    assert scene(here) == "belt C"
    address = here.address()
    here.open(file, address)
    here.rest()
    assert scene(here) == "belt C"
    here.click(".tour-progress li:nth-child(4) button")
    assert scene(here) == "keep f"
    here.driver.back()
    here.rest()
    assert scene(here) == "belt C"


def test_an_address_that_leads_nowhere(here, models, home):
    file = written(home, "rnn", [models["rnn"]])
    here.open(file, "o=tour&tour=999")
    here.rest()
    assert scene(here) == "next"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_the_tour_on_a_screen(here, models, home, tmp_path, width, scheme):
    with here.screen(width, scheme=scheme):
        here.open(written(home, "lstm", [models["lstm"]]))
        here.press("t")
        for k in range(10):
            here.rest()
            assert here.run("return document.documentElement.scrollWidth <= innerWidth"), scene(here)
            here.shot(f"tour-{width}-{k}", tmp_path)
            here.press("n")


def test_a_text_of_markup_is_text(here, models, home):
    here.open(written(home, "hostile", [models["lstm"]], HOSTILE))
    here.press("t")
    for _ in range(10):
        here.rest()
        assert here.run("return window.hacked === undefined && !document.querySelector('#tour img, #tour script')")
        here.press("n")


# -- what it shows


def probabilities(trained, text, edits=()):
    with torch.no_grad():
        tokens = trained.vocabulary.encode(text.encode())
        return interpreted(trained.model, tokens, edits).logits.softmax(-1)


def test_something_is_tried_and_taken_back(here, models, home):
    trained = models["lstm"]
    here.open(written(home, "lstm", [trained]), "o=tour&tour=3")
    here.rest()
    assert here.text(".try").startswith("hold f at 0")
    here.click(".try")
    best = probabilities(trained, TEXT, [Edit(0, "f", 0.0)])[-1].topk(3)
    rows = [row.text.split() for row in here.driver.find_elements(By.CSS_SELECTOR, ".consequence p")]
    assert [row[0] for row in rows] == ["expected", "now"]
    assert rows[1][3::2] == [percent(float(share)) for share in best.values]
    assert here.run("return document.querySelector('.try').getAttribute('aria-pressed')") == "true"
    here.click(".take-back")
    assert len(here.driver.find_elements(By.CSS_SELECTOR, ".consequence p")) == 1
    here.click(".try").press("n")  # the next scene does not inherit it
    assert "e=" not in here.address()


def gradients(trained, text, state, at, emptied=None):
    """Of the likeliest token's log-probability by a state after each step, as it is handed on; the latest first.

    Norms. At the step `emptied` the memory of an LSTM comes in as zeros.
    """
    model, now, kept = trained.model, None, []
    tokens = trained.vocabulary.encode(text.encode())[: at + 1]
    for step, x in enumerate(model.embedding(tokens).detach()):
        if now is not None:
            now = tuple(value.clone() for value in (now if isinstance(now, tuple) else (now,)))  # for this step alone
            kept.append(now[model.rnn.state_names.index(state)])
            now = (now[0], torch.zeros_like(now[1])) if step == emptied else now if len(now) > 1 else now[0]
        output, now, *_ = model.rnn.step(x[None], now)
    weight = model.embedding.weight if model.tied else model.output
    best = torch.nn.functional.linear(output, weight, model.bias).log_softmax(-1).max()
    found = torch.autograd.grad(best, kept, materialize_grads=True)
    return [float(gradient.norm()) for gradient in reversed(found)]


def test_the_curves_are_the_gradients(here, models, home):
    """Of both networks live, and those of new networks as flow.py has them."""
    runs = [models["lstm"], models["rnn"]]
    here.open(written(home, "two", runs), "o=tour&tour=1")
    here.rest()
    at = len(TEXT) - 1
    legend = [item.text for item in here.driver.find_elements(By.CSS_SELECTOR, ".curve-legend li")]
    for trained, state, shown in zip(runs, ("C", "h"), legend, strict=False):
        norms = gradients(trained, TEXT, state, at)
        assert f"after 10 steps {percent(norms[9] / norms[0])}" in shown
    for one, shown in zip(decay(runs[0]), legend[2:], strict=True):
        assert shown.startswith(f"{one['name']} (new)")
        assert f"after 10 steps {percent(one['left'][9])}" in shown
    lines = here.run("return [...document.querySelectorAll('.curve-line')].map((one) => one.getAttribute('points'))")
    assert [len(line.split()) for line in lines[:2]] == [at, at]
    heights = [float(point.split(",")[1]) for point in lines[2].split()]
    assert heights == sorted(heights)  # an RNN that has learnt nothing: the past fades with every step


def test_the_curve_of_a_long_text(here, models, home):
    """Only the last 300 steps are asked about; edits act where they act."""
    trained, text = models["lstm"], TEXT * 12
    at = len(text) - 1
    file = written(home, "long", [trained], text)
    shown = []
    for emptied, edits in (
        (None, "[[]]"),
        (at - 5, f'[[{{"layer":0,"part":2,"value":0,"first":{at - 5},"last":{at - 5}}}]]'),
    ):
        here.open(file, f"o=tour&tour=1&e={edits}")
        here.rest().wait(f"document.querySelector('.tour-figure').textContent.includes('step {len(text)}')")
        norms = gradients(trained, text, "C", at, emptied)
        shown.append(here.text(".curve-legend li"))
        assert f"after 10 steps {percent(norms[9] / norms[0])}" in shown[-1]
    assert shown[0] != shown[1]
    line = here.run("return document.querySelector('.curve-line').getAttribute('points')")
    assert len(line.split()) == 299  # nothing reads the memory that was put away, and zero has no place


def test_new_networks_forget_as_is_known(models):
    """What the scene says: by a constant factor a step, and far more slowly where the forget gates are open."""
    rnn, lstm, opened = (one["left"] for one in decay(models["lstm"]))
    assert rnn[40] < 1e-6
    assert opened[40] > 100 * max(rnn[40], lstm[40])
    ratio = (rnn[40] / rnn[20]) ** (1 / 20)
    assert 0.3 < ratio < 0.8
    assert sqrt(rnn[10] / rnn[2]) == pytest.approx(ratio**4, rel=0.5)


def test_the_numbers_of_the_present_step(here, models, home):
    trained = models["lstm"]
    here.open(written(home, "lstm", [trained]), "o=tour&tour=3&s=6&p=0.3.2")
    here.rest()
    with torch.no_grad():
        record = interpreted(trained.model, trained.vocabulary.encode(TEXT.encode()))
    f, C = (float(record.value(0, name)[t, 2]) for name, t in (("f", 6), ("C", 5)))
    shown = here.text(".now-numbers").replace("\n", " ")
    assert f"{f:.2f}" in shown
    assert f"{C:.2f}".replace("-", "−") in shown


def test_the_variants_light_what_the_lstm_has_not(here, models, home):
    here.open(written(home, "gru", [models["gru"]]), f"o=tour&tour={2 + 5 + 1}")
    here.rest()
    assert scene(here) == "variants"
    known = {variant["id"]: variant for variant in variants()}
    script = """return [
      [...document.querySelectorAll('.variant g.part.lit')].map((one) => Number(one.dataset.part)),
      [...document.querySelectorAll('.variant-equations li')].map((one) => one.classList.contains('changed')),
      [...document.querySelectorAll('.variant path.wire.lit')].map((one) => one.dataset.wire.split(' '))]"""
    for name in SHOWN:
        here.click(f".tour-choice [data-id={name}]")
        parts, changed, wires = here.run(script)
        variant = known[name]
        assert sorted(set(parts)) == variant["parts"]
        assert changed == [equation["changed"] for equation in variant["equations"]]
        assert set(variant["wires"]) <= {wire for names in wires for wire in names}
        gone = here.driver.find_elements(By.CSS_SELECTOR, ".gone s")
        assert len(gone) == len(variant["gone"])
    here.click(".tour-choice [data-id=own]")
    assert all(here.run(script)[1])  # a GRU has no equation of the LSTM's


# -- the number of the subject


@slow
def test_the_unit_of_the_subjects_number(here, agreement, home):
    here.open(written(home, "number", [agreement], None), "o=tour&tour=7")
    here.rest()
    assert scene(here) == "number"
    assert here.find("#text").get_attribute("value") == examples.TEXT
    found = examples.example(agreement)
    assert found["unit"]["score"] > found["unit"]["chance"]
    says = here.text(".tour-says")
    assert f"[{found['unit']['index']}]" in says
    rates = found["rates"]
    assert f"the main verbs of {rates['verbs']} new sentences" in says
    apart = rates["apart"]
    assert f"Of the {apart['verbs']} main verbs with at least one noun between" in says
    assert 0 < apart["verbs"] < rates["verbs"]
    shares = [part[when] for part in (rates, apart) for when in ("before", "after")]
    for share in (*shares, rates["others"], found["unit"]["score"]):
        assert percent(share) in says
    kinds = here.run("return [...document.querySelectorAll('.along-column')].map((one) => one.dataset.kind)")
    words = re.findall(r"\S+|\n", examples.TEXT)
    told = {word: kind for word, kind in zip(words, kinds, strict=True) if kind}
    assert told == {"keys": "subject", "cabinet": "attractor", "door": "attractor", "are": "verb"} | {
        "child": "subject",
        "swims": "verb",
    }
    check_verbs(here, agreement)
    here.click(".try")
    edit = Edit(**{key: value for key, value in found["edit"].items() if key != "gate"})
    check_verbs(here, agreement, [edit])
    here.click(".take-back")
    check_verbs(here, agreement)


def check_verbs(here, trained, edits=()):
    """The table has the forms' probabilities before their verbs, and the verdict is what they say."""
    shares, symbols = probabilities(trained, examples.TEXT, edits), trained.vocabulary.symbols
    words = re.findall(r" ?\w+| ?[^\w\s]+|\s", examples.TEXT)
    rows = [row.text.split() for row in here.driver.find_elements(By.CSS_SELECTOR, ".verb-table tbody tr")]
    right = []
    for row, (form, other) in zip(rows, (("are", "is"), ("swims", "swim")), strict=True):
        before = shares[words.index(f" {form}") - 1]
        one, two = (float(before[symbols.index(f" {word}")]) for word in (form, other))
        assert row[:2] == [form, other]
        assert " ".join(row[-4:]) == f"{percent(one)} : {percent(two)} {'✓' if one > two else '✗'}"
        right.append(one > two)
    verdict = here.text(".verdict")
    assert ("would write" in verdict or "is wrong here" in verdict) != all(right)


@slow
def test_forgetting_makes_verbs_wrong(agreement):
    """More than of any usual unit, and the sentences that are shown are such."""
    found = examples.example(agreement)
    rates = found["rates"]
    assert found["unit"]["score"] > 0.8
    assert rates["after"] > max(rates["before"], rates["others"]) + 0.1
    assert len(found["turned"]) == 3
    edit = Edit(**{key: value for key, value in found["edit"].items() if key != "gate"})
    numbers = {symbol: k for k, symbol in enumerate(agreement.vocabulary.symbols)}
    for sentence in found["turned"]:
        words = sentence.split()
        verbs = [k for k, word in enumerate(words) if word in found["others"]][-1:]
        tokens = agreement.vocabulary.encode(f"\n{sentence}".encode())
        with torch.no_grad():
            plain, edited = (interpreted(agreement.model, tokens, e).logits for e in ((), (edit,)))
        forms = [(k, numbers[f" {words[k]}"], numbers[f" {found['others'][words[k]]}"]) for k in verbs]
        assert all(plain[k, form] > plain[k, other] for k, form, other in forms)
        assert any(edited[k, form] <= edited[k, other] for k, form, other in forms)


README = "the keys to the cabinet near the door are old ."


@slow
def test_a_page_of_such_sentences_opens_before_the_main_verb(here, agreement, home):
    """With the unit of the number chosen; so does the scene, where the edit turns what is expected."""
    for text, step in ((README, 7), ("\nthe dog that the cats see swims .\n" + README, 6), ("the keys to", 2)):
        assert examples.opening_step(text, agreement.vocabulary) == step
    file = written(home, "readme", [agreement], README)
    found, (start,) = examples.example(agreement), re.findall(r'"start": ?(\{.*?\})', file.read_text())
    assert json.loads(start)["unit"] == found["unit"]["index"]
    assert re.search(r'"step": ?7\b', file.read_text())
    here.open(file, "o=tour&tour=7&s=1")
    here.rest().click(".try")
    edit = Edit(**{key: value for key, value in found["edit"].items() if key != "gate"})
    rows = [row.text.split() for row in here.driver.find_elements(By.CSS_SELECTOR, ".consequence p")]
    for row, edits in zip(rows, ((), (edit,)), strict=True):
        best = probabilities(agreement, README, edits)[7].argmax()
        assert row[1 + len(edits)] == agreement.vocabulary.symbols[best].replace(" ", "␣")  # "now expects"
    assert "&s=" not in here.address()  # it is where the page begins
    here.press("n", "n")
    assert scene(here) == "next"
    assert "how often verbs go wrong" in here.text(".tour-says")


@slow
def test_a_unit_is_there_once_and_above_chance_by_a_margin(agreement):
    for label, found in units(agreement, agreement.tokens()[0], ["main subject number"], top=99).items():
        assert found, label
        assert len({(unit.layer, unit.index) for unit in found}) == len(found)
        assert all(unit.score > unit.chance + MARGIN for unit in found)


def english(words):
    """A model that knows these words, and has learnt nothing."""
    vocabulary = Vocabulary.of(words.encode(), "word")
    model = LanguageModel(len(vocabulary), CELLS["lstm"], 4, 1).eval()
    return Trained(model, vocabulary, Settings(hidden_size=4, tokens="word", text=("none",)), Run(Path("none")), "")


def test_a_few_words_of_english_are_not_the_corpus():
    trained = english(f"{examples.TEXT} that is key keys")
    assert examples.example(trained) is None
    assert examples.opening(trained.vocabulary) is None
    assert examples.opening_step(README, trained.vocabulary) == len(README.split()) - 1


def test_what_cannot_be_measured_makes_no_scene():
    """It knows the words, but not their other forms."""
    trained = english(" ".join(["", *sorted(examples.WORDS)]))
    assert examples.is_of_agreement(trained.vocabulary)
    assert examples.example(trained) is None


def test_the_opening_of_a_model_of_words_is_what_stands_in_the_text(tmp_path):
    """From a line's beginning, with words that it knows."""
    line = "the cat sat on the mat and then the cat sat on the mat again.\n"
    (tmp_path / "text").write_text(line * 200 + "a newt\n" + line * 6)
    small = {"hidden_size": 4, "steps": 2, "window": 8, "batch_size": 2, "device": "cpu", "threads": 1}
    settings = Settings(text=(str(tmp_path / "text"),), tokens="word", **small)
    training.start(Language, settings, tmp_path / "run", Progress())
    trained = load(tmp_path / "run")
    found = opening(trained)
    assert found in (tmp_path / "text").read_text()
    assert found.startswith("the cat")
    assert len(found) > 100
    assert (trained.vocabulary.encode(found.encode()) > 0).all()


def test_other_models_have_no_such_unit(models):
    assert examples.example(models["lstm"]) is None
    assert examples.opening(models["lstm"].vocabulary) is None


def test_the_tour_of_another_network(here, models, home):
    """It begins anew in the other's cell, and what was tried in the first is taken back."""
    here.open(written(home, "two", [models["lstm"], models["rnn"]]), "o=tour&tour=3")
    here.rest().click(".try")
    assert "e=" in here.address()
    here.run(
        "const choice = document.querySelector('#tools select'); choice.value = 1;"
        "choice.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    here.rest()
    assert scene(here) == "give h_t"
    assert "e=" not in here.address()
    circuit = traced_layers(models["rnn"].model)[-1].circuit
    check_light(here, walk(circuit)[1], len(circuit.parts))
