"""Training recipes as people write them for `torch.nn`: each takes a namespace like it, and gives the losses.

They go by class, by the names and the layout of the parameters, and by what PyTorch's tools do to them.
"""

import copy
import warnings

import torch
from torch.nn.functional import cross_entropy, dropout, mse_loss
from torch.nn.utils import clip_grad_norm_, parametrizations
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 50
TIME, BATCH, INPUT, HIDDEN, CLASSES = 7, 4, 3, 6, 3


def batches(seed, time=TIME):
    """Inputs, and as targets the tanh of their sums so far."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        x = torch.randn(time, BATCH, INPUT, generator=generator)
        yield x, x.sum(-1, keepdim=True).cumsum(0).tanh()


def model_of(nn, rnn):
    """A layer and its readout."""
    directions = 2 if rnn.bidirectional else 1
    return nn.ModuleDict({"rnn": rnn, "head": nn.Linear(directions * rnn.hidden_size, 1)})


def learn(optimizer, loss):
    """One step, and the loss before it."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def fit(model, data, optimizer, before=lambda: None):
    """The losses of training on sequences; `before` is called before each forward."""
    losses = []
    for x, target in data:
        before()
        output, _ = model["rnn"](x)
        losses.append(learn(optimizer, mse_loss(model["head"](output), target)))
    return losses


def initialised_by_name(nn, seed):
    """Orthogonal recurrent weights, Xavier's for the input, biases of zero."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.LSTM(INPUT, HIDDEN, num_layers=2))
    for name, parameter in model["rnn"].named_parameters():
        if "weight_hh" in name:
            nn.init.orthogonal_(parameter)
        elif "weight_ih" in name:
            nn.init.xavier_uniform_(parameter)
        elif "bias" in name:
            nn.init.zeros_(parameter)
    return fit(model, batches(seed), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def forget_bias(nn, seed):
    """The second quarter of each bias is the forget gate's."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.LSTM(INPUT, HIDDEN))
    for name, bias in model["rnn"].named_parameters():
        if "bias" in name:
            n = bias.size(0)
            bias.data[n // 4 : n // 2].fill_(1.0)
    return fit(model, batches(seed), torch.optim.Adam(model.parameters(), lr=0.01))


def weight_drop(nn, seed):
    """AWD-LSTM: the recurrent weights themselves are dropped, anew for each batch."""
    torch.manual_seed(seed)
    rnn = nn.LSTM(INPUT, HIDDEN)
    raw = rnn.weight_hh_l0
    del rnn._parameters["weight_hh_l0"]
    rnn.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
    model = model_of(nn, rnn)

    def drop():
        setattr(rnn, "weight_hh_l0", dropout(rnn.weight_hh_l0_raw, 0.3))  # noqa: B010 -- so it is written everywhere

    return fit(model, batches(seed), torch.optim.Adam(model.parameters(), lr=0.01), drop)


def weight_norm(nn, seed):
    """Direction and length of each row of the recurrent weights are learnt apart."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.LSTM(INPUT, HIDDEN))
    parametrizations.weight_norm(model["rnn"], "weight_hh_l0")
    return fit(model, batches(seed), torch.optim.Adam(model.parameters(), lr=0.01))


def weight_norm_by_hooks(nn, seed):
    """The older function, which sets the attribute in a hook before each forward."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.GRU(INPUT, HIDDEN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old_weight_norm(model["rnn"], "weight_hh_l0")
    return fit(model, batches(seed), torch.optim.Adam(model.parameters(), lr=0.01))


def truncated(nn, seed):
    """Backpropagation through a few steps of one long sequence, whose states are carried on."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.LSTM(INPUT, HIDDEN, num_layers=2, batch_first=True))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    state = (torch.zeros(2, BATCH, HIDDEN), torch.zeros(2, BATCH, HIDDEN))
    for x, target in batches(seed, time=5):
        h, c = state
        output, state = model["rnn"](x.transpose(0, 1), (h.detach(), c.detach()))
        loss = mse_loss(model["head"](output), target.transpose(0, 1))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        losses.append(loss.item())
    return losses


def packed(nn, seed):
    """Sequences of different lengths, not sorted by them."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.GRU(INPUT, HIDDEN, num_layers=2, batch_first=True))
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for x, target in batches(seed):
        lengths = torch.randint(1, TIME + 1, (BATCH,))
        given = pack_padded_sequence(x.transpose(0, 1), lengths, batch_first=True, enforce_sorted=False)
        output, found = pad_packed_sequence(model["rnn"](given)[0], batch_first=True, total_length=TIME)
        assert torch.equal(found, lengths)
        mask = torch.arange(TIME) < lengths[:, None]
        loss = mse_loss(model["head"](output)[mask], target.transpose(0, 1)[mask])
        losses.append(learn(optimizer, loss))
    return losses


def pooled(nn, seed):
    """A classifier on the largest values over time and on the last states of both directions."""
    torch.manual_seed(seed)
    rnn, head = nn.LSTM(INPUT, HIDDEN, bidirectional=True), nn.Linear(4 * HIDDEN, CLASSES)
    optimizer, losses = torch.optim.AdamW([*rnn.parameters(), *head.parameters()], lr=0.01), []
    for x, target in batches(seed):
        output, (h, _) = rnn(x)
        logits = head(torch.cat([output.amax(0), h[-2], h[-1]], dim=-1))
        losses.append(learn(optimizer, cross_entropy(logits, target[-1, :, 0].add(1).mul(1.4).long())))
    return losses


def averaged(nn, seed):
    """An exponential moving average of the weights, whose loss on all data comes last."""
    torch.manual_seed(seed)
    model = model_of(nn, nn.RNN(INPUT, HIDDEN, nonlinearity="relu"))
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.05), []
    for x, target in batches(seed):
        losses.append(learn(optimizer, mse_loss(model["head"](model["rnn"](x)[0]), target)))
        mean.update_parameters(model)
    with torch.no_grad():
        kept = mean.module.eval()
        losses += [mse_loss(kept["head"](kept["rnn"](x)[0]), target).item() for x, target in batches(seed)]
    return losses


