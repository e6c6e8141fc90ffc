"""Where two cells must be one: a gate that is open or shut, peepholes that see nothing, weights that are tied.

Each identity holds for the outputs, the last states, and the gradients by the input and by the initial states.
"""

import pytest
import torch
from torch import nn, sigmoid, tanh

import conveyor
from both import assert_kernel_is_loop, draw_inputs, results
from conveyor import backend, zoo
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 5, 3, 4, 6
OPEN, SHUT = 1000.0, -1000.0  # biases at which σ is 1 and 0, to the last digit
TANH = {"g": "tanh", "h": "tanh"}


@pytest.fixture(autouse=True)
def _by_the_loop():
    """An identity is one of equations; that kernels keep to them is seen elsewhere."""
    with backend("eager"):
        yield


def make(cell, **options):
    return conveyor.Recurrent(cell, INPUT, HIDDEN, dtype=torch.float64, **options)


def pair(one, two):
    """Two layers, the second with the first's weights wherever it has such."""
    two.load_state_dict(one.state_dict(), strict=False)
    return one, two


def pin(affine, bias):
    """The map is this number, whatever it reads."""
    for name, parameter in affine.named_parameters():
        nn.init.constant_(parameter, bias if name == "bias" else 0)


def blind(*affines, to="C"):
    """The maps do not see these values."""
    for affine in affines:
        for name in to:
            nn.init.zeros_(getattr(affine, f"weight_{name}"))


def tie(affine, other, factor=1):
    """The map is a multiple of the other; it does not see what the other does not read."""
    found = dict(other.named_parameters())
    for name, parameter in affine.named_parameters():
        parameter.data = factor * found[name].detach() if name in found else torch.zeros_like(parameter)


def gates(layer):
    return layer.cell.forget, layer.cell.input, layer.cell.output


def assert_one(one, two):
    """The second may have further states, which must not matter."""
    inputs = draw_inputs(one, T, B)
    names = ["output", *(f"last {name}" for name in one.state_names)]
    expected, found = results(one, inputs), results(two, draw_inputs(two, T, B) | inputs, loss_of=names)
    for what in [*names, *(f"gradient of {name}" for name in inputs)]:
        assert_equal(found[what], expected[what], what)


@pytest.mark.parametrize("cell", [zoo.PeepholeLSTM, zoo.FullPeepholeLSTM, zoo.VanillaLSTM])
def test_peepholes_that_see_nothing_are_none(cell):
    one, two = pair(make(zoo.LSTM), make(cell))
    blind(*gates(two))
    assert_one(one, two)


def test_full_peepholes_on_the_diagonal_are_diagonal():
    one, two = make(zoo.PeepholeLSTM), make(zoo.FullPeepholeLSTM)
    two.load_state_dict({n: w.diag() if n.endswith("weight_C") else w for n, w in one.state_dict().items()})
    assert_one(one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [(zoo.LSTM, zoo.NoPeepholesLSTM), (zoo.LSTM, zoo.ForgetBiasLSTM), (zoo.PeepholeLSTM, zoo.VanillaLSTM)],
    ids=lambda cell: cell.__name__,
)
def test_cells_of_the_same_equations(one, two):
    assert_one(*pair(make(one), make(two)))


