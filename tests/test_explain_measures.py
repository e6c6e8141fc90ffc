"""Recording and measuring a language model: each measure against its definition, computed the long way."""

import itertools
from random import Random

import number_unit
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import conveyor
from conveyor import zoo
from conveyor.errors import BadInput
from conveyor.explain.measure import labels, scores
from conveyor.explain.measure.connectivity import connectivity
from conveyor.explain.measure.flow import gradient_flow
from conveyor.explain.measure.gates import gates, saturation
from conveyor.explain.measure.labels import label
from conveyor.explain.measure.record import read_through, record, values_along
from conveyor.explain.measure.similar import find_similar, pattern
from conveyor.explain.measure.units import units
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import run
from conveyor.language import LanguageModel
from conveyor.language.settings import Settings
from conveyor.language.trained import Trained
from conveyor.tasks.agreement import sentence, verbs_of
from conveyor.tasks.text import KINDS, Vocabulary
from tiers import slow
from tolerance import assert_equal

CELLS = [zoo.LSTM, zoo.GRU, zoo.ClockworkRNN]  # of two states, of one, and one that counts its steps
LETTERS = 'ab"(\n )'
SYMBOLS = tuple(sorted(LETTERS))


def model(cell=zoo.LSTM, kinds=7, **options):
    options = {"hidden_size": 8, "num_layers": 2, "dropout": 0.5} | options
    return LanguageModel(kinds, cell, **options).double().train()


def trained(network, kind="char", symbols=SYMBOLS):
    return Trained(network, Vocabulary(kind, symbols), Settings(), None, "")


def tokens(length, kinds=7):
    return torch.randint(kinds, (length,), generator=torch.Generator().manual_seed(length))


# --- recording ---


@pytest.mark.parametrize("cell", CELLS)
def test_a_recording_is_what_the_layer_computes(cell):
    network, text = model(cell), tokens(9)
    found = record(network, text)
    assert network.training
    network.eval()
    output, _, values = network.rnn(network.embedding(text)[:, None], record=True)
    assert set(found.values) == set(values) >= set(network.rnn.state_names)
    for name, layers in found.values.items():
        for layer in range(2):
            assert_equal(layers[layer], values[name][layer][0, :, 0], name)
    assert_equal(found.values["h"][1], output[:, 0])
    assert_equal(found.log_probs, network(text[:, None])[0][:, 0].log_softmax(-1))
    assert_equal(found.token_log_probs, found.log_probs[torch.arange(8), text[1:]])
    likely, chances = found.likeliest(3)
    assert_equal(chances, found.log_probs.exp().gather(-1, likely))
    assert torch.equal(likely[:, 0], found.log_probs.argmax(-1))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_recorded_side_by_side_and_a_state_goes_on(cell):
    network, text = model(cell), tokens(24).view(12, 2)
    both = record(network, text)
    for row in range(2):
        one = record(network, text[:, row])
        assert_equal(both.log_probs[:, row], one.log_probs)
        for name, layers in one.values.items():
            assert_equal(both.values[name][0][:, row], layers[0], name)
    first = record(network, text[:5, 0])
    second = record(network, text[5:, 0], first.state, start=5)
    assert_equal(torch.cat([first.log_probs, second.log_probs]), both.log_probs[:, 0])