def frozen(nn, seed):
    """The first layer is kept as it was for half of the training."""
    torch.manual_seed(seed)
    rnn = nn.GRU(INPUT, HIDDEN, num_layers=2)
    model = model_of(nn, rnn)
    lower = [parameter for name, parameter in rnn.named_parameters() if name.endswith("_l0")]
    for parameter in lower:
        parameter.requires_grad_(False)
    kept = [parameter.clone() for parameter in lower]
    data = list(batches(seed))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = fit(model, data[: STEPS // 2], optimizer)
    assert all(torch.equal(parameter, value) for parameter, value in zip(lower, kept, strict=True))
    for parameter in lower:
        parameter.requires_grad_(True)
    optimizer.add_param_group({"params": lower})
    losses += fit(model, data[STEPS // 2 :], optimizer)
    assert not any(torch.equal(parameter, value) for parameter, value in zip(lower, kept, strict=True))
    return losses


def resumed(nn, seed, later=None):
    """Half way, model and optimizer are saved and loaded in new ones, in the namespace `later` if it is given."""
    torch.manual_seed(seed)
    data, losses, checkpoint = list(batches(seed)), [], None
    for space, part in ((nn, data[: STEPS // 2]), (later or nn, data[STEPS // 2 :])):
        model = model_of(space, space.LSTM(INPUT, HIDDEN, num_layers=2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        if checkpoint:
            model.load_state_dict(checkpoint["model"])
            optimizer.load_state_dict(checkpoint["optimizer"])
        losses += fit(model, part, optimizer)
        checkpoint = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    return losses


def step_by_step(nn, seed):
    """A stack of three cells, and a loop over time of one's own."""
    torch.manual_seed(seed)
    cells = nn.ModuleList([nn.LSTMCell(INPUT, HIDDEN), nn.GRUCell(HIDDEN, HIDDEN), nn.RNNCell(HIDDEN, HIDDEN)])
    head, losses = nn.Linear(HIDDEN, 1), []
    optimizer = torch.optim.Adam([*cells.parameters(), *head.parameters()], lr=0.01)
    for x, target in batches(seed):
        first, second, third, outputs = None, None, None, []
        for x_t in x:
            first = cells[0](x_t, first)
            second = cells[1](first[0], second)
            third = cells[2](second, third)
            outputs.append(head(third))
        losses.append(learn(optimizer, mse_loss(torch.stack(outputs), target)))
    return losses


RECIPES = [
    initialised_by_name,
    forget_bias,
    weight_drop,
    weight_norm,
    weight_norm_by_hooks,
    truncated,
    packed,
    pooled,
    averaged,
    frozen,
    resumed,
    step_by_step,
]
