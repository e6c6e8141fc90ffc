"""Training by `Recurrent.of` against a plain loop over the module, in ms: medians of interleaved runs on one thread.

    python benchmarks/modules.py                # 20 seconds: T=100, B=16, 128 units, float32, forward and backward

The cells are torch.nn's three and three own ones: with an output besides the state, with each state an argument, and
with a layer norm.
"""

import statistics
import time

import torch
from torch import Tensor, nn

import conveyor

STEPS, BATCH, UNITS, RUNS, WARM = 100, 16, 128, 20, 3


class Spoken(nn.Module):
    """An output besides the state."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.read, self.out = nn.Linear(input_size + hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.read(torch.cat([x, h], -1)))
        return self.out(h).relu(), h


class Apart(nn.Module):
    """An LSTM that takes each state as an argument."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, 4 * hidden_size), nn.Linear(hidden_size, 4 * hidden_size, False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.of_x(x) + self.of_h(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Normal(nn.Module):
    """A layer norm."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.of_x(x) + self.of_h(h)))


def loop(module: nn.Module, x: Tensor) -> Tensor:
    """The outputs over time, as one writes it by hand."""
    outputs, h, c = [], x.new_zeros(BATCH, UNITS), x.new_zeros(BATCH, UNITS)
    for x_t in x.unbind(0):
        if isinstance(module, nn.LSTMCell):
            y, c = h, c = module(x_t, (h, c))
        elif isinstance(module, Apart):
            y, c = h, c = module(x_t, h, c)
        elif isinstance(module, Spoken):
            y, h = module(x_t, h)
        else:
            y = h = module(x_t, h)
        outputs.append(y)
    return torch.stack(outputs)


def main() -> None:
    """Prints a line for each cell."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    states = {Spoken: ("h",), Apart: ("h", "c"), Normal: ("h",)}
    sizes = {"input_size": UNITS, "hidden_size": UNITS}
    x = torch.randn(STEPS, BATCH, UNITS, requires_grad=True)
    for make in (nn.LSTMCell, nn.GRUCell, nn.RNNCell, Spoken, Apart, Normal):
        module = make(UNITS, UNITS)
        layer = conveyor.Recurrent.of(module, states.get(make), output="y" if make is Spoken else None, **sizes)
        times: dict[str, list[float]] = {"layer": [], "loop": []}
        for _ in range(WARM + RUNS):
            for name, taken in times.items():
                start = time.perf_counter()
                (layer(x)[0] if name == "layer" else loop(module, x)).sum().backward()
                taken.append(1000 * (time.perf_counter() - start))
        by_layer, by_hand = (statistics.median(taken[WARM:]) for taken in times.values())
        print(
            f"{make.__name__:10} layer {by_layer:6.1f}   loop {by_hand:6.1f}   {by_hand / by_layer:.2f} times as long"
        )


if __name__ == "__main__":
    main()