def test_a_trained_model_records_a_text():
    network = trained(model())
    found = record(network, 'a "b"')
    assert found.texts == tuple('a "b"')
    assert_equal(found.log_probs, record(network.model, found.tokens).log_probs)
    in_bytes = trained(model(kinds=256), "byte", ())
    assert record(in_bytes, "aü").texts == ("a", "\\xc3", "\\xbc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (torch.tensor([7]), "0 to 6, not 7"),
        (torch.tensor([-1]), "0 to 6"),
        (torch.ones(3), "integers"),
        (torch.tensor(3), "integers"),
        ("x", "never saw 'x'"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(text, message):
    for measure in (record, saturation, connectivity):
        with pytest.raises(BadInput, match=message):
            measure(trained(model()), text)


def test_what_a_model_cannot_be_asked_is_told():
    with pytest.raises(BadInput, match="vocabulary"):
        record(model(), "ab")
    with pytest.raises(BadInput, match="bidirectional"):
        record(model(bidirectional=True), tokens(4))
    with pytest.raises(BadInput, match="no value called g; it has C, C_tilde, f"):
        values_along(model(), tokens(9), ("g",))
    for measure in (saturation, connectivity):
        with pytest.raises(BadInput, match="one text"):
            measure(model(), tokens(4).view(2, 2))


@pytest.mark.parametrize("length", [1, 127, 128, 300, 1001])
def test_a_long_text_is_read_once_as_rows_that_each_begin_anew(length):
    network, text = model(), tokens(length)
    places = torch.cat([now.t().flatten() for now, _ in read_through(network, text, rows=3)])
    assert sorted(places[places >= 0].tolist()) == list(range(length))
    whole = values_along(network, text, ("C",))["C"]
    rows = max(1, length // 128)
    for start in range(0, length, -(-length // rows)):
        row = record(network, text[start : start + -(-length // rows)]).values["C"]
        for layer in range(2):
            assert_equal(whole[layer][start : start + len(row[layer])], row[layer])


# --- gates ---


def test_the_gates_are_those_of_the_equations():
    assert gates(zoo.LSTM(3, 4)) == ("f", "i", "o")
    assert set(gates(zoo.GRU(3, 4))) == {"z", "r"}
    assert gates(zoo.RNN(3, 4)) == ()


@pytest.mark.parametrize("cell", zoo.CELLS.values(), ids=zoo.CELLS)
def test_every_gate_is_recorded_and_lies_between_0_and_1(cell):
    network = model(cell)
    values = record(network, tokens(20)).values
    for name in gates(network.rnn.cell):
        for layer in values[name]:
            assert 0 < layer.min() < layer.max() < 1


def test_a_cell_that_the_compiler_cannot_read_is_told():
    class Odd(conveyor.Cell):
        def step(self, x, h):
            return torch.fft.fft(h).real

    with pytest.raises(BadInput, match="the gates of Odd cannot be told"):
        gates(Odd(3, 4))


def test_saturation_is_the_time_that_a_gate_is_shut_or_open():
    network, text = model(num_layers=1), tokens(300)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
    found, values = saturation(network, text, 0.2, 0.7), values_along(network, text, ("f", "i", "o"))
    for name, layers in values.items():
        for unit, series in enumerate(layers[0].t().tolist()):
            assert found[name][0].left[unit] == pytest.approx(sum(v < 0.2 for v in series) / 300)
            assert found[name][0].right[unit] == pytest.approx(sum(v > 0.7 for v in series) / 300)
    assert 0 < found["f"][0].left.max() < 1


# --- gradients ---


def jacobians(layer, x, of, others):
    """The norms of the derivative by the state before each step, one call of PyTorch's for each, [T] a state."""
    names, norms = layer.state_names, {name: [] for name in layer.state_names}

    def given(t):
        return {n: v[None] if n in layer.cell.constant else v[t:][:, None] for n, v in others.items()}

    for lag in range(1, len(x) + 1):
        cut = len(x) - lag
        before = tuple(x.new_zeros(layer.num_layers, 1, layer.cell.widths[name]) for name in names)
        if cut:
            early = {n: v if n in layer.cell.constant else v[:cut] for n, v in given(0).items()}
            _, state, *_ = layer(x[:cut, None], **early)
            before = tuple(value.detach() for value in (state if len(names) > 1 else (state,)))

        def end(*states, cut=cut):
            output, last, *_ = layer(x[cut:, None], states if len(names) > 1 else states[0], start=cut, **given(cut))
            last = last if len(names) > 1 else (last,)
            return (last[names.index(of)][-1] if of else output[-1])[0]

        for name, block in zip(names, torch.autograd.functional.jacobian(end, before), strict=True):
            norms[name].append(block[:, :, 0].square().sum((0, 2)).sqrt())  # [width, layers, 1, units]
    return {name: torch.stack(found, 1) for name, found in norms.items()}


class Keyed(conveyor.Cell):
    """A user's own: a further stream and a constant."""

    state = ("h", "m")
    constant = ("key",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, m=3, key=hidden_size, drive=3)
        self.candidate = self.affine("h", "m", "x")

    def step(self, x, h, m, drive, key):
        m = 0.5 * m + drive * h[:, :3]
        return torch.tanh(self.candidate(h, m, x)) * key, m


@pytest.mark.parametrize("of", ["", "C"])
def test_gradient_flow_is_the_norm_of_the_jacobian(of):
    layer = conveyor.LSTM(3, 5, num_layers=2).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    found = gradient_flow(layer, x, of=of)
    for name, expected in jacobians(layer, x, of, {}).items():
        assert found[name].shape == (2, 6)
        assert_equal(found[name], expected, name)


@pytest.mark.parametrize("cell", [zoo.RNN, zoo.GRU, zoo.ClockworkRNN, zoo.DepthGatedLSTM, Keyed])
def test_gradient_flow_of_any_cell(cell):
    layer = conveyor.Recurrent(cell, 3, 5 if cell is not zoo.ClockworkRNN else 8, 1 if cell is Keyed else 2).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    others = {"drive": torch.randn(5, 3).double(), "key": torch.randn(5).double()} if cell is Keyed else {}
    found = gradient_flow(layer, x, **others)
    for name, expected in jacobians(layer, x, "", others).items():
        assert_equal(found[name], expected, name)


def test_a_wide_layer_is_measured_in_parts():
    layer = conveyor.GRU(2, 70).double()  # more units than rows that are computed at once
    x = torch.randn(3, 2, dtype=torch.float64)
    assert_equal(gradient_flow(layer, x)["h"], jacobians(layer, x, "", {})["h"])


def test_the_gradient_vanishes_in_the_plain_network_and_not_in_the_lstm():
    x = torch.randn(60, 4)
    plain = gradient_flow(conveyor.RNN(4, 16), x)["h"][0]
    lstm = conveyor.LSTM(4, 16)
    lstm.cell.forget.bias = torch.full((16,), 5.0)
    kept = gradient_flow(lstm, x, of="C")["C"][0]
    assert plain[0] > 1e6 * plain[-1]
    assert kept[0] < 4 * kept[-1] < 20 * kept[0]


def test_gradient_flow_leaves_the_layer_alone_and_refuses_what_has_no_answer():
    layer = conveyor.GRU(3, 4, recurrent_dropout=0.5, learn_initial_state=True).train()
    nn.init.normal_(layer.initial_state["h"])
    x = torch.randn(5, 3)
    assert torch.equal(gradient_flow(layer, x)["h"], gradient_flow(layer, x)["h"])
    assert layer.training
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert_equal(gradient_flow(layer, x)["h"], gradient_flow(layer, x, layer.initial_state["h"])["h"])
    for wrong, options, message in [
        (torch.randn(5, 2), {}, "\\[T, 3\\], not \\[5, 2\\]"),
        (torch.randn(0, 3), {}, "one sequence"),
        (x, {"of": "C"}, "no state called C; it has h"),
    ]:
        with pytest.raises(BadInput, match=message):
            gradient_flow(layer, wrong, **options)
    with pytest.raises(BadInput, match="bidirectional"):
        gradient_flow(conveyor.GRU(3, 4, bidirectional=True), x)


@pytest.mark.parametrize("cell", CELLS)
def test_connectivity_is_the_norm_of_the_gradient_by_each_embedding(cell):
    network, text = model(cell), tokens(7)
    found = connectivity(network, text, at=range(7))
    assert network.training
    network.eval()
    for place in range(7):
        embedded = network.embedding(text[: place + 1]).detach()[:, None].requires_grad_()
        output, *_ = network.rnn(embedded)
        weight = network.embedding.weight if network.tied else network.output
        log_probs = (output[-1, 0] @ weight.t() + network.bias).log_softmax(0)
        (gradient,) = torch.autograd.grad(log_probs.max(), embedded)
        expected = torch.zeros(7, dtype=torch.float64)
        expected[: place + 1] = gradient[:, 0].norm(dim=-1)
        assert_equal(found[place], expected)
    assert_equal(connectivity(network, text), found[-1:])
    told = record(network, text).log_probs[-1].argmax()
    assert_equal(connectivity(network, text, targets=[int(told)]), found[-1:])
    assert not torch.equal(connectivity(network, text, targets=[int(1 - told.clamp(max=1))]), found[-1:])


@pytest.mark.parametrize("options", [{"at": (7,)}, {"at": (-8,)}, {"at": ()}, {"targets": [1, 2]}])
def test_connectivity_refuses_what_is_not_there(options):
    with pytest.raises(BadInput, match=r"positions|targets"):
        connectivity(model(), tokens(7), **options)


# --- labels ---


def test_labels_are_told_after_each_token():
    assert label("position in line", list("ab\nc\n\n")).tolist() == [1, 2, 0, 1, 0, 0]
    assert label("position in line", ["ab", " cd", "\n", "e"]).tolist() == [2, 5, 0, 1]
    assert label("inside quotes", list('a"b"c')).tolist() == [0, 1, 1, 0, 0]
    assert label("inside quotes", ['"a', ' b"', "“c"]).isnan().all()  # odd
    assert label("inside brackets", list("(a[b])c")).tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert label("inside brackets", list(":)\n\n(a)")).isnan().tolist() == [True] * 2 + [False] * 5
    assert label("inside brackets", list("(]")).isnan().all()
    assert label(lambda words: [word.isupper() for word in words], "Ab").tolist() == [1, 0]
    assert label(lambda _: [None, 2.5], "ab")[0].isnan()


@pytest.mark.parametrize("labelling", ["position in line", "inside quotes", "inside brackets"])
@given(text=st.text(alphabet=LETTERS), data=st.data())
def test_labels_do_not_depend_on_what_a_token_is(labelling, text, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)))))
    words = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)]) if text[a:b]]
    of_words, of_letters = label(labelling, words), label(labelling, list(text))
    assert len(of_words) == len(words)
    ends = np.cumsum([len(word) for word in words]) - 1
    assert torch.equal(of_words.nan_to_num(-1), of_letters.nan_to_num(-1)[ends])


