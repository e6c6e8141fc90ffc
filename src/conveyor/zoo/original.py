"""Long short-term memory as it was first published, before it could forget."""

from collections.abc import Callable

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell, is_whole

# The squashing functions by name; the paper's own are the first two, g and h.
SQUASHING: dict[str, Callable[[Tensor], Tensor]] = {
    "double-centred-sigmoid": lambda a: 4 * sigmoid(a) - 2,
    "centred-sigmoid": lambda a: 2 * sigmoid(a) - 1,
    "tanh": tanh,
    "identity": lambda a: a,
}


class OriginalLSTM(Cell):
    """The original LSTM: no forget gate, the memory only adds up (Hochreiter & Schmidhuber 1997).

    i_t = σ(W_i · [h_{t-1}, x_t] + b_i)
    C̃_t = g(W_C · [h_{t-1}, x_t] + b_C)         g(a) = 4σ(a) - 2
    C_t = C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [h_{t-1}, x_t] + b_o)
    h_t = o_t * h(C_t)                          h(a) = 2σ(a) - 1

    The paper's net_c, y_in, s_c, y_out and y_c are W_C · [h, x] + b_C, i, C, o and h here.

    Options: `g` and `h` name the squashing functions, each one of "double-centred-sigmoid" (4σ(a) - 2, in ±2),
    "centred-sigmoid" (2σ(a) - 1, in ±1), "tanh" and "identity". `block_size` is the size of the paper's memory
    blocks: that many cells have one input and one output gate together, so `hidden_size` is a multiple of it.

    Shapes: x [B, input]; h, C [B, hidden]; W_C [hidden, hidden + input]; W_i, W_o [blocks, hidden + input].
    Paper: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory".
    Departures: the gradient is whole, where the paper cuts it off at what gates and cells read; every map has a bias;
    the maps read the cells and the input, not the gates, which Greff et al. 2015 find in the paper, too
    (`FullGateRecurrenceLSTM`).
    Doubt: the equations, g and h are those of a secondary source.
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
        self.squash_input, self.squash_output = _known("g", g), _known("h", h)
        self.block_size = _divisor(block_size, hidden_size)
        blocks = self.hidden_size // self.block_size
        self.input = self.affine("h", "x", out=blocks)
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x", out=blocks)

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        i = sigmoid(self.input(h, x))
        C_tilde = SQUASHING[self.squash_input](self.candidate(h, x))
        C = C + self.for_each_cell(i) * C_tilde
        o = sigmoid(self.output(h, x))
        h = self.for_each_cell(o) * SQUASHING[self.squash_output](C)
        return h, C

    def for_each_cell(self, gate: Tensor) -> Tensor:
        """The gate of each cell's block: [B, hidden / block_size] to [B, hidden]."""
        if self.block_size == 1:
            return gate
        return gate.unsqueeze(-1).expand(*gate.shape, self.block_size).flatten(-2)


def _known(option: str, name: str) -> str:
    if name not in list(SQUASHING):
        raise ValueError(f"{option} is one of the squashing functions {', '.join(SQUASHING)}, not {name!r}")
    return name


def _divisor(block_size: int, hidden_size: int) -> int:
    if not is_whole(block_size):
        raise TypeError(f"block_size is a whole number of cells, not {block_size!r}")
    if block_size < 1 or hidden_size % block_size:
        raise ValueError(f"hidden_size must be a multiple of block_size, but {hidden_size} is none of {block_size}")
    return int(block_size)
