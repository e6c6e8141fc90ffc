"""Does an installed conveyor work here? One training step of each layer by the loop and, but on Windows, by a kernel.

python scripts/smoke.py
"""

import sys

import torch

import conveyor

BACKENDS = ("eager",) if sys.platform == "win32" else ("eager", "compiled")


def step(layer, backend):
    """The loss before and after one step of gradient descent."""
    x = torch.linspace(-1, 1, 5 * 2 * 3).view(5, 2, 3)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        with conveyor.backend(backend):  # with "compiled" a layer that cannot have a kernel is an error
            output, _ = layer(x)
        losses.append(output.square().mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    before, after = (loss.item() for loss in losses)
    assert after < before, f"the loss does not fall: {before}, {after}"
    return before, after


for kind in (conveyor.RNN, conveyor.LSTM, conveyor.GRU):
    found = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        found.append(torch.tensor(step(kind(3, 4), backend)))
    torch.testing.assert_close(found[0], found[-1])
    print(f"{kind.__name__}: {' and '.join(BACKENDS)}, loss {found[0][0]:.6f} before, {found[0][1]:.6f} after")
print(f"{conveyor.__file__} works on {sys.platform} with Python {sys.version.split()[0]}, PyTorch {torch.__version__}")
