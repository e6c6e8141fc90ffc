"""Attention: equal to its paper, and the laws of looking."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import conveyor
from cases import matrices
from conveyor.zoo.attention import HardAttention, SoftAttention, hard_noise
from conveyor.zoo.attention_loss import Baseline, doubly_stochastic, entropy, log_probability, reinforce
from conveyor.zoo.decoder import Decoder, negative_log_likelihood
from conveyor.zoo.lstm import LSTM
from oracles import attention as oracle
from tolerance import assert_equal

T, B, L, INPUT, HIDDEN, WIDTH = 3, 3, 4, 2, 3, 2
GATES = {"f": "forget", "i": "input", "C": "candidate", "o": "output"}
MATRICES = {"W_ctx": "key: a", "b": "key.bias", "W_d": "query: h", "U": "score: key", "c": "score.bias"}
MATRICES |= {"W_sel": "select: h", "b_sel": "select.bias"}
MATRICES |= {f"W_{s}": f"lstm.{gate}: z h x" for s, gate in GATES.items()}
MATRICES |= {f"b_{s}": f"lstm.{gate}.bias" for s, gate in GATES.items()}
KINDS = {"soft": (SoftAttention, oracle.soft), "hard": (HardAttention, oracle.hard)}


def attention(kind=SoftAttention):
    return conveyor.Recurrent(kind, INPUT, HIDDEN, annotation_size=WIDTH, attention_size=3, dtype=torch.float64)


def random_inputs(places=L):
    """Input, states and annotations; the last of three rows has no place, the one before it one less than all."""
    shapes = {"x": (T, B, INPUT), "h": (1, B, HIDDEN), "C": (1, B, HIDDEN), "a": (B, places, WIDTH)}
    mask = torch.ones(B, places, dtype=torch.float64)
    mask[1, -1:] = 0
    mask[2] = 0
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()} | {"mask": mask}


def run(layer, x, h, C, **others):
    """By name: the output, the last states, and what the attention gives out."""
    output, (h, C), values = layer(x, (h, C), **others)
    return {"output": output, "h": h[0], "C": C[0]} | {name: value[0, 0] for name, value in values.items()}


@pytest.mark.parametrize("backend", ["compiled", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_the_papers(kind, backend):
    cell, paper = KINDS[kind]
    layer, inputs = attention(cell), random_inputs()
    noise = hard_noise(inputs["x"], L, hard=1) if kind == "hard" else {}
    if kind == "hard":
        noise["coin"] = torch.tensor([1.0, 0, 1, 1, 1, 0, 0, 1, 1], dtype=torch.float64).view(T, B, 1)
    wanted = [inputs[name].requires_grad_() for name in ("x", "h", "C", "a")] + list(layer.parameters())
    with conveyor.backend(backend):
        found = run(layer, **inputs, **noise)
        weights = {name: torch.randn_like(value) for name, value in found.items() if name != "s"}
        loss = sum((found[name] * weight).sum() for name, weight in weights.items())
        gradients = torch.autograd.grad(loss, wanted)
    own = dict(zip([name for name, _ in layer.cell.named_parameters()], gradients[4:], strict=True))
    gradients = dict(zip(("x", "h", "C", "a"), (g.numpy() for g in gradients[:4]), strict=True))
    gradients |= matrices(**MATRICES)({name: value.numpy() for name, value in own.items()})

    named = {name: value.detach().numpy() for name, value in layer.cell.named_parameters()}
    values = {name: inputs[name].detach().numpy() for name in ("x", "h", "C", "a")} | matrices(**MATRICES)(named)
    values |= {"h": values["h"][0], "C": values["C"][0]}
    gradients |= {"h": gradients["h"][0], "C": gradients["C"][0]}
    fixed = {"mask": inputs["mask"].numpy()} | {name: value.numpy() for name, value in noise.items()}
    for (name, value), expected in zip(found.items(), paper(**values, **fixed), strict=True):
        assert_equal(value, expected, name)

    def weighed(given):
        results = paper(**given, **fixed)
        return sum(np.sum(r * w.numpy()) for r, w in zip(results, weights.values(), strict=False))

    for name, value in values.items():
        expected = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            expected[index] = weighed({**values, name: moved}).imag / 1e-30
        assert_equal(torch.from_numpy(gradients[name].copy()), expected, name)


def test_attention_to_one_place_is_none():
    """With the selector open, the LSTM reads that place's annotation beside its input."""
    layer, inputs = attention(), random_inputs(places=1)
    inputs["mask"] = torch.ones(B, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.cell.select.weight_h.zero_()
        layer.cell.select.bias.fill_(50)  # a sigmoid of 1 to the last bit
    plain = conveyor.Recurrent(LSTM, INPUT + WIDTH, HIDDEN, dtype=torch.float64)
    for gate in GATES.values():
        ours, theirs = getattr(layer.cell.lstm, gate), getattr(plain.cell, gate)
        theirs.weight_x = nn.Parameter(torch.cat([ours.weight_x, ours.weight_z], 1))
        theirs.weight_h, theirs.bias = ours.weight_h, ours.bias
    with conveyor.backend("eager"):
        found = run(layer, **inputs)
    x = torch.cat([inputs["x"], inputs["a"][:, 0].expand(T, -1, -1)], -1)
    output, (h, C) = plain(x, (inputs["h"], inputs["C"]))
    for name, value in {"output": output, "h": h[0], "C": C[0]}.items():
        assert_equal(found[name], value.detach(), name)


@pytest.mark.parametrize("kind", [SoftAttention, HardAttention])
def test_places_that_are_not_there_do_nothing(kind):
    """Their weight and their gradient are exactly 0, whatever is in them; a row without any has z = 0."""
    layer, inputs = attention(kind), random_inputs()
    noise = hard_noise(inputs["x"], L) if kind is HardAttention else {}
    padded = inputs["mask"] == 0
    inputs["a"].requires_grad_()
    found = run(layer, **inputs, **noise)
    sum(value.sum() for value in found.values()).backward()
    assert (found["alpha"][:, padded] == 0).all()
    assert (inputs["a"].grad[padded] == 0).all()
    assert (found["z"][:, 2] == 0).all()
    assert_equal(found["alpha"].sum(-1), (~padded).any(1).double().expand(T, -1), "sum of alpha")
    other = inputs | {"a": torch.where(padded[:, :, None], torch.nan, inputs["a"].detach())}
    for name, value in run(layer, **other, **noise).items():
        assert torch.equal(value, found[name]), name


def test_without_a_selector_z_is_the_mean_as_it_is():
    """As with a selector that is all open."""
    layer, inputs = attention(), random_inputs()
    with torch.no_grad():
        layer.cell.select.weight_h.zero_()
        layer.cell.select.bias.fill_(50)  # a sigmoid of 1 to the last bit
    sizes = {"annotation_size": WIDTH, "attention_size": 3, "dtype": torch.float64}
    plain = conveyor.Recurrent(SoftAttention, INPUT, HIDDEN, selector=False, **sizes)
    plain.load_state_dict({n: v for n, v in layer.state_dict().items() if ".select." not in n})
    found = run(plain, **inputs)
    for name, value in run(layer, **inputs).items():
        assert_equal(found[name], value.detach(), name)


def test_places_in_another_order_are_looked_at_in_that_order():
    layer, inputs = attention(), random_inputs()
    order = torch.tensor([2, 0, 3, 1])
    found = run(layer, **inputs)
    moved = run(layer, **inputs | {"a": inputs["a"][:, order], "mask": inputs["mask"][:, order]})
    assert_equal(moved["alpha"], found["alpha"][..., order].detach(), "alpha")
    for name in ("output", "h", "C", "z"):
        assert_equal(moved[name], found[name].detach(), name)


def test_a_hard_attention_draws_places_by_their_weight():
    """Of 20,000 rows; each share is within four of its standard errors, which are below 0.0036."""
    rows, layer = 20_000, attention(HardAttention)
    torch.manual_seed(3)
    x, a = torch.randn(1, 1, INPUT, dtype=torch.float64), torch.randn(1, L, WIDTH, dtype=torch.float64)
    x, a, mask = x.expand(1, rows, -1), a.expand(rows, -1, -1), torch.tensor([1.0, 1, 0, 1]).double().expand(rows, -1)
    with torch.no_grad():
        _, _, values = layer(x, a=a, mask=mask, **hard_noise(x, L, hard=1))
        alpha, s = values["alpha"][0, 0, 0], values["s"][0, 0, 0]
        assert torch.equal(s.sum(-1), torch.ones(rows, dtype=torch.float64))
        error = (alpha[0] * (1 - alpha[0]) / rows).sqrt()
        assert ((s.mean(0) - alpha[0]).abs() <= 4 * error).all()
        _, _, values = layer(
            x[:, :5], a=a[:5], mask=mask[:5], g=torch.zeros(1, 5, L).double(), coin=x.new_ones(1, 5, 1)
        )
        assert (values["s"][0, 0, 0].argmax(-1) == alpha[0].argmax()).all(), "without noise it is the likeliest"


@pytest.mark.parametrize("baseline", [0.0, 1.0])
def test_the_hard_estimator_is_right_in_expectation(baseline):
    """The mean of 40,000 gradients by REINFORCE is within four of its standard errors, below 0.05, of the exact one.

    Exact: the cost of each of the nine ways in which two steps can look at three places, times its probability; and,
    for the half of the rows that take the expectation, that of soft attention. Without REINFORCE the mean is elsewhere.
    """
    steps, places, rows = 2, 3, 40_000
    torch.manual_seed(2)
    layer = attention(HardAttention)
    x, target = torch.randn(steps, 1, INPUT).double(), 2 * torch.randn(steps, 1, HIDDEN).double()
    a = (2 * torch.randn(1, places, WIDTH)).double().requires_grad_()
    with torch.no_grad():  # so that it matters which place is looked at
        for weight in (layer.cell.score.weight_key, layer.cell.lstm.input.weight_z, layer.cell.lstm.candidate.weight_z):
            weight.mul_(4)

    def cost_of(a, g, coin):
        """[N], and what is given out, for annotations [N, 3, WIDTH]."""
        output, _, values = layer(x.expand(-1, len(a), -1), a=a, mask=torch.ones_like(a[..., 0]), g=g, coin=coin)
        return ((output - target) ** 2).sum((0, 2)), values["alpha"][0, 0], values["s"][0, 0]

    ways = torch.tensor([*product(range(places), repeat=steps), (0, 0)])  # the last row takes the expectation
    decided = 1e6 * nn.functional.one_hot(ways, places).double().transpose(0, 1)  # noise that leaves no choice
    coin = torch.ones(steps, len(ways), 1).double()
    coin[:, -1] = 0
    cost, alpha, s = cost_of(a.expand(len(ways), -1, -1), decided, coin)
    p = log_probability(alpha, s)[:-1].exp()
    assert_equal(p.sum().detach(), torch.tensor(1.0).double(), "the sum of the probabilities")
    (exact,) = torch.autograd.grad(0.5 * (p * cost[:-1]).sum() + 0.5 * cost[-1], a)

    each = a.detach().expand(rows, -1, -1).clone().requires_grad_()
    cost, alpha, s = cost_of(each, **hard_noise(x.expand(-1, rows, -1), places))
    (by_cost,) = torch.autograd.grad(cost.sum(), each, retain_graph=True)
    drawing = reinforce(cost, baseline, alpha, s)
    gradients = by_cost + torch.autograd.grad(drawing.sum(), each)[0]
    error = gradients.std(0) / rows**0.5
    assert error.max() < 0.05
    assert ((gradients.mean(0) - exact[0]).abs() <= 4 * error).all()
    assert ((by_cost.mean(0) - exact[0]).abs() > 8 * error).any()


def test_penalty_entropy_and_baseline_by_hand():
    alpha = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0, 0]], [[0.25, 0.75, 0.0], [0, 0, 0]]])  # T = 2, B = 2, L = 3
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    # Row 0: (1 - 0.75)² + (1 - 1.25)², its padded place not counted; row 1: 0 + 1 + 1.
    assert_equal(doubly_stochastic(alpha, mask), torch.tensor((0.125 + 2) / 2))
    of_a_half, of_a_quarter = np.log(2), 0.25 * np.log(4) - 0.75 * np.log(0.75)
    assert_equal(entropy(alpha), torch.tensor([of_a_half + of_a_quarter, 0.0], dtype=torch.float32))
    s = torch.tensor([[[0.0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]]])
    assert_equal(log_probability(alpha, s), torch.tensor([np.log(0.5 * 0.75), 0.0], dtype=torch.float32))
    baseline = Baseline()
    baseline.update(torch.tensor([2.0, 4.0]))
    baseline.update(torch.tensor([1.0, 1.0]))
    assert_equal(baseline.value, torch.tensor(0.9 * 0.3 + 0.1))