@given(seed=st.integers(0, 1000))
def test_a_verb_has_the_number_told_before_it(seed):
    random = Random(seed)
    words = [word for _ in range(3) for word in sentence(random)]
    following, main = label("subject number", [f" {word}" for word in words]), label("main subject number", words)
    for verb in (verbs := verbs_of(words)):
        assert following[verb.place - 1] == verb.number
        assert len(verb.between) or following[verb.place - 1] == main[verb.place - 1] or "that" in words
    ends = [place for place, word in enumerate(words) if word == "."]
    for begin, end in itertools.pairwise([-1, *ends]):
        last = [verb for verb in verbs if begin < verb.place < end][-1]
        assert set(main[begin + 2 : last.place].tolist()) == {float(last.number)}
        assert main[last.place : end + 1].isnan().all()
        assert following[last.place : end + 1].isnan().all()


def test_a_text_of_other_sentences_has_subjects_undefined():
    assert label("subject number", ["sees", "that", ".", "dog"]).isnan()[:3].all()
    assert label("subject number", ["xyzzy", "plugh"]).isnan().all()


def test_labels_that_are_none_are_refused():
    with pytest.raises(BadInput, match="did you mean inside quotes"):
        label("inside quote", "ab")
    with pytest.raises(BadInput, match="one for each"):
        label(lambda _: [1], "ab")
    assert set(labels.LABELLINGS) >= {"position in line", "subject number"}


