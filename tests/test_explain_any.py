"""Pages of models that conveyor has not made: read from their weights, equal to PyTorch, drawn on and edited."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from torch import nn

import conveyor
import foreign_models as foreign
from command import called
from conveyor import explain
from conveyor.compare.trial import Trial, TrialSettings
from conveyor.errors import BadInput
from conveyor.explain.page import assemble
from conveyor.explain.page.foreign import read
from conveyor.explain.page.sequences import sequences
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import run
from conveyor.training import train as training
from conveyor.training.progress import Progress
from conveyor.training.run import Run
from tiers import quick

pytestmark = pytest.mark.xdist_group("explain any")

BOUND = 1e-5
CHANNELS = [f"c{k + 1}" for k in range(12)]
# What the page has computed: of all steps the numbers that come out, as the page says them.
NUMBERS = """
const app = globalThis.conveyor, record = app.record(0), { length } = record;
const rows = Array.from({ length }, (_, t) => Array.from(record.probabilities(t)));
return Float64Array.from(rows.flat());
"""


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """The classifier, two series and the page."""
    torch.manual_seed(0)
    model = foreign.classifier()
    long = torch.cat([frames for frames, _ in foreign.utterances(12, seed=5)])[:200]
    short, speaker = next(foreign.utterances(1, seed=6))
    series = [explain.Series(long, CHANNELS), explain.Series(short, CHANNELS, truth=speaker, title="an utterance")]
    page = explain.page(model, series, explain.Classes(foreign.SPEAKERS))
    return model, long, page.save(tmp_path_factory.mktemp("any") / "speakers.html")


def shown(here, count):
    """What comes out in the page, [T, count]."""
    return here.browser.numbers(NUMBERS).reshape(-1, count)


@torch.no_grad()
def each_step(model, frames):
    """The classifier's probabilities after each frame, [T, 9]: as if the series ended there."""
    return np.stack([model(frames[None, : t + 1])[0].softmax(-1).numpy() for t in range(len(frames))])


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= BOUND


def test_a_classifier_of_series_is_that_of_pytorch(here, speakers, tmp_path):
    model, frames, file = speakers
    here.open(file)
    here.rest()
    assert_close(shown(here, 9), each_step(model, frames))
    here.shot("classifier", tmp_path)


def series(here, channels):
    """What the network reads in the page, in the units of the series, [T, channels]."""
    script = "return Float64Array.from(globalThis.conveyor.networks[0].runner.read(conveyor.state.text).values.flat());"
    return here.browser.numbers(script).reshape(-1, channels).copy()


def test_drawing_changes_what_comes_out_as_pytorch_says(here, speakers):
    """With the pointer on a curve; the steps in between are changed, too, and "original series" takes it back."""
    model, frames, file = speakers
    here.open(file)
    lane = here.find('[data-channel="2"] canvas')
    here.run("arguments[0].scrollIntoView({block: 'center'})", lane)
    chain = ActionChains(here.driver).move_to_element_with_offset(lane, -60, 0).click_and_hold()
    chain.move_by_offset(4, -12).move_by_offset(60, 8).release().perform()
    here.rest()
    drawn = series(here, 12)
    changed = (np.abs(drawn - frames.numpy()) > 1e-6).nonzero()
    assert set(changed[1]) == {2}
    assert len(changed[0]) > 8
    assert np.ptp(changed[0]) == len(changed[0]) - 1, "no step between is left out"
    found = shown(here, 9)
    assert_close(found, each_step(model, torch.from_numpy(drawn).float()))
    assert np.abs(found - each_step(model, frames)).max() > 1e-3
    address = here.address()
    here.click("#sequence .typing button.quiet:not([aria-label])")
    assert np.allclose(series(here, 12), frames.numpy())
    here.open(file, address)
    here.rest()
    assert (series(here, 12) == drawn).all(), "what is drawn is in the address"


