"""Every cell that the laws must hold for. A new cell joins here with its oracle, and so joins every test."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import sigmoid, tanh

import conveyor
from conveyor import zoo
from oracles import by_name, clockwork, depth_gated, draw, greff, grid, jozefowicz, original
from oracles import cells as oracle


class Leaky(conveyor.Cell):
    """A user's own: one state, a parameter that no affine map holds."""

    state = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.rate = torch.nn.Parameter(torch.linspace(-1, 1, hidden_size))

    def step(self, x, h):
        h_tilde = tanh(self.candidate(h, x))
        a = sigmoid(self.rate)
        h = (1 - a) * h + a * h_tilde
        return h


class Fed(conveyor.Cell):
    """A user's own: a layer norm, states of different widths, a further stream and a constant."""

    state = ("h", "memory")
    constant = ("key",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, memory=hidden_size + 2, drive=2, key=hidden_size)
        self.norm = torch.nn.LayerNorm(hidden_size)
        self.write = self.affine("memory", "h", "x", out=hidden_size + 2)
        self.read = self.affine("memory", "drive")

    def step(self, x, h, drive, memory, key):
        memory = 0.5 * memory + tanh(self.write(memory, h, x))
        return self.norm(tanh(self.read(memory, drive)) + key), memory


class Normed(conveyor.Cell):
    """A user's own: not differentiable at zero, so that a step on padding would show; a value of one number a row."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.scale = torch.nn.Parameter(torch.ones(input_size))
        self.candidate = self.affine("h", "x", bias=False)

    def step(self, x, h):
        n = (self.scale * x).norm(dim=-1)
        h_tilde = tanh(self.candidate(h, x / n[:, None]))
        h = h_tilde / h_tilde.norm(dim=-1, keepdim=True)
        return h


class Nested(conveyor.Cell):
    """A user's own: a cell within a cell, of other widths, beside maps in a list."""

    state = ("h", "inner_h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, inner_h=4, C=4)
        self.inner = zoo.LSTM(hidden_size, 4)
        self.maps = torch.nn.ModuleList([self.affine("h", "x", h="diagonal"), self.affine("inner_h")])

    def step(self, x, h, inner_h, C):
        read, write = self.maps
        drive = tanh(read(h, x))
        inner_h, C = self.inner.step(drive, inner_h, C)
        h = tanh(write(inner_h))
        return h, inner_h, C


class Counted(conveyor.Cell):
    """A user's own: the number of the step in its equations."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.rate = torch.nn.Parameter(torch.linspace(0.1, 2, hidden_size))

    def step(self, x, h, t):
        phase = torch.cos(self.rate * t)
        h = tanh(self.candidate(h, x) + phase)
        return h


class Telling(conveyor.Cell):
    """A user's own: extra outputs, a number and a matrix for each row; a cell within it counts."""

    state = ("h", "C")
    extra = ("p", "pair")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = Counted(input_size, hidden_size)
        self.halt = self.affine("h", "x", out=1)

    def step(self, x, h, C, t):
        C = 0.5 * C + self.inner.step(x, h, t)
        p = sigmoid(self.halt(h, x)).squeeze(-1)
        h = tanh(C) * p[:, None]
        return h, C, p, torch.stack([h, C], 1)


def matrices(**rows):
    """From a cell's named parameters to a paper's matrices: symbol="module: operand operand" or a parameter's name."""

    def gather(named):
        found = {}
        for symbol, source in rows.items():
            module, colon, operands = source.partition(": ")
            blocks = [block(named, f"{module}.weight_{name}") for name in operands.split()]
            found[symbol] = np.concatenate(blocks, axis=1) if colon else named[source]
        return found

    return gather


def block(named, name):
    """A block of a matrix: a diagonal one is held as a vector, one that is zero not at all (and then it is square)."""
    if name not in named:
        return np.zeros([len(named[name.replace("weight_C", "bias")])] * 2)
    return np.diag(named[name]) if named[name].ndim == 1 else named[name]


GATES = {
    "W_f": "forget: h x",
    "b_f": "forget.bias",
    "W_i": "input: h x",
    "b_i": "input.bias",
    "W_C": "candidate: h x",
    "b_C": "candidate.bias",
    "W_o": "output: h x",
    "b_o": "output.bias",
}
PEEPHOLES = {"W_f": "forget: C h x", "W_i": "input: C h x", "W_o": "output: C h x"}
COUPLED_INPUT = {s: source for s, source in (GATES | PEEPHOLES).items() if not source.startswith("forget")}
COUPLED = {symbol: source for symbol, source in GATES.items() if not source.startswith("input")}


BLOCK = {"z": "candidate", "i": "input", "f": "forget", "o": "output"}  # by the letters of Greff et al. 2015


def greffs(maps="zifo", peepholes="ifo"):
    """The matrices of that paper's variants, for the maps and peepholes that a variant has."""
    rows = {f"W_{k}": f"{BLOCK[k]}: x" for k in maps} | {f"R_{k}": f"{BLOCK[k]}: h" for k in maps}
    rows |= {f"b_{k}": f"{BLOCK[k]}.bias" for k in maps}
    return rows | {f"p_{k}": f"{BLOCK[k]}.weight_C" for k in peepholes if k in maps}


FULL_RECURRENCE = {f"R_{of}{to}": f"{BLOCK[to]}: {of}" for of in "ifo" for to in "ifo"}

DEPTH_GATE = {
    "W_xd": "depth: x",
    "w_cd": "depth.weight_C",
    "w_ld": "depth.weight_C_below",
    "b_d": "depth.bias",
    "G": "ground.C_below.weight",
    "g": "ground.C_below.bias",
}


def sides(**H):
    """The matrices of a grid's block, for each of its dimensions and the hidden vectors that it reads."""
    gates = {"u": "update", "f": "forget", "o": "output", "m": "candidate"}
    rows = {f"W_{k}_{name}": f"{name}.{gate}: {read}" for name, read in H.items() for k, gate in gates.items()}
    return rows | {f"b_{k}_{name}": f"{name}.{gate}.bias" for name in H for k, gate in gates.items()}


GRID = matrices(**sides(time="h x", depth="h x"), G="ground.m_below.weight", g="ground.m_below.bias")


def maps(**rows):
    """The matrices W_symbol and b_symbol of affine maps: symbol="module: operand operand"."""
    return {f"W_{symbol}": source for symbol, source in rows.items()} | {
        f"b_{symbol}": source.partition(":")[0] + ".bias" for symbol, source in rows.items()
    }


def lstm_of(module, suffix="", operands="h x"):
    """The matrices of an LSTM within a cell."""
    gates = {"f": "forget", "i": "input", "C": "candidate", "o": "output"}
    return maps(**{f"{symbol}{suffix}": f"{module}{gate}: {operands}" for symbol, gate in gates.items()})


ATTENTION = matrices(
    **lstm_of("lstm.", operands="z h x"),
    **maps(sel="select: h"),
    **{"W_ctx": "key: a", "b": "key.bias", "W_d": "query: h", "U": "score: key", "c": "score.bias"},
)
PLACES = {"a": (3, 2), "mask": (3,), "g": (3,), "coin": (1,)}

PAINTING = {
    **lstm_of("encoder.", "_enc"),
    **lstm_of("decoder.", "_dec"),
    **maps(mu="mean: h_enc", sigma="spread: h_enc", w="write: h_dec"),
}
IMAGE = {"height": 2, "width": 2}

LATENT = {
    **maps(x="phi_x: x", z="phi_z: z"),
    **maps(prior_0="prior_hidden: h", prior_1="prior: prior"),
    **maps(enc_0="posterior_hidden: phi_x h", enc_1="posterior: enc"),
    **maps(dec_0="likelihood_hidden: phi_z h", dec_1="likelihood: dec"),
    **maps(**{str(k): f"recurrence.{gate}: h x" for k, gate in enumerate(("forget", "input", "candidate", "output"))}),
}

PERIODS = [1, 2, 3]


def switches(*shape, dtype):
    """Zeros and ones."""
    return torch.randint(2, shape).to(dtype)


@dataclass(frozen=True)
class Case:
    """A cell, how it is made and what it is given, and what it must compute."""

    cell: type[conveyor.Cell]
    oracle: Callable | None = None  # of x, the states in order, further inputs and matrices by name
    matrices: Callable | None = None
    options: dict = field(default_factory=dict)
    units: int = 1  # for each unit that a test asks for, where a cell cannot have any number of them
    # Of streams and constants: the shape without steps and rows, where the cell does not know their width, and what
    # draws them, where they are not to be normal numbers.
    shapes: dict = field(default_factory=dict)
    drawn: dict = field(default_factory=dict)
    stacks: bool = True  # else it has one layer: a stream is as wide as x, which a layer above has of another width
    heavy: bool = False  # a kernel takes seconds to be compiled, so that not every law has one made for every size
    drops: bool = True  # else no map reads the first state, and recurrent dropout, which acts there, is refused

    def layer(self, input_size, hidden_size, num_layers=1, **keywords):
        if not self.stacks:
            num_layers = 1
            keywords.pop("dropout", None)  # which acts between layers
        hidden_size *= self.units
        return conveyor.Recurrent(self.cell, input_size, hidden_size, num_layers, **self.options, **keywords)


CASES = {
    "rnn": Case(zoo.RNN, oracle.rnn, matrices(W="hidden: h x", b="hidden.bias")),
    "rnn-relu": Case(zoo.ReluRNN, oracle.rnn_relu, matrices(W="hidden: h x", b="hidden.bias")),
    "lstm": Case(zoo.LSTM, oracle.lstm, matrices(**GATES)),
    "lstm-projected": Case(
        zoo.ProjectedLSTM, oracle.lstm_projected, matrices(**GATES, W_r="projection: m"), {"proj_size": 2}
    ),
    "lstm-peephole": Case(zoo.PeepholeLSTM, oracle.lstm_peephole, matrices(**{**GATES, **PEEPHOLES})),
    "lstm-peephole-full": Case(zoo.FullPeepholeLSTM, oracle.lstm_peephole, matrices(**{**GATES, **PEEPHOLES})),
    "lstm-coupled": Case(zoo.CoupledLSTM, oracle.lstm_coupled, matrices(**COUPLED)),
    "gru": Case(
        zoo.GRU,
        oracle.gru,
        matrices(
            W_z="update: h x",
            b_z="update.bias",
            W_r="reset: h x",
            b_r="reset.bias",
            W_in="candidate: x",
            b_in="candidate.bias",
            W_hn="recall: h",
            b_hn="recall.bias",
        ),
    ),
    "gru-reset-before": Case(
        zoo.ResetBeforeGRU, oracle.gru_reset_before, matrices(W_z="update: h x", W_r="reset: h x", W="candidate: h x")
    ),
    "lstm-original": Case(
        zoo.OriginalLSTM,
        original.lstm,
        matrices(
            W_in="input: h x",
            b_in="input.bias",
            W_c="candidate: h x",
            b_c="candidate.bias",
            W_out="output: h x",
            b_out="output.bias",
        ),
    ),
    "lstm-forget-bias": Case(zoo.ForgetBiasLSTM, oracle.lstm, matrices(**GATES)),
    "lstm-vanilla": Case(zoo.VanillaLSTM, greff.vanilla, matrices(**greffs())),
    "lstm-nig": Case(zoo.NoInputGateLSTM, greff.nig, matrices(**greffs("zfo"))),
    "lstm-nfg": Case(zoo.NoForgetGateLSTM, greff.nfg, matrices(**greffs("zio"))),
    "lstm-nog": Case(zoo.NoOutputGateLSTM, greff.nog, matrices(**greffs("zif"))),
    "lstm-niaf": Case(zoo.NoInputActivationLSTM, greff.niaf, matrices(**greffs())),
    "lstm-noaf": Case(zoo.NoOutputActivationLSTM, greff.noaf, matrices(**greffs())),
    "lstm-np": Case(zoo.NoPeepholesLSTM, greff.vanilla, matrices(**greffs(peepholes=""))),
    "lstm-cifg": Case(zoo.CoupledPeepholeLSTM, greff.cifg, matrices(**greffs("zio"))),
    "lstm-fgr": Case(zoo.FullGateRecurrenceLSTM, greff.fgr, matrices(**greffs(), **FULL_RECURRENCE)),
    "mut1": Case(
        zoo.MUT1,
        jozefowicz.mut1,
        matrices(
            W_x="embed: x",
            W_xz="update: e",
            b_z="update.bias",
            W_xr="reset: e",
            W_hr="reset: h",
            b_r="reset.bias",
            W_hh="recall: h",
            b_h="recall.bias",
        ),
    ),
    "mut2": Case(
        zoo.MUT2,
        jozefowicz.mut2,
        matrices(
            W_x="embed: x",
            W_xz="update: e",
            W_hz="update: h",
            b_z="update.bias",
            W_hr="reset: h",
            b_r="reset.bias",
            W_hh="candidate: h",
            W_xh="candidate: e",
            b_h="candidate.bias",
        ),
    ),
    "mut3": Case(
        zoo.MUT3,
        jozefowicz.mut3,
        matrices(
            W_xz="update: x",
            W_hz="update: h",
            b_z="update.bias",
            W_xr="reset: x",
            W_hr="reset: h",
            b_r="reset.bias",
            W_hh="candidate: h",
            W_xh="candidate: x",
            b_h="candidate.bias",
        ),
    ),
    "lstm-depth-gated": Case(zoo.DepthGatedLSTM, depth_gated.one, matrices(**{**GATES, **PEEPHOLES}, **DEPTH_GATE)),
    "lstm-depth-gated, coupled": Case(
        zoo.CoupledDepthGatedLSTM, depth_gated.one, matrices(**{**COUPLED_INPUT, **DEPTH_GATE})
    ),
    "grid": Case(zoo.GridLSTM, grid.one, GRID),
    "grid-priority": Case(zoo.PriorityGridLSTM, grid.priority, GRID),
    "grid, gate outside": Case(zoo.GateOutsideGridLSTM, grid.ported, GRID),
    "clockwork": Case(
        zoo.ClockworkRNN,
        partial(clockwork.clockwork, periods=PERIODS),
        matrices(
            **{f"W_{k}": f"hidden.{k}: h x" for k in range(3)}, **{f"b_{k}": f"hidden.{k}.bias" for k in range(3)}
        ),
        {"periods": PERIODS},
        units=len(PERIODS),
    ),
    "lstm-conditioned": Case(
        zoo.ConditionedLSTM, by_name.conditioned, matrices(**lstm_of("", operands="h x z")), {"context_size": 2}
    ),
    "attention-soft": Case(
        zoo.SoftAttention,
        by_name.soft,
        ATTENTION,
        {"annotation_size": 2, "attention_size": 3},
        shapes=PLACES,
        drawn={"mask": switches},
        heavy=True,
    ),
    "attention-hard": Case(
        zoo.HardAttention,
        by_name.hard,
        ATTENTION,
        {"annotation_size": 2, "attention_size": 3},
        shapes=PLACES,
        drawn={"mask": switches, "coin": switches},
        heavy=True,
    ),
    "draw": Case(
        zoo.DRAW,
        partial(draw.draw, **IMAGE),
        matrices(**PAINTING),
        {**IMAGE, "encoder_size": 4},
        drawn={"image": torch.rand},
        heavy=True,
        drops=False,
    ),
    "draw-attentive": Case(
        zoo.AttentiveDRAW,
        partial(draw.draw, **IMAGE, N_read=2, N_write=1),
        matrices(**PAINTING, **maps(read="read_place: h_dec", write="write_place: h_dec")),
        {**IMAGE, "read_size": 2, "write_size": 1},
        drawn={"image": torch.rand},
        heavy=True,
        drops=False,
    ),
    "vrnn": Case(
        zoo.VRNNCell,
        by_name.variational,
        matrices(**LATENT),
        {"latent_size": 2, "feature_size": 3, "outputs": 4},
        heavy=True,
    ),
    "storn": Case(
        zoo.STORNCell,
        by_name.stochastic,
        matrices(
            **{"W_r": "recognise: x", "R_r": "recognise: r", "b_r": "recognise.bias"},
            **{"W": "hidden: past", "R": "hidden: h", "V": "hidden: z", "b": "hidden.bias"},
            **maps(q="posterior: r", y="likelihood: h"),
        ),
        {"latent_size": 2, "recogniser_size": 4, "outputs": 4},
        stacks=False,
    ),
    "own": Case(Leaky),
    "own, with streams": Case(Fed),
    "own, normed": Case(Normed),
    "own, nested": Case(Nested),
    "own, counted": Case(Counted),
    "own, with extra outputs": Case(Telling),
}
PAPERS = {name: case for name, case in CASES.items() if case.oracle}
# Every subset of the peepholes, against the same oracle: a gate that does not look has a zero block.
SUBSETS = [gates for n in range(4) for gates in combinations(("forget", "input", "output"), n)]
PEEPHOLE_PAPERS = {
    f"{name}, {'+'.join(gates) or 'none'}": replace(PAPERS[name], options={"peepholes": gates})
    for name in ("lstm-peephole", "lstm-peephole-full")
    for gates in SUBSETS[:-1]
}
PAPERS |= PEEPHOLE_PAPERS
FEW_PEEPHOLES = ["lstm-peephole, forget+output", "lstm-peephole-full, none"]
QUICK_PAPERS = [name for name in PAPERS if name not in PEEPHOLE_PAPERS or name in FEW_PEEPHOLES]


def every_cell(test):
    """A test of what is not the kernel's, for each cell by its name: of a heavy one no kernel is made."""

    @wraps(test)
    def of_cell(name, **given):
        with conveyor.backend("eager") if CASES[name].heavy else nullcontext():
            test(name=name, **given)

    return pytest.mark.parametrize("name", CASES)(of_cell)


def parameters_of(layer, row=0):
    """The parameters of a layer's cell, and of what lies under the lowest layer."""
    found = dict(layer.cell_of(row).named_parameters())
    below = layer.ground[row % layer.directions].named_parameters() if layer.cell.below else ()
    return found | {f"ground.{name}": parameter for name, parameter in below}


def case_of(layer):
    """How a layer's cell is made and what it is given; a random cell has nothing that needs to be said."""
    found = (case for case in CASES.values() if case.cell is type(layer.cell))
    return next(found, Case(type(layer.cell)))


def extra_inputs(layer, steps, batch, dtype=torch.float64, shapes=None):
    """Random values for what the layer's cell takes besides x and its states, by name."""
    cell, case = layer.cell, case_of(layer)
    names = [name for name in cell.arguments if name not in ("x", "t", *cell.state, *cell.below)]
    known = {name: (width,) for name, width in cell.widths.items()} | case.shapes | (shapes or {})
    leading = {name: (batch,) if name in cell.constant else (steps, batch) for name in names}
    return {n: case.drawn.get(n, torch.randn)(*leading[n], *known[n], dtype=dtype) for n in names}


def differentiable(layer, named):
    """The names of those inputs by which there is a derivative: what is 0 or 1 has nothing beside it."""
    return [name for name in named if case_of(layer).drawn.get(name) is not switches]


def random_state(layer, batch, dtype=torch.float64):
    widths = [layer.cell.widths[name] for name in layer.state_names]
    states = tuple(torch.randn(layer.state_rows, batch, width, dtype=dtype) * 0.5 for width in widths)
    return states if len(states) > 1 else states[0]


def values_of(further):
    """The extra outputs of a layer whose cell has any: what it gives out after its output and its state.

    Those whose layers' shapes differ by their layers, each as a stack of one.
    """
    named = further[0] if further else {}
    by_layer = {name: value for name, value in named.items() if isinstance(value, list)}
    whole = {name: value for name, value in named.items() if name not in by_layer}
    return whole | {
        f"{n} of layer {i}": value[None] for n, layers in by_layer.items() for i, value in enumerate(layers)
    }


def tensors(state):
    """The tensors of a state, however many it has."""
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)