# --- scores and units ---


def best_by_hand(values, told):
    """The best balanced accuracy of any threshold and sign, with the threshold tried everywhere."""
    found = [0.5]
    for cut in np.append(values, np.inf):
        called = values >= cut
        right = (called[told == 1].mean() + (~called[told == 0]).mean()) / 2
        found += [right, 1 - right]
    return max(found)


@given(seed=st.integers(0, 10_000), kinds=st.integers(1, 30))
def test_the_best_threshold_is_found(seed, kinds):
    random = np.random.default_rng(seed)
    values, told = random.integers(0, kinds, (40, 3)).astype(float), random.integers(0, 2, 40)
    told[:2] = 0, 1
    part = (torch.from_numpy(values), torch.from_numpy(told).double())
    found = scores.score(part, part)
    for unit in range(3):
        assert float(found.score[unit]) == pytest.approx(best_by_hand(values[:, unit], told))
    new = (part[0] + 0.0, 1 - part[1])
    assert torch.allclose(scores.score(part, new).score, 1 - found.score)  # learnt on the first, measured on the other


@given(seed=st.integers(0, 10_000), kinds=st.integers(2, 30))
def test_numbers_are_scored_by_spearmans_correlation(seed, kinds):
    random = np.random.default_rng(seed)
    values, told = random.integers(0, kinds, (50, 3)).astype(float), random.integers(0, 9, 50).astype(float)
    values[0], values[1] = -1, 99
    part = (torch.from_numpy(values), torch.from_numpy(told))
    found = scores.score(part, part)
    for unit in range(3):
        expected = scipy.stats.spearmanr(values[:, unit], told).statistic
        assert float(found.score[unit] * found.sign[unit]) == pytest.approx(expected)


