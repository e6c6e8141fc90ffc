"""Long short-term memory as first published, without a forget gate."""

from collections.abc import Callable

from torch import Tensor, sigmoid, tanh

from conveyor.cell.cell import Cell, is_whole

# The activation functions by name; the first two are the paper's g and h.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "double-centred-sigmoid": lambda a: 4 * sigmoid(a) - 2,
    "centred-sigmoid": lambda a: 2 * sigmoid(a) - 1,
    "tanh": tanh,
    "identity": lambda a: a,
}


class OriginalLSTM(Cell):
    """The original LSTM, without a forget gate: the memory only accumulates (Hochreiter & Schmidhuber 1997).

    i_t = σ(W_i · [h_{t-1}, x_t] + b_i)
    C̃_t = g(W_C · [h_{t-1}, x_t] + b_C)         g(a) = 4σ(a) - 2
    C_t = C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [h_{t-1}, x_t] + b_o)
    h_t = o_t * h(C_t)                          h(a) = 2σ(a) - 1

    The paper's net_c, y_in, s_c, y_out and y_c are W_C · [h, x] + b_C, i, C, o and h here.

    Options: `g` and `h` name the activation functions, each one of "double-centred-sigmoid" (4σ(a) - 2, in ±2),
    "centred-sigmoid" (2σ(a) - 1, in ±1), "tanh" and "identity". `block_size` is the size of the paper's memory
    blocks: that many cells share an input and an output gate, so `hidden_size` must be a multiple of it.

    Shapes: x [B, input]; h, C [B, hidden]; W_C [hidden, hidden + input]; W_i, W_o [blocks, hidden + input].
    Paper: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory".
    Departures: the gradient is exact, where the paper truncates it at the inputs of gates and cells; every map has a
    bias; the maps read the cells and the input, but not the gates, as Greff et al. 2015 say the paper does, too
    (`FullGateRecurrenceLSTM`).
    Doubt: the equations, g and h are from a secondary source.
    """

    state = ("h", "C")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        g: str = "double-centred-sigmoid",
        h: str = "centred-sigmoid",
        block_size: int = 1,
    ):
        super().__init__(input_size, hidden_size)
        self.activation_g, self.activation_h = _known("g", g), _known("h", h)
        self.block_size = _divisor(block_size, hidden_size)
        blocks = self.hidden_size // self.block_size
        self.input = self.affine("h", "x", out=blocks)
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x", out=blocks)

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        i = sigmoid(self.input(h, x))
        C_tilde = ACTIVATIONS[self.activation_g](self.candidate(h, x))
        C = C + self.for_each_cell(i) * C_tilde
        o = sigmoid(self.output(h, x))
        h = self.for_each_cell(o) * ACTIVATIONS[self.activation_h](C)
        return h, C

    def for_each_cell(self, gate: Tensor) -> Tensor:
        """Repeats the gate of each block for its cells: [B, hidden / block_size] to [B, hidden]."""
        if self.block_size == 1:
            return gate
        return gate.unsqueeze(-1).expand(*gate.shape, self.block_size).flatten(-2)


def _known(option: str, name: str) -> str:
    if name not in list(ACTIVATIONS):
        raise ValueError(f"{option} must be one of the activation functions {', '.join(ACTIVATIONS)}, not {name!r}")
    return name


def _divisor(block_size: int, hidden_size: int) -> int:
    if not is_whole(block_size):
        raise TypeError(f"block_size must be an integer number of cells, not {block_size!r}")
    if block_size < 1 or hidden_size % block_size:
        raise ValueError(f"hidden_size must be a multiple of block_size, but {hidden_size} is not one of {block_size}")
    return int(block_size)
