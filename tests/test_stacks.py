"""Stacks whose layers are joined by more than their output, and stacks of one set of weights."""

from typing import ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch

import conveyor
from cases import CASES, PAPERS, extra_inputs, matrices, parameters_of, random_state, sides, tensors
from conveyor import zoo
from oracles import depth_gated, grid
from tiers import slow
from tolerance import KERNEL, assert_equal

T, B, WIDTH, HIDDEN, LAYERS = 3, 2, 2, 2, 3


def numbers(named):
    return {name: value.detach().numpy().copy() for name, value in named.items()}


def slopes(oracle, values, weights):
    """The derivative of the oracle's results, weighted and summed, by every number of `values`: by a complex step."""
    found = {}
    for key, value in values.items():
        found[key] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            results = oracle({**values, key: moved})
            found[key][index] = sum(np.sum(r.imag * w) for r, w in zip(results, weights, strict=True)) / 1e-30
    return found


def assert_oracle(results, named, oracle):
    """Results and their gradients are those of `oracle`, a function of all that `named` names."""
    values = numbers(named)
    wanted = oracle(values)
    weights = [torch.randn_like(value) for value in results]
    for value, expected in zip(results, wanted, strict=True):
        assert_equal(value, expected)
    loss = sum((value * weight).sum() for value, weight in zip(results, weights, strict=True))
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    expected = slopes(oracle, values, [weight.numpy() for weight in weights])
    for (name, slope), gradient in zip(expected.items(), gradients, strict=True):
        assert_equal(gradient, slope, f"gradient of {name}")


def by_layer(values, layers, gather):
    """The matrices of each layer, from parameters named "<layer> <name>"."""
    own = [{k.partition(" ")[2]: v for k, v in values.items() if k.startswith(f"{i} ")} for i in range(layers)]
    return [gather(named) for named in own]


