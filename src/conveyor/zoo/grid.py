"""Grid LSTM: a block has an LSTM for each of its dimensions, and each of them reads the hidden vectors of all.

This file has the parts of a block and the grid over time and depth. Grids over depth alone and over an image and depth
are in grid_networks.py.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn, sigmoid, tanh

from conveyor.cell import Cell


class Side(nn.Module):
    """One dimension of a block: (h', m') = LSTM(H, m, W), where H are the hidden vectors of all dimensions.

    u = σ(W_u · H + b_u)
    f = σ(W_f · H + b_f)
    o = σ(W_o · H + b_o)
    m̃ = tanh(W_m · H + b_m)
    m' = f * m + u * m̃
    h' = tanh(o * m')

    `cell` is the block, and `hidden` are its names for the vectors of H.
    """

    def __init__(self, cell: Cell, *hidden: str):
        super().__init__()
        self.update = cell.affine(*hidden)
        self.forget = cell.affine(*hidden)
        self.output = cell.affine(*hidden)
        self.candidate = cell.affine(*hidden)

    def step(self, m: Tensor, *H: Tensor) -> tuple[Tensor, Tensor]:
        u = sigmoid(self.update(*H))
        f = sigmoid(self.forget(*H))
        o = sigmoid(self.output(*H))
        m_tilde = tanh(self.candidate(*H))
        m = f * m + u * m_tilde
        return self.hidden(o, m), m

    def hidden(self, o: Tensor, m: Tensor) -> Tensor:
        """h' from the output gate and the new memory, [B, hidden] each."""
        return tanh(o * m)


class GateOutsideSide(Side):
    """A side with the output gate outside the tanh, as in the LSTM: h' = o * tanh(m')."""

    def hidden(self, o: Tensor, m: Tensor) -> Tensor:
        return o * tanh(m)


class GridLSTM(Cell):
    """Grid LSTM over time and depth, the paper's 2-LSTM: both have memory cells (Kalchbrenner et al. 2015).

    H = [h_{t-1}, x_t]
    (h_t, m_t) = LSTM(H, m_{t-1}, W_time)
    (h_depth, m_depth) = LSTM(H, m_below, W_depth)

    where (h', m') = LSTM(H, m, W) is

    u = σ(W_u · H + b_u)
    f = σ(W_f · H + b_f)
    o = σ(W_o · H + b_o)
    m̃ = tanh(W_m · H + b_m)
    m' = f * m + u * m̃
    h' = tanh(o * m')

    x_t and m_below are h_depth and m_depth of the layer below. In the lowest layer they are the input and a projection
    of it. The output is h_depth. `num_layers` is the depth of the grid; with `tied=True` of `Recurrent` its layers
    share their weights.

    Shapes: x [B, input]; all others [B, hidden]; every W [hidden, hidden + input].
    Paper: Kalchbrenner, Danihelka & Graves 2015, "Grid Long Short-Term Memory", sections 2 and 3.
    Departures: biases, which `bias=False` removes. The input enters H directly, where the paper first projects it to
    the width of h_depth. This is equivalent unless the layers are tied; then put the projection in front.
    Doubt: the equations are from memory, in particular the tanh around o * m': a published port to Torch has
    o * tanh(m') (`GateOutsideGridLSTM`).
    """

    state = ("h", "m")
    extra = ("h_depth", "m_depth")
    output_name = "h_depth"
    below: ClassVar[Mapping[str, str]] = {"m_below": "m_depth"}
    side: ClassVar[type[Side]] = Side

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.time = self.side(self, "h", "x")
        self.depth = self.side(self, "h", "x")

    def step(self, x: Tensor, h: Tensor, m: Tensor, m_below: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h_depth, m_depth = self.depth.step(m_below, h, x)
        h, m = self.time.step(m, h, x)
        return h, m, h_depth, m_depth


class PriorityGridLSTM(GridLSTM):
    """Grid LSTM with depth as the priority dimension: it is computed last and reads the new h.

    (h_t, m_t) = LSTM([h_{t-1}, x_t], m_{t-1}, W_time)
    (h_depth, m_depth) = LSTM([h_t, x_t], m_below, W_depth)

    The rest as in the Grid LSTM.

    Shapes: as there.
    Paper: Kalchbrenner, Danihelka & Graves 2015, section 3.2; from a secondary source.
    """

    def step(self, x: Tensor, h: Tensor, m: Tensor, m_below: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, m = self.time.step(m, h, x)
        h_depth, m_depth = self.depth.step(m_below, h, x)
        return h, m, h_depth, m_depth


class GateOutsideGridLSTM(GridLSTM):
    """Grid LSTM with the output gate outside the tanh, as in the LSTM and in a published port to Torch.

    h' = o * tanh(m')

    The rest as in the Grid LSTM.
    """

    side = GateOutsideSide