@pytest.mark.parametrize("kind", [SoftAttention, HardAttention])
def test_a_decoder_says_word_by_word_what_it_says_at_once(kind):
    torch.manual_seed(0)
    decoder = Decoder(7, HIDDEN, WIDTH, embedding_size=INPUT, attention=kind, dropout=0.5).double().eval()
    words, a = torch.randint(7, (T, B)), torch.randn(B, L, WIDTH).double()
    mask = random_inputs()["mask"]
    scores, values = decoder(words, a, mask)
    state = decoder.start(a, mask)
    for t in range(T):
        now, state, _ = decoder.run(words[t : t + 1], a, mask, state)
        assert_equal(now[0], scores[t].detach(), "scores")
    # The output as the paper writes it, and the first state from the mean of the places that are there.
    W = {name: value.detach().numpy() for name, value in decoder.named_parameters()}
    mean = a[1, :-1].mean(0).numpy()
    common = np.tanh(W["begin.0.weight"] @ mean + W["begin.0.bias"])
    for name, value in zip(("begin_h", "begin_C"), decoder.start(a, mask), strict=True):
        expected = np.tanh(W[f"{name}.weight"] @ common + W[f"{name}.bias"])
        assert_equal(value[0, 1].detach(), expected, name)
    h, _, _ = decoder.rnn(decoder.embedding(words), decoder.start(a, mask), a=a, mask=mask, **decoder.noise(scores, a))
    Ey = W["embedding.weight"][words.numpy()]
    said = Ey + h.detach().numpy() @ W["from_h.weight"].T + W["from_h.bias"]
    said = said + values["z"].detach().numpy() @ W["from_z.weight"].T
    assert_equal(scores.detach(), said @ W["output.weight"].T + W["output.bias"], "scores")