STACKS = {
    "lstm-depth-gated": (depth_gated.stack, {}),
    "lstm-depth-gated, coupled": (depth_gated.stack, {}),
    "grid": (grid.time_and_depth, {}),
    "grid-priority": (grid.time_and_depth, {"priority": True}),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_the_papers(name):
    """Three layers, of which the second and third read what comes from below: outputs, last states, all gradients."""
    stack, options = STACKS[name]
    layer = PAPERS[name].layer(3, HIDDEN, LAYERS, dtype=torch.float64)
    x = torch.randn(T, B, 3, dtype=torch.float64, requires_grad=True)
    states = [s.requires_grad_() for s in random_state(layer, B)]
    named = {"x": x, "s0": states[0], "s1": states[1]}
    named |= {f"{i} {k}": v for i in range(LAYERS) for k, v in parameters_of(layer, i).items() if "ground" not in k}
    named |= {k: v for k, v in parameters_of(layer).items() if "ground" in k}
    (stream,) = layer.cell.below

    def oracle(values):
        gather = {name: source for name, source in values.items() if name.startswith("ground")}
        layers = [PAPERS[name].matrices({**gather, **of_one}) for of_one in by_layer(values, LAYERS, dict)]
        if name.startswith("grid"):
            layers = [grid.named(W, ("time", "depth")) for W in layers]
        given = list(zip(values["s0"], values["s1"], strict=True))
        ground = (values[f"ground.{stream}.weight"], values[f"ground.{stream}.bias"])
        output, last = stack(values["x"], given, layers, *ground, **options)
        return output, *(np.stack(state) for state in zip(*last, strict=True))

    output, last, *_ = layer(x, tuple(states))
    assert_oracle((output, *last), named, oracle)


def ends(network):
    """The matrices of the projections that enter a network's depth."""
    return {
        "P": network.hidden.weight,
        "p": network.hidden.bias,
        "M": network.memory.weight,
        "m": network.memory.bias,
    }


def named_of(network, modules):
    return ends(network) | {f"{i} {k}": v for i, one in enumerate(modules) for k, v in one.cell.named_parameters()}


def entering(values):
    return [values[name] for name in "PpMm"]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_grid_of_depth_alone_is_the_papers(tied):
    network = zoo.DepthLSTM(3, HIDDEN, LAYERS, tied=tied).double()
    x = torch.randn(B, 3, dtype=torch.float64, requires_grad=True)
    count = len(network.blocks)
    assert count == (1 if tied else LAYERS)
    gather = matrices(**sides(depth="h"))

    def oracle(values):
        layers = [grid.named(W, ("depth",)) for W in by_layer(values, count, gather)]
        return (grid.depth(values["x"], [layers[i % count] for i in range(LAYERS)], *entering(values)),)

    assert_oracle([network(x)], {"x": x} | named_of(network, network.blocks), oracle)


@pytest.mark.parametrize("priority", [False, True], ids=["plain", "priority"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_grid_over_an_image_is_the_papers(tied, priority):
    network = zoo.ImageGridLSTM(3, HIDDEN, 2, tied=tied, priority=priority).double()
    images = torch.randn(B, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    count = len(network.scans)
    assert count == (1 if tied else 2)
    gather = matrices(**sides(along="h h_above x", down="h h_above x", depth="h h_above x"))

    def oracle(values):
        layers = [grid.named(W, ("along", "down", "depth")) for W in by_layer(values, count, gather)]
        layers = [layers[i % count] for i in range(2)]
        return (grid.image(values["images"], layers, *entering(values), priority),)

    assert_oracle([network(images)], {"images": images} | named_of(network, network.scans), oracle)


def untied(layer):
    """A stack of the same, every layer with its own copy of the weights."""
    options = {"num_layers": layer.num_layers, "bidirectional": layer.bidirectional, **layer.options}
    copy = conveyor.Recurrent(type(layer.cell), layer.input_size, layer.hidden_size, **options, dtype=torch.float64)
    for row, cell in enumerate(copy.cells):
        cell.load_state_dict(layer.cell_of(row).state_dict())
    if layer.cell.below:
        copy.ground.load_state_dict(layer.ground.state_dict())
    return copy


def run(layer, x, state, further, **keywords):
    """The output, the last states and, where the cell gives any, the values."""
    output, last, *named = layer(x, state, **further, **keywords)
    return output, *tensors(last), *(value for values in named for value in values.values())


@pytest.mark.parametrize("name", CASES)
def test_tied_layers_are_layers_of_equal_weights(name):
    """Also backwards: the gradient by a shared weight is the sum of those by the copies."""
    width = CASES[name].layer(3, 4).output_size
    layer = CASES[name].layer(2 * width, 4, 3, bidirectional=True, tied=True, dtype=torch.float64)
    x, state, further = torch.randn(T, B, 2 * width).double(), random_state(layer, B), extra_inputs(layer, T, B)
    with conveyor.backend("eager"):
        assert_tied(layer, x, state, further)


@pytest.mark.parametrize("name", ["lstm", "grid"])
def test_tied_layers_by_kernels_are_layers_of_equal_weights(name):
    layer = CASES[name].layer(4, 4, 3, tied=True, dtype=torch.float64)
    with conveyor.backend("compiled"):
        assert_tied(layer, torch.randn(T, B, 4).double(), random_state(layer, B), {}, table=KERNEL)


def assert_tied(layer, x, state, further, table=KERNEL):
    copies = untied(layer)
    results = [run(one, x, state, further, lengths=[2, T]) for one in (layer, copies)]
    for value, wanted in zip(*results, strict=True):
        assert_equal(value, wanted, table=table)
    sums = [dict(one.named_parameters()) for one in (layer, copies)]
    found = [
        dict(zip(named, torch.autograd.grad(sum(v.square().sum() for v in values), list(named.values())), strict=True))
        for named, values in zip(sums, results, strict=True)
    ]
    for name, gradient in found[0].items():
        same = [name]
        if name.startswith("cells."):
            _, direction, rest = name.split(".", 2)
            same = [f"cells.{row}.{rest}" for row in range(int(direction), layer.state_rows, layer.directions)]
        assert_equal(gradient, sum(found[1][key] for key in same), name, table)


def test_tied_layers_hold_each_weight_once(tmp_path):
    layer = conveyor.LSTM(4, 4, num_layers=3, tied=True, learn_initial_state=True)
    one = conveyor.LSTM(4, 4)
    assert sum(p.numel() for n, p in layer.named_parameters() if n[0] != "i") == sum(
        p.numel() for p in one.parameters()
    )
    assert layer.initial_state["h"].shape == (3, 4)
    assert layer(torch.randn(T, B, 4))[1][0].shape == (3, B, 4)
    safetensors.torch.save_file(layer.state_dict(), tmp_path / "weights")
    again = conveyor.LSTM(4, 4, num_layers=3, tied=True, learn_initial_state=True)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "weights"))
    x = torch.randn(T, B, 4)
    assert torch.equal(again(x)[0], layer(x)[0])
    assert "tied=True" in repr(layer)


def test_tied_layers_as_torchs_are_copies_of_one():
    layer = conveyor.GRU(4, 2, num_layers=3, bidirectional=True, tied=True)
    x = torch.randn(T, B, 4)
    assert_equal(layer.to_torch()(x)[0], layer(x)[0])
    other = conveyor.GRU(4, 2, num_layers=3, bidirectional=True, tied=True)
    other.load_state_dict(layer.to_torch().state_dict())
    assert_equal(other(x)[0], layer(x)[0])
    theirs = torch.nn.GRU(4, 2, num_layers=3, bidirectional=True)
    with pytest.raises(RuntimeError, match="tied layers have one set of weights, but weight_ih_l1 differs"):
        other.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(("name", "tied"), [pytest.param("lstm-depth-gated", False, marks=slow), ("grid", True)])
def test_a_joined_stack_is_compiled_without_a_graph_break(name, tied):
    torch._dynamo.reset()
    layer = CASES[name].layer(4, 2, 2, bidirectional=True, tied=tied, dtype=torch.float64)
    x = torch.randn(T, B, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for one in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        output, *_ = one(x, lengths=torch.tensor([T, 1]))
        found.append((output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])))
    for value, wanted in zip(*found, strict=True):
        assert_equal(value, wanted, table=KERNEL)


class Joined(conveyor.Cell):
    """Its output is its second state; the layer above reads its first, and an extra of another width."""

    state = ("a", "b")
    extra = ("c",)
    output_name = "b"
    below: ClassVar = {"a_below": "a", "c_below": "c"}

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, b=3, c=1, c_below=1)
        self.map = self.affine("x", "a", "a_below")
        self.read = self.affine("a", "c_below", out=3)

    def step(self, x, a, b, a_below, c_below):
        a = torch.tanh(self.map(x, a, a_below))
        b = torch.tanh(self.read(a, c_below))
        return a, b, b.sum(1, keepdim=True)


