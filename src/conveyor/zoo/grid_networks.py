"""Grid LSTMs as networks: over depth alone (1-LSTM), and over the two axes of an image and depth (3-LSTM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conveyor.cell.cell import Cell, check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.check import check_tensor
from conveyor.zoo.grid import Side


class DepthBlock(Cell):
    """One block of a 1-LSTM as a cell that steps through layers instead of time. It ignores x.

    (h', m') = LSTM([h], m, W)
    """

    state = ("h", "m")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.depth = Side(self, "h")

    def step(self, x: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        h, m = self.depth.step(m, h)
        return h, m


class ImageBlock(Cell):
    """One row of an image in a 3-LSTM, scanned from left to right; the vectors from the row above are streams.

    H = [h, h_above, x];  (h', m') = LSTM(H, m, W_along),  (h_down, m_down) = LSTM(H, m_above, W_down),
    (h_depth, m_depth) = LSTM(H, m_below, W_depth)
    """

    state = ("h", "m")
    extra = ("h_down", "m_down", "h_depth", "m_depth")

    def __init__(self, input_size: int, hidden_size: int):
        further = dict.fromkeys(("h_above", "m_above", "m_below"), hidden_size)
        super().__init__(input_size, hidden_size, **further)
        self.along, self.down, self.depth = (Side(self, "h", "h_above", "x") for _ in range(3))

    def step(
        self, x: Tensor, h: Tensor, m: Tensor, h_above: Tensor, m_above: Tensor, m_below: Tensor
    ) -> tuple[Tensor, ...]:
        h_depth, m_depth = self.depth.step(m_below, h, h_above, x)
        h_down, m_down = self.down.step(m_above, h, h_above, x)
        h, m = self.along.step(m, h, h_above, x)
        return h, m, h_down, m_down, h_depth, m_depth


class PriorityImageBlock(ImageBlock):
    """`ImageBlock` with depth as the priority dimension, for which H = [h', h_down, x]."""

    def step(
        self, x: Tensor, h: Tensor, m: Tensor, h_above: Tensor, m_above: Tensor, m_below: Tensor
    ) -> tuple[Tensor, ...]:
        h_down, m_down = self.down.step(m_above, h, h_above, x)
        h, m = self.along.step(m, h, h_above, x)
        h_depth, m_depth = self.depth.step(m_below, h, h_down, x)
        return h, m, h_down, m_down, h_depth, m_depth


class DepthLSTM(nn.Module):
    """Grid LSTM over depth alone, the paper's 1-LSTM: a deep feed-forward network whose layers are LSTM blocks.

        network = conveyor.zoo.DepthLSTM(100, 64, num_layers=5, tied=True)
        output = network(x)                                  # x: [B, 100], output: [B, 64]

    h_0 = W_h · x + b_h
    m_0 = W_m · x + b_m
    (h_l, m_l) = LSTM([h_{l-1}], m_{l-1}, W_l),  l = 1 .. num_layers, as in `GridLSTM`

    The output is the last h. `tied` layers share one W, and the kernel runs them as one sequence.

    Shapes: x [B, input]; h, m [B, hidden].
    Paper: Kalchbrenner, Danihelka & Graves 2015, section 3.
    Departures: none known.
    Doubt: from memory, including the projections of the whole input.

    Raises ValueError for an input of another shape or dtype.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, tied: bool = False):
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.num_layers, self.tied = input_size, num_layers, tied
        self.hidden, self.memory = nn.Linear(input_size, hidden_size), nn.Linear(input_size, hidden_size)
        layers = 1 if tied else num_layers
        self.blocks = nn.ModuleList(Recurrent(DepthBlock, 1, hidden_size) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("x", x, ("B", self.input_size), self.hidden.weight)
        h, m = self.hidden(x)[None], self.memory(x)[None]
        steps = x.new_zeros(1).expand(self.num_layers // len(self.blocks), len(x), 1)  # a block ignores its input
        for block in self.blocks:
            _, (h, m) = block(steps, (h, m))
        return h[0]


class ImageGridLSTM(nn.Module):
    """Grid LSTM over an image's rows and columns and depth, the paper's 3-LSTM.

        network = conveyor.zoo.ImageGridLSTM(1, 16, num_layers=2)
        output = network(images)                   # images: [B, rows, columns, 1], output: [B, rows, columns, 16]

    At row r and column c of each layer, with LSTM as in `GridLSTM`:

    H = [h_{r,c-1}, h'_{r-1,c}, x]
    (h_{r,c}, m_{r,c}) = LSTM(H, m_{r,c-1}, W_along)
    (h'_{r,c}, m'_{r,c}) = LSTM(H, m'_{r-1,c}, W_down)
    (h_depth, m_depth) = LSTM(H, m_below, W_depth)

    x and m_below are h_depth and m_depth of the layer below at the same pixel; in the lowest layer they are projections
    of the pixel. Outside the image all vectors are zero. The output is h_depth of the top layer, which depends on all
    pixels above and to the left. With `priority`, depth is computed last and reads H = [h_{r,c}, h'_{r,c}, x]. `tied`
    layers share their weights.

    Shapes: all vectors [B, hidden] at each pixel.
    Paper: Kalchbrenner, Danihelka & Graves 2015, section 3.
    Departures: a single scan from one corner.
    Doubt: from memory, including what else the paper does with images (patches instead of pixels, scans from other
    corners).

    Raises ValueError for images of another shape or dtype, and for images without pixels.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, tied: bool = False, priority: bool = False
    ):
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.num_layers, self.tied, self.priority = input_size, num_layers, tied, priority
        self.hidden, self.memory = nn.Linear(input_size, hidden_size), nn.Linear(input_size, hidden_size)
        block = PriorityImageBlock if priority else ImageBlock
        layers = 1 if tied else num_layers
        self.scans = nn.ModuleList(Recurrent(block, hidden_size, hidden_size) for _ in range(layers))

    def forward(self, images: Tensor) -> Tensor:
        check_tensor("images", images, ("B", "rows", "columns", self.input_size), self.hidden.weight)
        if not images.shape[1] * images.shape[2]:
            raise ValueError(f"an image has at least one row and one column, but the shape is {list(images.shape)}")
        pixels = images.permute(1, 2, 0, 3)
        h, m = self.hidden(pixels), self.memory(pixels)  # [rows, columns, B, hidden_size]
        for layer in range(self.num_layers):
            h, m = self._layer(self.scans[layer % len(self.scans)], h, m)
        return h.permute(2, 0, 1, 3)

    def _layer(self, scan: nn.Module, x: Tensor, m_below: Tensor) -> tuple[Tensor, Tensor]:
        """h_depth and m_depth of a layer from x and m_below, [rows, columns, B, hidden_size] each."""
        h_above = m_above = torch.zeros_like(x[0])
        up = []
        for row, memory in zip(x, m_below, strict=True):
            *_, values = scan(row, h_above=h_above, m_above=m_above, m_below=memory)
            h_above, m_above, *outputs = (values[name][0, 0] for name in ImageBlock.extra)
            up.append(outputs)
        h, m = (torch.stack(rows) for rows in zip(*up, strict=True))
        return h, m