@pytest.mark.parametrize(
    ("cell", "gate"),
    [(zoo.NoInputGateLSTM, "input"), (zoo.NoForgetGateLSTM, "forget"), (zoo.NoOutputGateLSTM, "output")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_no_gate_is_one_that_is_always_open(cell, gate):
    one, two = pair(make(cell), make(zoo.VanillaLSTM))
    pin(getattr(two.cell, gate), OPEN)
    assert_one(one, two)


def test_coupled_gates_are_gates_of_opposite_weights():
    """σ(-a) = 1 - σ(a)."""
    one, two = pair(make(zoo.CoupledPeepholeLSTM), make(zoo.VanillaLSTM))
    tie(two.cell.forget, one.cell.input, -1)
    assert_one(one, two)
    one, two = pair(make(zoo.CoupledLSTM), make(zoo.LSTM))
    tie(two.cell.input, one.cell.forget, -1)
    assert_one(one, two)


def test_the_essays_coupled_gates_are_greffs_without_peepholes():
    one, two = pair(make(zoo.CoupledLSTM), make(zoo.CoupledPeepholeLSTM))
    tie(two.cell.input, one.cell.forget, -1)
    blind(two.cell.output)
    assert_one(one, two)


def test_gates_that_do_not_see_gates_are_vanilla():
    one, two = pair(make(zoo.VanillaLSTM), make(zoo.FullGateRecurrenceLSTM))
    blind(*gates(two), to="ifo")
    assert_one(one, two)


@pytest.mark.parametrize(
    ("cell", "g", "h"),
    [(zoo.NoInputActivationLSTM, nn.Identity(), tanh), (zoo.NoOutputActivationLSTM, tanh, nn.Identity())],
    ids=["NIAF", "NOAF"],
)
def test_no_activation_is_the_identity(cell, g, h):
    """By hand, over the vanilla's weights."""
    layer = make(cell)
    inputs, c = draw_inputs(layer, T, B), layer.cell
    y, C = inputs["h"][0], inputs["C"][0]
    for x in inputs["x"]:
        f, i = sigmoid(c.forget(C, y, x)), sigmoid(c.input(C, y, x))
        C = f * C + i * g(c.candidate(y, x))
        y = sigmoid(c.output(C, y, x)) * h(C)
    found = results(layer, inputs)
    assert_equal(found["last h"][0], y.detach(), "h")
    assert_equal(found["last C"][0], C.detach(), "C")


def test_the_original_is_the_lstm_that_never_forgets():
    one, two = pair(make(zoo.OriginalLSTM, **TANH), make(zoo.LSTM))
    pin(two.cell.forget, OPEN)
    assert_one(one, two)
    one, two = pair(make(zoo.OriginalLSTM, **TANH), make(zoo.NoForgetGateLSTM))
    blind(two.cell.input, two.cell.output)
    assert_one(one, two)


def test_the_originals_squashing_is_a_tanh_of_the_half():
    """4σ(a) - 2 = 2 tanh(a / 2), so its memory is twice that of the cell with tanh whose candidate is half as large."""
    one, two = pair(make(zoo.OriginalLSTM), make(zoo.OriginalLSTM, **TANH))
    tie(two.cell.candidate, one.cell.candidate, 0.5)
    x = draw_inputs(one, T, B)["x"]
    expected, found = (results(layer, {"x": x}, loss_of=["output"]) for layer in (one, two))
    assert_equal(2 * found.pop("last C"), expected.pop("last C"), "C")
    for what in ("output", "last h", "gradient of x"):
        assert_equal(found[what], expected[what], what)


def test_the_original_may_do_without_squashing():
    layer = make(zoo.OriginalLSTM, g="identity", h="identity")
    inputs, c = draw_inputs(layer, T, B), layer.cell
    h, C = inputs["h"][0], inputs["C"][0]
    for x in inputs["x"]:
        C, h = (after := C + sigmoid(c.input(h, x)) * c.candidate(h, x)), sigmoid(c.output(h, x)) * after
    found = results(layer, inputs)
    assert_equal(found["last h"][0], h.detach(), "h")
    assert_equal(found["last C"][0], C.detach(), "C")


def test_a_memory_block_is_cells_of_equal_gates():
    one, two = make(zoo.OriginalLSTM, block_size=3), make(zoo.OriginalLSTM)
    tie(two.cell.candidate, one.cell.candidate)
    for gate in ("input", "output"):
        for name, parameter in getattr(one.cell, gate).named_parameters():
            getattr(getattr(two.cell, gate), name).data = parameter.detach().repeat_interleave(3, 0)
    assert_one(one, two)
    assert_kernel_is_loop(one, draw_inputs(one, T, B), record=True)


def test_a_mut_whose_update_gate_is_shut_keeps_its_state():
    for cell in (zoo.MUT1, zoo.MUT2, zoo.MUT3):
        layer = make(cell)
        pin(layer.cell.update, SHUT)
        inputs = draw_inputs(layer, T, B)
        found = results(layer, inputs, loss_of=["last h"])
        assert_equal(found["output"], inputs["h"].detach().expand(T, B, HIDDEN), "output")
        assert not found["gradient of x"].any()


def through_embedding(target, affine, embed):
    """The target is the map of the embedded input: W · (W_x · x) is (W W_x) · x."""
    tie(target, affine)
    target.weight_x.data = affine.weight_e.detach() @ embed.weight_x.detach()


def without_biases(layer):
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return layer


def with_open_gates(cell):
    layer = make(cell)
    pin(layer.cell.update, OPEN)
    pin(layer.cell.reset, OPEN)
    return layer


def test_mut2_and_mut3_with_open_gates_are_the_plain_rnn():
    one, two = make(zoo.RNN), with_open_gates(zoo.MUT2)
    through_embedding(one.cell.hidden, two.cell.candidate, two.cell.embed)
    assert_one(one, two)
    two = with_open_gates(zoo.MUT3)
    tie(one.cell.hidden, two.cell.candidate)
    assert_one(one, two)


def test_mut1_with_open_gates_by_hand():
    layer = with_open_gates(zoo.MUT1)
    inputs, c = draw_inputs(layer, T, B), layer.cell
    h = inputs["h"][0]
    for x in inputs["x"]:
        h = tanh(c.recall(h) + tanh(c.embed(x)))
    assert_equal(results(layer, inputs)["last h"][0], h.detach(), "h")


def test_mut2_is_the_essays_gru_whose_reset_gate_reads_the_embedding():
    one, two = make(zoo.ResetBeforeGRU), without_biases(make(zoo.MUT2))
    for name in ("update", "candidate"):
        through_embedding(getattr(one.cell, name), getattr(two.cell, name), two.cell.embed)
    tie(one.cell.reset, two.cell.reset)
    one.cell.reset.weight_x.data = two.cell.embed.weight_x.detach()
    assert_one(one, two)


def test_mut3_is_the_essays_gru_where_the_update_gate_does_not_see_the_state():
    one, two = pair(make(zoo.ResetBeforeGRU), without_biases(make(zoo.MUT3)))
    blind(one.cell.update, two.cell.update, to="h")
    assert_one(one, two)


@pytest.mark.parametrize("options", [{}, {"forget_bias": 5}], ids=str)
def test_the_forget_bias_is_what_it_is_called_at_the_start_and_after_a_reset(options):
    layer = make(zoo.ForgetBiasLSTM, num_layers=2, bidirectional=True, **options)
    for _ in range(2):
        for cell in layer.cells:
            assert (cell.forget.bias == options.get("forget_bias", 1)).all()
            assert cell.input.bias.abs().max() <= cell.input.bound
        layer.reset_parameters()
    assert make(zoo.ForgetBiasLSTM, bias=False).cell.forget.bias is None


def test_shut_depth_gates_leave_a_plain_stack():
    """In the authors' form one of LSTMs whose forget gate is 1 minus the input gate."""
    stack = {"num_layers": 3, "bidirectional": True}
    one, two = pair(make(zoo.PeepholeLSTM, **stack), make(zoo.DepthGatedLSTM, **stack))
    shut_depth_gates(two)
    assert_one(one, two)
    one, two = pair(make(zoo.FullPeepholeLSTM, **stack), make(zoo.CoupledDepthGatedLSTM, **stack))
    shut_depth_gates(two)
    for cell in one.cells:
        tie(cell.forget, cell.input, -1)
    assert_one(one, two)


def shut_depth_gates(layer):
    for cell in layer.cells:
        pin(cell.depth, SHUT)


def test_an_open_depth_gate_adds_the_memory_below():
    """Where nothing else enters, the memory of every layer is that under the first, at the same step."""
    layer = make(zoo.DepthGatedLSTM, num_layers=2)
    for cell in layer.cells:
        for gate, bias in ((cell.depth, OPEN), (cell.forget, SHUT), (cell.input, SHUT)):
            pin(gate, bias)
    x = draw_inputs(layer, T, B)["x"].detach()
    _, _, values = layer(x, record=True)
    for C in values["C"]:
        assert_equal(C[0], layer.ground[0]["C_below"](x), "C")


@pytest.mark.parametrize("priority", [False, True], ids=["plain", "priority"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_grid_is_a_loop_over_its_points(layers, priority):
    """Every side by one matrix over H = [h, x], point by point along the layers first."""
    grid = make(zoo.PriorityGridLSTM if priority else zoo.GridLSTM, num_layers=layers)
    inputs = draw_inputs(grid, T, B)
    wanted = results(grid, inputs)
    x, h, m = (inputs[name].detach() for name in ("x", "h", "m"))
    going = {(layer, -1): (h[layer], m[layer]) for layer in range(layers)}
    rising = {(-1, t): (x[t], grid.ground[0]["m_below"](x[t])) for t in range(T)}
    for layer in range(layers):
        for t in range(T):
            (h, m), (up, m_below) = going[layer, t - 1], rising[layer - 1, t]
            going[layer, t] = by_hand(grid.cells[layer].time, m, h, up)
            H = (going[layer, t][0] if priority else h), up
            rising[layer, t] = by_hand(grid.cells[layer].depth, m_below, *H)
    for t in range(T):
        assert_equal(wanted["output"][t], rising[layers - 1, t][0].detach(), f"output at {t}")
    for layer in range(layers):
        for what, value in zip(("last h", "last m"), going[layer, T - 1], strict=True):
            assert_equal(wanted[what][layer], value.detach(), what)


def by_hand(side, m, *H):
    """(h', m') of one side, from one product of one matrix."""
    maps = side.update, side.forget, side.output, side.candidate
    W = torch.cat([torch.cat(list(each.parameters())[:-1], 1) for each in maps])
    u, f, o, m_tilde = (torch.cat(H, 1) @ W.t() + torch.cat([each.bias for each in maps])).chunk(4, 1)
    m = sigmoid(f) * m + sigmoid(u) * tanh(m_tilde)
    return tanh(sigmoid(o) * m), m


def test_time_is_an_lstm_in_a_grid_of_one_layer():
    """With the output gate outside the tanh, as the LSTM has it."""
    one, two = make(zoo.LSTM), make(zoo.GateOutsideGridLSTM)
    time = two.cell.time
    for affine, gate in ((time.update, "input"), (time.forget, "forget"), (time.output, "output")):
        tie(affine, getattr(one.cell, gate))
    tie(time.candidate, one.cell.candidate)
    x = draw_inputs(one, T, B)["x"]
    expected, found = (results(layer, {"x": x}, loss_of=["last h"]) for layer in (one, two))
    for what, wanted in (("last h", "last h"), ("last m", "last C"), ("gradient of x", "gradient of x")):
        assert_equal(found[what], expected[wanted], what)


def test_tied_depth_alone_is_time_without_an_input():
    depth, time = zoo.DepthLSTM(INPUT, HIDDEN, num_layers=T, tied=True).double(), make(zoo.GridLSTM)
    for name, affine in depth.blocks[0].cell.depth.named_children():
        tie(getattr(time.cell.time, name), affine)
    x = torch.randn(B, INPUT, dtype=torch.float64)
    _, (h, _), _ = time(x.expand(T, B, INPUT), (depth.hidden(x)[None], depth.memory(x)[None]))
    assert_equal(depth(x), h[0])


@pytest.mark.parametrize("priority", [False, True], ids=["plain", "priority"])
def test_an_image_of_one_row_is_a_sequence(priority):
    """There is nothing above; and the plain grid does not hear of what goes down."""
    image = zoo.ImageGridLSTM(HIDDEN, HIDDEN, num_layers=2, priority=priority).double()
    grid = conveyor.Recurrent(zoo.PriorityGridLSTM if priority else zoo.GridLSTM, HIDDEN, HIDDEN, 2).double()
    image.hidden.weight.data, image.hidden.bias.data = torch.eye(HIDDEN).double(), torch.zeros(HIDDEN).double()
    grid.ground[0]["m_below"].load_state_dict(image.memory.state_dict())
    for cell, scan in zip(grid.cells, image.scans, strict=True):
        if priority:  # h_down is not zero, and depth does not look at it
            for affine in scan.cell.depth.children():
                nn.init.zeros_(affine.weight_h_above)
        cell.time.load_state_dict(scan.cell.along.state_dict(), strict=False)
        cell.depth.load_state_dict(scan.cell.depth.state_dict(), strict=False)
    x = torch.randn(T, B, HIDDEN, dtype=torch.float64)
    assert_equal(image(x.transpose(0, 1)[:, None])[:, 0].transpose(0, 1), grid(x)[0])


def test_an_image_is_its_mirror_image_with_rows_for_columns():
    one, two = (zoo.ImageGridLSTM(INPUT, HIDDEN, num_layers=2).double() for _ in range(2))
    swapped = {"along": "down", "down": "along", "depth": "depth"}
    turned = {"weight_h": "weight_h_above", "weight_h_above": "weight_h"}
    state = {}
    for name, value in one.state_dict().items():
        words = [turned.get(word, swapped.get(word, word)) for word in name.split(".")]
        state[".".join(words)] = value
    two.load_state_dict(state)
    images = torch.randn(B, 2, 3, INPUT, dtype=torch.float64)
    assert_equal(two(images.transpose(1, 2)).transpose(1, 2), one(images))


def test_a_place_of_an_image_hears_of_what_is_above_and_to_its_left():
    network = zoo.ImageGridLSTM(1, 2, num_layers=2)
    images = torch.randn(1, 3, 3, 1, requires_grad=True)
    (heard,) = torch.autograd.grad(network(images)[0, 1, 1].sum(), images)
    assert heard[0, :, :, 0].bool().tolist() == [[True, True, False], [True, True, False], [False, False, False]]


BAD = {
    "no such g": (zoo.OriginalLSTM, {"g": "sigmoid"}, ValueError, "g must be one of .*centred-sigmoid.*not 'sigmoid'"),
    "no such h": (zoo.OriginalLSTM, {"h": None}, ValueError, "h must be one of .*tanh, identity, not None"),
    "a block that does not divide": (zoo.OriginalLSTM, {"block_size": 4}, ValueError, "multiple of block_size.*6.*4"),
    "a block of none": (zoo.OriginalLSTM, {"block_size": 0}, ValueError, "multiple of block_size"),
    "half a block": (zoo.OriginalLSTM, {"block_size": 1.5}, TypeError, "integer number of cells, not 1.5"),
    "a bias in words": (zoo.ForgetBiasLSTM, {"forget_bias": "1"}, TypeError, "forget_bias must be a number, not '1'"),
    "a bias that is no number": (
        zoo.ForgetBiasLSTM,
        {"forget_bias": float("nan")},
        ValueError,
        "must be finite, not nan",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_option_that_makes_no_sense_is_refused(case):
    cell, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make(cell, **options)