@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_an_output_by_name_and_streams_from_below(backend):
    """Against the same layers one by one, in each direction."""
    layer = conveyor.Recurrent(Joined, 5, 4, 2, bidirectional=True, zoneout={"a": 0.5}, dtype=torch.float64).eval()
    x = torch.randn(T, B, 5, dtype=torch.float64)
    with conveyor.backend(backend):
        output, (a, b), values = layer(x, record=True)
        plain, _, further = layer(x)
        assert output.shape == (T, B, 6)
        assert (layer.output_size, a.shape, b.shape) == (6, (4, B, 4), (4, B, 3))
        assert_equal(torch.cat(tuple(values["b"][1]), -1), output, "output")
        assert set(further) == {"c"}
        assert torch.equal(plain, output)
        assert torch.equal(further["c"], values["c"])
    for direction, flip in enumerate([lambda v: v, lambda v: v.flip(0)]):
        ground = {name: each(x) for name, each in layer.ground[direction].items()}
        state = torch.zeros(B, 4, dtype=torch.float64), torch.zeros(B, 3, dtype=torch.float64)
        for depth in range(2):
            up = {"a": [], "b": [], "c": []}
            below = ground if depth == 0 else {f"{name}_below": values[name][0, direction] for name in "ac"}
            read = x if depth == 0 else torch.cat(tuple(values["b"][0]), -1)
            now = state
            for t in range(T):
                streams = [flip(below[name])[t] for name in ("a_below", "c_below")]
                new, b, c = layer.cells[2 * depth + direction].step(flip(read)[t], *now, *streams)
                now = 0.5 * now[0] + 0.5 * new, b  # the layer above reads what zoneout has left of it
                for name, value in zip("abc", (*now, c), strict=True):
                    up[name].append(value)
            for name, steps in up.items():
                assert_equal(values[name][depth, direction], flip(torch.stack(steps)), name, KERNEL)


def test_no_steps_have_the_output_that_is_named():
    for backend in ("eager", "compiled"):
        with conveyor.backend(backend):
            output, *_ = conveyor.Recurrent(Joined, 5, 4, 2)(torch.zeros(0, B, 5))
            assert output.shape == (0, B, 3)


def test_new_parameters_are_drawn_for_the_ground_too():
    layer = conveyor.Recurrent(zoo.GridLSTM, 3, 4)
    before = layer.ground[0]["m_below"].weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.ground[0]["m_below"].weight, before)
    assert conveyor.Recurrent(zoo.GridLSTM, 3, 4, bias=False).ground[0]["m_below"].bias is None


def test_a_side_of_a_block_is_recorded_under_its_name():
    _, _, values = conveyor.Recurrent(zoo.GridLSTM, 3, 4, 2)(torch.randn(T, B, 3), record=True)
    wanted = {f"{side}.{name}" for side in ("time", "depth") for name in ("u", "f", "o", "m_tilde", "m")}
    assert set(values) == wanted | {"h", "m", "h_depth", "m_depth"}


def step(self, x, h, u):
    return self.map(x, h), u


