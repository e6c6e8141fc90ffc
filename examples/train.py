"""Train a model with the layer: add two numbers that are marked in a sequence of thirty.

    python examples/train.py

prints in 9 seconds of one processor's time, after three lines on the way there:

    mean squared error of new sequences: 0.0018 (always guessing 1: 0.167)
"""

import torch
from torch import nn

import conveyor

STEPS, BATCH, HIDDEN = 30, 64, 32


class Adder(nn.Module):
    """Reads a sequence and answers with one number."""

    def __init__(self):
        super().__init__()
        self.rnn = conveyor.LSTM(2, HIDDEN)
        self.answer = nn.Linear(HIDDEN, 1)

    def forward(self, x):
        output, _ = self.rnn(x)  # [T, B, HIDDEN]
        return self.answer(output[-1]).squeeze(-1)  # [B]


def draw(batch):
    """Numbers between 0 and 1, of which two are marked, and the sum of those two."""
    numbers = torch.rand(STEPS, batch)
    marks = (torch.rand(STEPS, batch).argsort(0) < 2).float()
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(0)  # [T, B, 2], [B]


def main():
    torch.manual_seed(0)
    model = Adder()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(1, 601):
        x, target = draw(BATCH)
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 200 == 0:
            print(f"step {step}: loss {loss:.4f}")
    with torch.no_grad():
        x, target = draw(1000)
        error = nn.functional.mse_loss(model(x), target)
    print(f"mean squared error of new sequences: {error:.4f} (always guessing 1: 0.167)")


if __name__ == "__main__":
    main()
