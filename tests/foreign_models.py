"""Three models as people write them in plain PyTorch, and data to train them in seconds. None knows conveyor."""

import torch
from torch import nn

SPEAKERS = [f"speaker {k + 1}" for k in range(9)]
TEXT = "the cat that the dogs see sleeps. the dogs that the cat sees sleep. " * 8


def utterances(count, seed=0):
    """Series of 12 coefficients and the number of a speaker, as in JapaneseVowels: two vowels, 10 to 29 frames."""
    draw = torch.Generator().manual_seed(seed)
    vowels = torch.randn(9, 2, 12, generator=torch.Generator().manual_seed(7))
    for k in range(count):
        steps = int(torch.randint(10, 30, (), generator=draw))
        share = torch.linspace(0, 1, steps)[:, None]
        frames = (1 - share) * vowels[k % 9, 0] + share * vowels[k % 9, 1]
        yield frames + 0.4 * torch.randn(steps, 12, generator=draw), k % 9


def temperatures(hours):
    """Degrees Fahrenheit of each hour: days, a year, and weather."""
    t = torch.arange(hours)
    weather = torch.randn(hours, generator=torch.Generator().manual_seed(3)).cumsum(0)
    weather = weather - weather.roll(24)
    return 52 + 9 * torch.sin(t * 6.2832 / 24) + 6 * torch.sin(t * 6.2832 / 2000) + 0.3 * weather


class Classifier(nn.Module):
    """Which speaker it was, after the last frame."""

    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(12, hidden, num_layers=2, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(hidden, 9)

    def forward(self, x):
        output, _ = self.lstm(x)
        return self.fc(self.drop(output[:, -1]))


class Forecaster(nn.Module):
    """The temperature of the next hour, of that of the hours so far; both normalised."""

    def __init__(self, hidden=16):
        super().__init__()
        self.gru = nn.GRU(1, hidden)
        self.out = nn.Sequential(nn.Linear(hidden, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        return self.out(self.gru(x)[0])


class Speller(nn.Module):
    """A language model of characters."""

    def __init__(self, characters, hidden=32):
        super().__init__()
        self.embed = nn.Embedding(len(characters), 12)
        self.rnn = nn.RNN(12, hidden, batch_first=True)
        self.decode = nn.Linear(hidden, len(characters))

    def forward(self, tokens):
        output, state = self.rnn(self.embed(tokens))
        return self.decode(output), state


def learn(model, batches, loss):
    """Some steps of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in batches:
        optimizer.zero_grad()
        loss(model, *batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def classifier():
    """Trained on one utterance at a time."""
    return learn(
        Classifier(),
        [(frames[None], torch.tensor([speaker])) for frames, speaker in utterances(180, seed=1)],
        lambda model, x, y: nn.functional.cross_entropy(model(x), y),
    )


def forecaster():
    """Trained on windows of three days; with the mean and the deviation of the series."""
    series = temperatures(2400)
    mean, deviation = series.mean(), series.std()
    normal = ((series - mean) / deviation)[: 73 * 32].view(32, 73).t()[..., None]
    batches = [(normal[:-1], normal[1:])] * 60
    model = learn(Forecaster(), batches, lambda model, x, y: nn.functional.mse_loss(model(x), y))
    return model, float(mean), float(deviation)


def speller():
    """Trained on a text; with its characters."""
    characters = sorted(set(TEXT), reverse=True)  # in no order of ours
    tokens = torch.tensor([characters.index(one) for one in TEXT])
    rows = tokens[: 16 * 34].view(16, 34)
    batches = [(rows[:, :-1], rows[:, 1:])] * 40
    loss = nn.functional.cross_entropy
    return learn(Speller(characters), batches, lambda model, x, y: loss(model(x)[0].mT, y)), characters