def made(**members):
    return lambda: type("Made", (conveyor.Cell,), {"step": step, "extra": ("y",), **members})


class Narrow(conveyor.Cell):
    extra = ("y",)
    output_name = "y"

    def step(self, x, h):
        return h, x


def unequal(self, input_size, hidden_size):
    conveyor.Cell.__init__(self, input_size, hidden_size, y=2)


IMAGES = torch.zeros(B, 2, 3, 1)
REFUSALS = {
    "output's name": (made(output_name="z"), TypeError, "output_name names 'z', but .* extra outputs are h, y"),
    "value from below": (made(below={"u": "z"}), TypeError, "below names 'z', but the cell's states .* are h, y"),
    "stream from below": (made(below={"v": "y"}), TypeError, "below names 'v', but the streams that step takes are u"),
    "state from below": (made(below={"h": "y"}), TypeError, "below names 'h'"),
    "constant from below": (made(below={"u": "y"}, constant=("u",)), TypeError, "that step takes are none"),
    "no dict": (made(below=("u",)), TypeError, "below must be a dict"),
    "widths from below": (
        lambda: made(below={"u": "y"}, __init__=unequal)()(3, 4),
        ValueError,
        "u is the y of the layer below, but their widths are 4 and 2",
    ),
    "shape that goes up": (
        lambda: conveyor.Recurrent(Narrow, 3, 4)(torch.zeros(T, B, 3)),
        ValueError,
        r"Narrow\.step .* must return y of shape \[2, 4\], not \[2, 3\]",
    ),
    "given from below": (
        lambda: conveyor.Recurrent(zoo.GridLSTM, 3, 4)(torch.zeros(T, B, 3), m_below=torch.zeros(T, B, 4)),
        TypeError,
        "GridLSTM takes nothing, but was given m_below",
    ),
    "tied": (
        lambda: conveyor.LSTM(3, 4, num_layers=2, tied=True),
        ValueError,
        "the input's width is 3 and the output's 4: make them equal, or leave out tied",
    ),
    "tied in both directions": (
        lambda: conveyor.LSTM(4, 4, num_layers=2, tied=True, bidirectional=True),
        ValueError,
        "input's width is 4 and the output's 8",
    ),
    "rank of an image": (
        lambda: zoo.ImageGridLSTM(1, 4)(IMAGES[0]),
        ValueError,
        r"must be \[B, rows, columns, 1\], not \[2, 3, 1\]",
    ),
    "image's channels": (lambda: zoo.ImageGridLSTM(3, 4)(IMAGES), ValueError, r"columns, 3\], not \[2, 2, 3, 1\]"),
    "no pixels": (lambda: zoo.ImageGridLSTM(1, 4)(IMAGES[:, :0]), ValueError, r"at least one row .* \[2, 0, 3, 1\]"),
    "rank of depth's input": (
        lambda: zoo.DepthLSTM(3, 4)(torch.zeros(T, B, 3)),
        ValueError,
        r"\[B, 3\], not \[3, 2, 3",
    ),
    "width of depth's input": (lambda: zoo.DepthLSTM(3, 4)(torch.zeros(B, 2)), ValueError, r"\[B, 3\], not \[2, 2\]"),
    "type of depth's input": (
        lambda: zoo.DepthLSTM(3, 4)(torch.zeros(B, 3, dtype=torch.float64)),
        ValueError,
        r"x is torch.float64, but the weights are torch.float32: give x.to\(torch.float32\)",
    ),
    "no tensor for depth": (lambda: zoo.DepthLSTM(3, 4)([[0.0] * 3]), TypeError, "x must be a tensor, not list"),
    "type of an image": (
        lambda: zoo.ImageGridLSTM(1, 4)(IMAGES.to(torch.uint8)),
        ValueError,
        "images is torch.uint8, but the weights are torch.float32",
    ),
    "rank of time x depth": (
        lambda: conveyor.Recurrent(zoo.GridLSTM, 1, 4)(IMAGES),
        ValueError,
        r"3 dimensions, or 2 if unbatched, but its shape is \[2, 2, 3, 1\]",
    ),
    "no layers of an image": (lambda: zoo.ImageGridLSTM(1, 4, 0), ValueError, "num_layers must be greater than zero"),
    "no layers of depth": (lambda: zoo.DepthLSTM(1, 4, 0, tied=True), ValueError, "num_layers must be greater"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_is_refused(what):
    call, error, message = REFUSALS[what]
    with pytest.raises(error, match=message):
        call()


def test_no_images_have_their_shape():
    assert zoo.ImageGridLSTM(1, 4, 2).double()(IMAGES[:0].double()).shape == (0, 2, 3, 4)
