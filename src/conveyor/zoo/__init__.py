"""The cells of the literature, a few lines of equations each, and networks built of them.

layer = conveyor.Recurrent(conveyor.zoo.CoupledLSTM, 32, 128)
"""

from conveyor.cell import Cell
from conveyor.zoo.attention import ConditionedLSTM, HardAttention, SoftAttention, hard_noise
from conveyor.zoo.attention_loss import Baseline, doubly_stochastic, entropy, reinforce
from conveyor.zoo.captioner import Captioner
from conveyor.zoo.clockwork import ClockworkRNN
from conveyor.zoo.decoder import Decoder
from conveyor.zoo.depth_gated import CoupledDepthGatedLSTM, DepthGatedLSTM
from conveyor.zoo.draw import DRAW, AttentiveDRAW
from conveyor.zoo.draw_network import DrawNetwork
from conveyor.zoo.greff import (
    CoupledPeepholeLSTM,
    FullGateRecurrenceLSTM,
    NoForgetGateLSTM,
    NoInputActivationLSTM,
    NoInputGateLSTM,
    NoOutputActivationLSTM,
    NoOutputGateLSTM,
    NoPeepholesLSTM,
    VanillaLSTM,
)
from conveyor.zoo.grid import GateOutsideGridLSTM, GridLSTM, PriorityGridLSTM
from conveyor.zoo.grid_networks import DepthLSTM, ImageGridLSTM
from conveyor.zoo.gru import GRU, ResetBeforeGRU
from conveyor.zoo.jozefowicz import MUT1, MUT2, MUT3, ForgetBiasLSTM
from conveyor.zoo.latent import Bernoulli, Gaussian
from conveyor.zoo.lstm import LSTM, CoupledLSTM, FullPeepholeLSTM, PeepholeLSTM, ProjectedLSTM
from conveyor.zoo.original import OriginalLSTM
from conveyor.zoo.rnn import RNN, ReluRNN
from conveyor.zoo.storn import STORN, STORNCell
from conveyor.zoo.translator import Translator
from conveyor.zoo.vrnn import VRNN, VRNNCell

# The names used by the command line, configurations and reports. Adding a cell here adds it to every test.
CELLS: dict[str, type[Cell]] = {
    "rnn": RNN,
    "rnn-relu": ReluRNN,
    "lstm": LSTM,
    "lstm-peephole": PeepholeLSTM,
    "lstm-peephole-full": FullPeepholeLSTM,
    "lstm-coupled": CoupledLSTM,
    "lstm-original": OriginalLSTM,
    "lstm-forget-bias": ForgetBiasLSTM,
    "lstm-vanilla": VanillaLSTM,
    "lstm-nig": NoInputGateLSTM,
    "lstm-nfg": NoForgetGateLSTM,
    "lstm-nog": NoOutputGateLSTM,
    "lstm-niaf": NoInputActivationLSTM,
    "lstm-noaf": NoOutputActivationLSTM,
    "lstm-np": NoPeepholesLSTM,
    "lstm-cifg": CoupledPeepholeLSTM,
    "lstm-fgr": FullGateRecurrenceLSTM,
    "lstm-depth-gated": DepthGatedLSTM,
    "grid": GridLSTM,
    "grid-priority": PriorityGridLSTM,
    "gru": GRU,
    "gru-reset-before": ResetBeforeGRU,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
    "clockwork": ClockworkRNN,
}

__all__ = [
    "CELLS",
    "DRAW",
    "GRU",
    "LSTM",
    "MUT1",
    "MUT2",
    "MUT3",
    "RNN",
    "STORN",
    "VRNN",
    "AttentiveDRAW",
    "Baseline",
    "Bernoulli",
    "Captioner",
    "ClockworkRNN",
    "ConditionedLSTM",
    "CoupledDepthGatedLSTM",
    "CoupledLSTM",
    "CoupledPeepholeLSTM",
    "Decoder",
    "DepthGatedLSTM",
    "DepthLSTM",
    "DrawNetwork",
    "ForgetBiasLSTM",
    "FullGateRecurrenceLSTM",
    "FullPeepholeLSTM",
    "GateOutsideGridLSTM",
    "Gaussian",
    "GridLSTM",
    "HardAttention",
    "ImageGridLSTM",
    "NoForgetGateLSTM",
    "NoInputActivationLSTM",
    "NoInputGateLSTM",
    "NoOutputActivationLSTM",
    "NoOutputGateLSTM",
    "NoPeepholesLSTM",
    "OriginalLSTM",
    "PeepholeLSTM",
    "PriorityGridLSTM",
    "ProjectedLSTM",
    "ReluRNN",
    "ResetBeforeGRU",
    "STORNCell",
    "SoftAttention",
    "Translator",
    "VRNNCell",
    "VanillaLSTM",
    "doubly_stochastic",
    "entropy",
    "hard_noise",
    "reinforce",
]