def test_the_keyboard_alone_can_do_it(here, speakers):
    """Into the box of the value, number by number as one types; on a curve up and down; another channel."""
    model, frames, file = speakers
    here.open(file)
    here.press(Keys.HOME, "/")
    here.press("-", "1", ".", "5", Keys.ENTER, "2", Keys.ENTER, Keys.PAGE_DOWN, "0.25", Keys.ENTER)
    typed = frames.double().clone()
    typed[0, 0], typed[1, 0], typed[2, 1] = -1.5, 2.0, 0.25
    assert np.allclose(series(here, 12), typed.numpy())
    assert_close(shown(here, 9), each_step(model, typed.float()))
    here.press(Keys.ESCAPE)
    here.run("document.querySelector('[data-channel=\"4\"]').focus()")
    here.press(Keys.ARROW_UP, Keys.ARROW_UP, Keys.PAGE_UP, Keys.ARROW_RIGHT, "7")
    found = series(here, 12)
    assert found[3, 4] > typed[3, 4]
    assert found[4, 4] == 7
    assert_close(shown(here, 9), each_step(model, torch.from_numpy(found).float()))


def test_another_example_and_more_steps(here, speakers):
    model, _, file = speakers
    short, _ = next(foreign.utterances(1, seed=6))
    here.open(file)
    here.run("const box = document.querySelector('#example'); box.value = 1; box.dispatchEvent(new Event('change'))")
    here.rest()
    assert_close(shown(here, 9), each_step(model, short))
    assert here.text("#time output").startswith(f"{len(short)} of {len(short)}")
    assert here.run("return document.querySelector('#sequence .came').textContent") == "true"
    here.click("[aria-label^='one step more']")
    longer = torch.cat([short, short[-1:]])
    assert_close(shown(here, 9), each_step(model, longer))
    here.click("[aria-label^='take the last']")
    here.click("[aria-label^='take the last']")
    assert_close(shown(here, 9), each_step(model, short[:-1]))


def test_held_gates_and_cut_lines_of_a_foreign_model(here, speakers):
    _, frames, file = speakers
    edits = [Edit(1, "f", 0.0, first=50), Edit(0, "C", 0.5, unit=3, first=20, last=40)]
    here.open(file)
    here.run("conveyor.setEdits(arguments[0])", [edit.data for edit in edits])
    here.rest()
    model = read(speakers[0], explain.Series(frames, CHANNELS), layer=None, first=None, head=None)
    with torch.no_grad():
        expected = run(model, frames, edits).logits.softmax(-1).numpy()
    assert_close(shown(here, 9), expected)


# -- numbers


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    """The forecaster, a week of it and the page."""
    torch.manual_seed(0)
    model, mean, deviation = foreign.forecaster()
    week = foreign.temperatures(2400)[-200:]
    series = explain.Series(week, ["temperature"], "°F", mean, deviation)
    page = explain.page(model, series, explain.Numbers(["temperature"], next=True), title="Seattle")
    return model, week, mean, deviation, page.save(tmp_path_factory.mktemp("any") / "hours.html")


@torch.no_grad()
def forecast(model, values, mean, deviation):
    """[T, 1], in degrees."""
    normal = ((values.double() - mean) / deviation).float()
    return (model(normal[:, None, None])[:, 0].double() * deviation + mean).numpy()


def test_a_forecaster_is_that_of_pytorch_also_where_it_is_edited(here, hours, tmp_path):
    model, week, mean, deviation, file = hours
    here.open(file)
    here.rest()
    assert (np.abs(shown(here, 1) - forecast(model, week, mean, deviation)) / deviation).max() <= BOUND
    assert "°F" in here.run("return document.querySelector('.outcome-card .lane-label').textContent")
    here.shot("forecaster", tmp_path)
    here.press(Keys.HOME, *[Keys.ARROW_RIGHT] * 9, "/", "75", Keys.ENTER)
    warm = week.double().clone()
    warm[9] = 75
    assert (np.abs(shown(here, 1) - forecast(model, warm, mean, deviation)) / deviation).max() <= BOUND
    truths = here.run("return [8, 199].map((step) => conveyor.networks[0].truth(conveyor.state.text, step))")
    assert truths == [[75], None], "what is drawn is the truth of the step before"