def test_what_cannot_be_words_or_annotations_is_refused():
    decoder, a, mask = Decoder(7, HIDDEN, WIDTH), torch.zeros(B, L, WIDTH), torch.ones(B, L)
    for words, match in [
        (torch.full((T, B), 7), "between 0 and 6, not 7 and 7"),
        (torch.full((T, B), -1), "between 0 and 6, not -1 and -1"),
        (torch.zeros(T), r"integers \[T, B\], not torch.int64|float32 \[3\]"),
        (torch.zeros(T, B), r"integers \[T, B\], not torch.float32 \[3, 3\]"),
    ]:
        with pytest.raises(ValueError, match=match):
            decoder(words, a, mask)
    words = torch.zeros(T, B, dtype=torch.long)
    for other, match in [(a.double(), "torch.float32"), (a[..., :1], r"\[B, L, 2\]"), (a[0], r"not .* \[4, 2\]")]:
        with pytest.raises(ValueError, match=f"annotations must be .*{match}"):
            decoder(words, other, mask)
    for other in (mask[0], mask[:, :1], mask.t()):
        with pytest.raises(ValueError, match=r"the mask must be \[B, L\], \[3, 4\], not"):
            decoder(words, a, other)


def test_what_is_behind_a_sentence_costs_nothing():
    scores, targets = torch.randn(T, 2, 5).double(), torch.tensor([[1, 2], [0, -100], [3, -100]])
    logs = scores.log_softmax(-1)
    expected = torch.stack([-(logs[0, 0, 1] + logs[1, 0, 0] + logs[2, 0, 3]), -logs[0, 1, 2]])
    assert_equal(negative_log_likelihood(scores, targets), expected)