def test_a_constant_unit_tells_nothing():
    for told in (torch.arange(20.0) % 2, torch.arange(20.0)):
        part = (torch.ones(20, 2).double(), told.double())
        assert scores.score(part, part).score.tolist() == pytest.approx([0.5 if len(told.unique()) == 2 else 0.0] * 2)


@pytest.mark.parametrize("slow", [1, 30])
def test_chance_is_about_what_noise_has(slow):
    """Units and labels that have nothing to do with each other, fast or slow: a find once in 21 times."""
    finds = 0
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)

        def series(width, count=2000, random=random):
            walk = torch.randn(2 * count + slow, width, generator=random, dtype=torch.float64).cumsum(0)
            return (walk[slow:] - walk[:-slow]).tensor_split(2)

        told = [(one[:, 0] > 0).double() for one in series(1)]
        learn, test = zip(series(20), told, strict=True)
        finds += float(scores.score(learn, test).score.max()) > scores.chance(learn, test, random)
    assert finds <= 6


class Watcher(conveyor.Cell):
    """Its units are made by hand: inside quotes (0), position in line (1), always the same (2), the rest as random."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        quote, line_end = x[:, 0], x[:, 1]
        inside = h[:, 0] + quote - 2 * h[:, 0] * quote
        position = (h[:, 1] + 0.01) * (1 - line_end)
        rest = torch.tanh(3 * self.candidate(h, x))[:, 3:]
        h = torch.cat([torch.stack([inside, position, 0 * position + 0.5], 1), rest], 1)
        return h


def watcher():
    network = model(Watcher, len(LETTERS), num_layers=1, tie=False)
    with torch.no_grad():
        network.embedding.weight[:, :2] = 0
        network.embedding.weight[SYMBOLS.index('"'), 0] = 1
        network.embedding.weight[SYMBOLS.index("\n"), 1] = 1
    return trained(network)


def lines(count, seed=0):
    """Lines that each quote something, so that no row of the reading begins within quotes more than at others."""
    random = Random(seed)

    def some(most):
        return "".join(random.choice("ab (") for _ in range(random.randrange(most)))

    return "\n".join(f'{some(9)}"{some(9)}"{some(9)}' for _ in range(count))


def test_the_units_that_follow_a_label_are_found():
    network, text = watcher(), lines(9)  # of one row: it begins outside of quotes
    found = units(network, text, ["inside quotes", "position in line"])
    quotes, position = found["inside quotes"][0], found["position in line"][0]
    assert (quotes.value, quotes.layer, quotes.index, quotes.sign) == ("h", 0, 0, 1)
    assert quotes.score == pytest.approx(1)
    assert quotes.chance < 0.95
    assert (position.index, position.sign, position.threshold) == (1, 1, None)
    assert position.score == pytest.approx(1)
    assert all(unit.index != 2 for named in found.values() for unit in named)
    inside = record(network, text).values["h"][0][:, 0]
    assert torch.equal(quotes.classify(inside).double(), label("inside quotes", list(text)))
    assert str(quotes).startswith("h[0] of layer 0: 1.000")


def test_labels_can_be_any_numbers_and_noise_is_not_followed():
    network, text = watcher(), lines(200)
    told = label("inside quotes", list(text))
    partly = torch.where(torch.arange(len(text)) % 3 == 0, float("nan"), -told)
    noise = (torch.rand(len(text)) > 0.5).double()
    found = units(network, text, {"not quoted": partly, "noise": noise}, values=["h"], top=1)
    assert found["not quoted"][0].index == 0
    assert found["not quoted"][0].sign == -1
    assert found["noise"] == []


@pytest.mark.parametrize(
    ("follow", "message"),
    [
        (["inside brackets"], "inside brackets is in a half of the text"),
        ({"none": torch.full((400,), torch.nan)}, "nowhere defined"),
        ({"few": (torch.arange(400) % 100 == 0).double()}, r"1 \(2 tokens\)"),
        ({"short": torch.ones(3)}, "400 tokens"),
        ({"infinite": torch.full((400,), torch.inf)}, "infinite"),
        (["nothing"], "nothing to follow"),
    ],
)
def test_a_label_that_nothing_can_be_learnt_of_is_refused(follow, message):
    with pytest.raises(BadInput, match=message):
        units(watcher(), "ab" * 200, follow)
    with pytest.raises(BadInput, match="no vocabulary"):
        units(model(), tokens(9), ["inside quotes"])


# --- places that are alike ---


def alike_by_hand(values, looked_for, by, start):
    length = len(looked_for.activations)
    window = values[start : start + length]
    if by == "cosine":
        mean, wanted = window[:, looked_for.chosen].mean(0), looked_for.activations[:, looked_for.chosen].mean(0)
        return float(mean @ wanted / mean.norm() / wanted.norm())
    on = {int(unit) for unit in (window > looked_for.threshold).all(0).nonzero()}
    return len(on & set(looked_for.chosen)) / len(on | set(looked_for.chosen))


@pytest.mark.parametrize("by", ["on", "cosine"])
@pytest.mark.parametrize("length", [1, 4, 150])
def test_places_are_ranked_by_how_alike_they_are(by, length):
    network, corpus = model(), tokens(700)
    looked_for = pattern(network, tokens(400), (3, 3 + length), "C", threshold=-9.0 if length > 4 else 0.0)
    found = find_similar(network, corpus, looked_for, by, top=1000)
    values = values_along(network, corpus, ("C",))["C"][-1]
    rows = -(-len(corpus) // (len(corpus) // max(128, length)))
    scored = {start: alike_by_hand(values, looked_for, by, start) for start in range(700 - length + 1)}
    possible = {start: one for start, one in scored.items() if start % rows + length <= rows}
    if length > 128:  # rows are fewer then, and begin elsewhere
        assert found
        return
    assert found[0].score == pytest.approx(max(possible.values()))
    for place in found:
        assert place.score == pytest.approx(possible[place.start])
        assert place.end == place.start + length
    assert [place.score for place in found] == sorted((place.score for place in found), reverse=True)
    taken = {token for place in found for token in range(place.start, place.end)}
    assert len(taken) == length * len(found)
    for start, one in possible.items():
        assert one <= 0 or taken & set(range(start, start + length))


def test_a_span_finds_itself_and_its_like_with_the_text_around():
    network = watcher()
    text = 'aa\nb"a b"b\n\n' * 3
    looked_for = pattern(network, text, (4, 8), threshold=0.9, chosen=())
    assert looked_for.chosen == (0,)
    found = find_similar(network, text, looked_for, top=3)
    assert [place.start for place in found] == [4, 16, 28]
    assert (found[1].text, found[1].score) == ('"a b', 1)
    assert found[1].before == text[:16]
    assert found[1].after == text[20:][:20]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span": (3, 3)}, "0 <= a < b <= 12"),
        ({"span": (0, 13)}, "0 <= a < b <= 12"),
        ({"layer": 1}, "1 layers"),
        ({"value": "C"}, "no value called C"),
        ({"chosen": (8,)}, "units 0 to 7, not 8"),
        ({"threshold": 2.0}, "no unit of h is above 2.0"),
    ],
)
def test_a_pattern_that_is_not_there_is_refused(options, message):
    with pytest.raises(BadInput, match=message):
        pattern(watcher(), 'aa\nb"a b"b\n\n', **{"span": (4, 8)} | options)


def test_a_search_that_cannot_be_done_is_refused():
    looked_for = pattern(watcher(), 'aa\nb"a b"b\n\n', (4, 8), threshold=0.9)
    with pytest.raises(BadInput, match="4 tokens at least"):
        find_similar(watcher(), "ab", looked_for)
    with pytest.raises(BadInput, match="on or cosine"):
        find_similar(watcher(), "ab" * 9, looked_for, by="sine")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind_of_token_can_be_searched(kind):
    vocabulary = Vocabulary.of(b'a b "a"\n', kind)
    network = trained(model(kinds=len(vocabulary)), kind, vocabulary.symbols)
    looked_for = pattern(network, 'a b "a"', (1, 3), threshold=-9.0)
    assert (
        "".join((found := find_similar(network, 'a b "a"', looked_for)[0]).before + found.text + found.after)
        == 'a b "a"'
    )


# --- the number unit ---


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """A language model of the corpus agreement, trained for some ten seconds."""
    torch.manual_seed(0)
    return number_unit.trained(0, hidden=24, steps=2_000, folder=tmp_path_factory.mktemp("number") / "run")


@slow
def test_one_unit_carries_the_number_of_the_subject_and_verbs_go_wrong_without(speaker):
    found = number_unit.measure(speaker, sentences=500)
    main, far = found.verbs.main, found.verbs.main & found.verbs.apart
    others = [number_unit.rate(one, main) for one in found.others]
    assert found.unit.score > 0.9 > 0.6 > found.unit.chance
    assert number_unit.rate(found.before, far) < 0.1
    assert number_unit.rate(found.after, far) > 0.35
    assert number_unit.rate(found.swapped, far) > 0.6
    assert sum(others) / len(others) < 0.1
    assert str(found.unit.index) in number_unit.example(speaker, found.unit)


@slow
def test_the_clamp_is_the_edit_of_the_interpreter(speaker):
    verbs = number_unit.new_verbs(speaker, sentences=5)
    for unit in range(0, 24, 5):
        wrong = number_unit.wrong(speaker, verbs, forget=unit)
        for row in range(5):
            logits = run(speaker.model, verbs.tokens[:, row], [Edit(0, "f", 0.0, unit=unit)]).logits
            for k in (verbs.row == row).nonzero()[:, 0].tolist():
                right, other = (logits[verbs.time[k], form[k]] for form in (verbs.token, verbs.other))
                assert bool(wrong[k]) == bool(right <= other)