def test_what_a_forecast_depends_on_is_the_gradient_of_pytorch(here, hours):
    """By each input, through two maps and the layer: how much the number moves, as the network reads and gives them."""
    model, week, mean, deviation, file = hours
    here.open(file, "s=60")
    script = "return Float64Array.from(conveyor.record(0).gradients(60, 0).byVector.map(([one]) => one))"
    found = here.browser.numbers(script)
    x = ((week.double() - mean) / deviation).float()[:61, None, None].requires_grad_()
    model(x)[-1, 0, 0].backward()
    assert np.abs(found - x.grad[:, 0, 0].numpy()).max() <= BOUND


# -- text


def test_a_language_model_in_plain_pytorch(here, tmp_path):
    torch.manual_seed(0)
    model, characters = foreign.speller()
    text = foreign.TEXT[:200]
    page = explain.page(model, explain.Text(text, characters))
    here.open(page.save(tmp_path / "speller.html"))
    here.rest()

    @torch.no_grad()
    def expected(text):
        return model(torch.tensor([[characters.index(one) for one in text]]))[0][0].softmax(-1).numpy()

    assert_close(shown(here, len(characters)), expected(text))
    here.type("the dogs that")
    assert_close(shown(here, len(characters)), expected("the dogs that"))
    best = characters[int(expected("the dogs that")[-1].argmax())]
    assert here.bars()[0][0] == {" ": "␣"}.get(best, best)


# -- what else there is


class Within(nn.Module):
    """A layer with something before it and after it, in a module of a module."""

    def __init__(self, layer, width):
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": layer})
        self.before = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU())
        self.after = nn.Sequential(nn.Linear(width, 6), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(6, 4))

    def forward(self, x):
        return self.after(self.encoder["rnn"](self.before(x))[0])


