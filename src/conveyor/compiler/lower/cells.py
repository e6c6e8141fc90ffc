"""The steps of torch.nn.LSTMCell, GRUCell and RNNCell, which are one PyTorch function each."""

from __future__ import annotations

from conveyor.compiler.lower.activations import relu
from conveyor.compiler.lower.lowering import Lowering, Rule, Value
from conveyor.compiler.lower.products import linear


def _rows(s: Lowering, x: Value, weight: Value, bias: Value | None, parts: int) -> list[Value]:
    """The map of x, cut into the gates whose matrices lie one below the other in `weight`.

    The weights are cut, and not the result, so that every gate has a product of its own, as in a cell that is written
    gate by gate.
    """
    width = s.dims(weight)[0] // parts

    def part(v: Value, k: int) -> Value:
        return s.value(s.b.slice(v.i, 0, k * width, 1, width))

    return [linear(s, x, part(weight, k), None if bias is None else part(bias, k)) for k in range(parts)]


def _lstm(
    s: Lowering,
    x: Value,
    state: tuple[Value, Value],
    weight_x: Value,
    weight_h: Value,
    bias_x: Value | None = None,
    bias_h: Value | None = None,
) -> list[Value]:
    h, c = state
    of_x, of_h = _rows(s, x, weight_x, bias_x, 4), _rows(s, h, weight_h, bias_h, 4)
    i, f, g, o = (s.apply("add", a, b) for a, b in zip(of_x, of_h, strict=True))
    kept = s.apply("mul", s.apply("sigmoid", f), c)
    c = s.apply("add", kept, s.apply("mul", s.apply("sigmoid", i), s.apply("tanh", g)))
    return [s.apply("mul", s.apply("sigmoid", o), s.apply("tanh", c)), c]


def _gru(
    s: Lowering,
    x: Value,
    h: Value,
    weight_x: Value,
    weight_h: Value,
    bias_x: Value | None = None,
    bias_h: Value | None = None,
) -> Value:
    of_x, of_h = _rows(s, x, weight_x, bias_x, 3), _rows(s, h, weight_h, bias_h, 3)
    r, z = (s.apply("sigmoid", s.apply("add", of_x[k], of_h[k])) for k in range(2))
    n = s.apply("tanh", s.apply("add", of_x[2], s.apply("mul", r, of_h[2])))
    return s.apply("add", s.apply("mul", s.apply("sub", h, n), z), n)


def _sum(
    s: Lowering,
    x: Value,
    h: Value,
    weight_x: Value,
    weight_h: Value,
    bias_x: Value | None = None,
    bias_h: Value | None = None,
) -> Value:
    return s.apply("add", linear(s, x, weight_x, bias_x), linear(s, h, weight_h, bias_h))


CELLS: dict[str, Rule] = {
    "lstm_cell": _lstm,
    "gru_cell": _gru,
    "rnn_tanh_cell": lambda s, *given: s.apply("tanh", _sum(s, *given)),
    "rnn_relu_cell": lambda s, *given: relu(s, _sum(s, *given)),
}