LAYERS = {
    "torch.nn.RNN": (lambda: nn.RNN(5, 7, nonlinearity="relu"), 7),
    "torch.nn.LSTM with a projection": (lambda: nn.LSTM(5, 8, num_layers=2, proj_size=3), 3),
    "a drop-in": (lambda: conveyor.GRU(5, 7, num_layers=2, bias=False, learn_initial_state=True), 7),
    "any cell": (lambda: conveyor.Recurrent(conveyor.zoo.PeepholeLSTM, 5, 7), 7),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", quick(LAYERS, ["torch.nn.LSTM with a projection", "any cell"]))
def test_any_layer_between_maps(name, here, tmp_path):
    make, width = LAYERS[name]
    model = Within(make(), width).eval()
    given = explain.Series(torch.randn(30, 3), mean=[0.5, -1, 0], deviation=2)
    places = {"first": "before", "head": model.after, "layer": "encoder.rnn"}
    here.open(explain.page(model, given, explain.Labels("abcd"), **places).save(tmp_path / "page.html"))
    here.rest()
    with torch.no_grad():
        assert_close(shown(here, 4), model(given.inputs[:, None])[:, 0].sigmoid().numpy())
    script = "return Float64Array.from(conveyor.record(0).gradients(29, 2).byVector.flatMap((row) => [...row]))"
    x = given.inputs[:, None].requires_grad_()
    nn.functional.logsigmoid(model(x)[-1, 0, 2]).backward()
    assert np.abs(here.browser.numbers(script) - x.grad.flatten().numpy()).max() <= BOUND


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_of_torch_is_a_layer(kind):
    cell = kind(3, 4)
    network = read(cell, explain.Series(torch.randn(9, 3)), layer=None, first=None, head=None)
    x, state = torch.randn(9, 3), None
    with torch.no_grad():
        found = run(network, x).logits
        for row, expected in zip(x, found, strict=True):
            state = cell(row[None], state)
            assert torch.allclose((state[0] if kind is nn.LSTMCell else state)[0], expected, atol=1e-6)


def test_two_models_side_by_side(here, speakers, tmp_path):
    model, frames, _ = speakers
    other = foreign.Classifier(hidden=10).eval()
    page = explain.page({"one": model, "other": other}, explain.Series(frames[:40]), explain.Classes(foreign.SPEAKERS))
    here.open(page.save(tmp_path / "two.html"), "c=1")
    here.rest()
    script = "return Float64Array.from(conveyor.record(1).probabilities(39))"
    with torch.no_grad():
        assert_close(here.browser.numbers(script), other(frames[None, :40])[0].softmax(-1).numpy())
    assert len(here.run("return [...document.querySelectorAll('#sequence .outcome-card')]")) == 2


def test_every_depth_and_the_tour_of_a_series(here, hours, tmp_path):
    """Nothing in them speaks of a text, or fails."""
    *_, file = hours
    here.open(file, "s=100")
    for depth in ("cell", "unit", "sequence"):
        here.click(f"[data-depth={depth}]")
        assert " text" not in here.text(f"#{depth}").replace("text box", "")
        here.shot(f"forecaster {depth}", tmp_path)
    here.click("#open-tour")
    for _ in range(20):
        here.rest()
        said = here.text("#tour")
        assert "the text" not in said, said
        assert "token" not in said, said
        if "Leave the tour" in said:
            break
        here.press("n")
    else:
        pytest.fail("the tour has no end")


def test_frames_of_music_are_a_picture(here, tmp_path):
    """Notes that are there or not: drawn with the pointer, and one of them typed."""
    notes = (torch.rand(40, 30) < 0.1).float()
    model = nn.ModuleDict({"rnn": nn.GRU(30, 12), "head": nn.Linear(12, 30)})
    names = [f"note {k}" for k in range(30)]
    given = explain.Series(notes, names, truth=torch.cat([notes[1:], notes[:1]]))
    page = explain.page(model, given, explain.Labels(names), check=False)
    here.open(page.save(tmp_path / "music.html"), "s=5")
    here.rest()
    here.press("/", "1")
    found = series(here, 30)
    changed = notes.clone()
    changed[5, 0] = 1
    assert (found == changed.numpy()).all()
    with torch.no_grad():
        expected = model["head"](model["rnn"](changed[:, None])[0])[:, 0].sigmoid()
    assert_close(shown(here, 30), expected.numpy())
    here.shot("music", tmp_path)


# -- what cannot be shown


class Pooled(foreign.Forecaster):
    def forward(self, x):
        return self.out(self.gru(x)[0].mean(0))


GIVEN = explain.Series(np.ones((5, 3)))
BAD = [
    (nn.Linear(3, 3), {}, "must have one recurrent layer; there is none in it"),
    (nn.ModuleList([nn.GRU(3, 3), nn.LSTM(3, 3)]), {}, r"it has 0 \(GRU\), 1 \(LSTM\): name the one that is meant"),
    (nn.ModuleDict({"rnn": nn.GRU(3, 3)}), {"layer": "lstm"}, "has no such module; it has rnn"),
    (nn.GRU(3, 3, bidirectional=True), {}, "the layer is bidirectional: it reads the whole sequence"),
    (nn.GRU(4, 3), {}, "the series has 3 channels, but the layer reads 4 numbers"),
    (nn.ModuleDict({"rnn": nn.GRU(3, 3), "a": nn.Linear(3, 2), "b": nn.Linear(3, 2)}), {}, "there are several: a, b"),
    (
        nn.ModuleDict({"rnn": nn.GRU(3, 3), "a": nn.Conv1d(3, 2, 1)}),
        {"head": "a"},
        "a is a Conv1d, which a page cannot",
    ),
    (
        nn.ModuleDict({"rnn": nn.GRU(3, 3), "a": nn.Linear(3, 4)}),
        {"head": "a"},
        "gives 4 numbers, but the outputs",
    ),
]


@pytest.mark.parametrize(("model", "places", "message"), BAD)
def test_a_model_that_cannot_be_shown_is_told(model, places, message):
    with pytest.raises(BadInput, match=message):
        explain.page(model, GIVEN, explain.Numbers(["a", "b"]), check=False, **places)


def test_a_model_that_does_more_than_is_shown_is_told():
    with pytest.raises(BadInput, match=r"Pooled gives other numbers than its layer .* such as pooling over time"):
        explain.page(Pooled(), np.random.default_rng(0).normal(size=50), explain.Numbers(["a"]))
    with pytest.warns(UserWarning, match="not compared with the model"):
        explain.page(nn.ModuleDict({"rnn": nn.GRU(3, 3), "head": nn.Linear(3, 2)}), GIVEN, explain.Numbers(["a", "b"]))


def test_weights_that_are_too_large_are_told(monkeypatch):
    monkeypatch.setattr(assemble, "LARGEST", 0.001)
    with pytest.raises(BadInput, match=r"GRU has 0 MB of weights, and a page in one file holds 0.001 MB: show"):
        explain.page(nn.GRU(3, 10), GIVEN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: explain.Series([[1, 2], [3, float("nan")]], ["a", "b"]), "b is nan at step 2 of 2: a network needs"),
        (lambda: explain.Series(np.ones((4, 2)), ["a"]), "the series has 2 channels, but 1 names: a"),
        (lambda: explain.Series(np.ones((4, 2)), ["a", "a"]), "two channels are called a"),
        (lambda: explain.Series(np.ones((4, 2)), deviation=0), "a deviation is 0 or negative"),
        (lambda: explain.Series(np.ones((4, 2, 2))), r"a series is \[T, channels\]"),
        (lambda: explain.Series(["a"]), "the values of a series must be numbers"),
        (lambda: explain.Text("abz", "ab"), "the symbols have no 'z'"),
        (lambda: explain.Text("", "ab"), "the text is empty"),
        (lambda: explain.Classes([]), "the outputs have no names"),
        (lambda: sequences([np.ones((4, 2)), np.ones((4, 3))]), "but number 2 has input 1, input 2, input 3"),
        (lambda: sequences(np.ones((6000, 1))), "a page runs 5,000 steps at most, and this series has 6,000"),
        (lambda: explain.Numbers(["x"], next=True).data(GIVEN), "the series has no channel x"),
        (lambda: explain.Classes("ab").truth(explain.Series([1, 2], truth="c")), "the truth is c, which is no class"),
        (lambda: explain.Labels("ab").truth(explain.Series([1, 2], truth=[[1, 0]])), "has 2 steps, but its truth 1"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(BadInput, match=message):
        make()


# -- colours


def test_colours_keep_their_contrast_where_one_unit_is_far_larger(here, tmp_path):
    """They end where nearly all units do; the legend names the unit that goes on, and how far; its curve has room."""
    layer = nn.RNN(1, 40, nonlinearity="relu")
    with torch.no_grad():
        layer.bias_ih_l0[17] = 900.0
    page = explain.page(layer, explain.Series(torch.randn(100, 1)), title="far")
    here.open(page.save(tmp_path / "far.html"), "p=0.0.17")
    named = "conveyor.networks[0].named(0)[0]"
    here.run(f"conveyor.pick({{ part: {named}, unit: 17 }})")
    here.rest()
    scale = here.run(f"return conveyor.networks[0].scale(conveyor.record(0), 0, {named})")
    with torch.no_grad():
        values = layer(torch.from_numpy(series(here, 1)).float())[0]
    others = values[:, [unit for unit in range(40) if unit != 17]].abs().max()
    assert others <= scale["high"] <= 6 * others
    beyond = scale["beyond"]
    assert (beyond["count"], beyond["units"], beyond["unit"]) == (1, 40, 17)
    assert beyond["high"] == pytest.approx(float(values.max()), rel=1e-5)
    assert "1 of 40 units go beyond, [17] the farthest" in here.text(".score-card .legend")
    points = here.run("return document.querySelector('.curve polyline').getAttribute('points')").split()
    assert all(0 <= float(point.split(",")[1]) <= 54 for point in points)
    here.shot("far", tmp_path)


# -- the command line


TRAINED = {"a": [0.1, 0.4, -0.2, 0.3, 0.9, -1.0], "b": [1.0, 0.0, 2.0, 0.5, 0.1, 0.2]}


@pytest.fixture
def table(tmp_path):
    rows = zip(*TRAINED.values(), ["x", "y", "x", "x", "y", "y"], strict=True)
    file = tmp_path / "series.csv"
    file.write_text("a,b,kind\n" + "\n".join(",".join(map(str, row)) for row in rows))
    return file


SAVED = {
    "torch.nn": (lambda: nn.ModuleDict({"rnn": nn.GRU(2, 6, num_layers=2), "fc": nn.Linear(6, 2)}), "gru", ".pt"),
    "any cell": (
        lambda: nn.ModuleDict({"rnn": conveyor.Recurrent(conveyor.zoo.PeepholeLSTM, 2, 6), "fc": nn.Linear(6, 2)}),
        "lstm-peephole",
        ".safetensors",
    ),
}


@pytest.mark.parametrize("name", SAVED)
def test_weights_out_of_a_file_and_a_table(name, here, table, tmp_path):
    make, cell, suffix = SAVED[name]
    model, file = make(), tmp_path / f"model{suffix}"
    save_file(model.state_dict(), file) if suffix == ".safetensors" else torch.save(model.state_dict(), file)
    arguments = ["--weights", file, "--cell", cell, "--data", table, "-o", tmp_path / "page.html"]
    assert called("explain", *arguments, "--target", "kind", "--gives", "classes", cwd=tmp_path).returncode == 0
    here.open(tmp_path / "page.html")
    here.rest()
    x = torch.tensor(list(TRAINED.values())).t()
    with torch.no_grad():
        assert_close(shown(here, 2), model["fc"](model["rnn"](x[:, None])[0])[:, 0].softmax(-1).numpy())
    assert here.run("return conveyor.networks[0].truth('', 1)") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cell", "lstm"], "weight_hh_l0 has 18 rows for 6 units, as a gru has"),
        (["--cell", "gru", "--inputs", "a"], "the series has 1 channels, but the layer reads 2 numbers"),
        (["--cell", "gru", "--inputs", "a,c"], "has no column c"),
        (["--cell", "gru", "--inputs", "a,kind"], "column kind is 'x', not a finite number"),
        (["--cell", "gru", "--head", "out"], "has no map out from 6 numbers"),
        (["--cell", "gru", "--gives", "classes"], "--gives classes needs --target"),
        (["--cell", "gru", "--gives", "all"], "--gives is next, numbers, classes, not all"),
    ],
)
def test_what_does_not_fit_on_the_command_line_is_told(arguments, message, table, tmp_path):
    file = tmp_path / "model.pt"
    torch.save(SAVED["torch.nn"][0]().state_dict(), file)
    result = called("explain", "--weights", file, "--data", table, *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_file_of_something_else_is_told(table, tmp_path):
    result = called("explain", "--weights", table, "--data", table, cwd=tmp_path)
    assert result.returncode == 2
    assert "holds no weights" in result.stderr
    assert "--weights requires --data" in called("explain", "--weights", table, cwd=tmp_path).stderr
    assert "--data requires --weights" in called("explain", "--data", table, cwd=tmp_path).stderr


def test_a_trial_of_a_comparison_is_shown(here, tmp_path):
    settings = TrialSettings(task="lag:3", cell="gru", hidden_size=8, steps=4, batch_size=4, device="cpu")
    training.start(Trial, settings, tmp_path / "trial", Progress())
    assert called("explain", tmp_path / "trial", "-o", tmp_path / "page.html", cwd=tmp_path).returncode == 0
    here.open(tmp_path / "page.html")
    here.rest()
    job = Trial(settings)
    job.model.load_state_dict(Run(tmp_path / "trial").read_model()[0])
    batch = job.task.held_out("test", 6)
    with torch.no_grad():
        expected = job.model.eval()(batch.inputs, batch.lengths)[: batch.lengths[0], 0].softmax(-1)
    assert_close(shown(here, job.task.output_size), expected.numpy())
