"""Long short-term memory and the essay's variants of it: peepholes, and coupled forget and input gates."""

from collections.abc import Collection

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell
from conveyor.errors import suggest

GATES = ("forget", "input", "output")


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    f_t = σ(W_f · [h_{t-1}, x_t] + b_f)
    i_t = σ(W_i · [h_{t-1}, x_t] + b_i)
    C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C)
    C_t = f_t * C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [h_{t-1}, x_t] + b_o)
    h_t = o_t * tanh(C_t)

    Shapes: x [B, input]; h, C [B, hidden]; every W [hidden, hidden + input].
    Paper: Gers, Schmidhuber & Cummins 2000, "Learning to Forget: Continual Prediction with LSTM"; in the essay's form.
    Departures: both activations are tanh, where the paper of 1997 has scaled logistic functions (`OriginalLSTM`). The
    gradient is exact, where the papers truncate it at the inputs of gates and cells.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.forget = self.affine("h", "x")
        self.input = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        i = sigmoid(self.input(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C


class ProjectedLSTM(Cell):
    """LSTM whose output is a projection to `proj_size` units, as in torch.nn (after Sak et al. 2014).

    m_t = o_t * tanh(C_t)
    h_t = W · m_t

    f_t, i_t, o_t, C̃_t and C_t as in the LSTM.

    Shapes: x [B, input]; C, m [B, hidden]; h [B, proj]; W [proj, hidden]; the other W [hidden, proj + input].
    Paper: Sak, Senior & Beaufays 2014, "Long Short-Term Memory Recurrent Neural Network Architectures for Large Scale
    Acoustic Modeling".
    Departures: without that paper's peepholes and its optional second projection.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int, proj_size: int):
        super().__init__(input_size, hidden_size, h=proj_size, m=hidden_size)
        self.forget = self.affine("h", "x")
        self.input = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")
        self.projection = self.affine("m", out=proj_size, bias=False)

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        i = sigmoid(self.input(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(h, x))
        m = o * tanh(C)
        h = self.projection(m)
        return h, C


class PeepholeLSTM(Cell):
    """LSTM with peepholes: the gates of each unit read its own memory cell (Gers & Schmidhuber 2000).

    f_t = σ(W_f · [C_{t-1}, h_{t-1}, x_t] + b_f)
    i_t = σ(W_i · [C_{t-1}, h_{t-1}, x_t] + b_i)
    o_t = σ(W_o · [C_t, h_{t-1}, x_t] + b_o)

    The rest as in the LSTM. The blocks of W for C are diagonal; the output gate reads the new C.

    Option: `peepholes` names the gates with peepholes, any of "forget", "input", "output".

    Shapes: as in the LSTM; W_f, W_i, W_o also have a diagonal [hidden].
    Paper: Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count".
    Departures: as for the LSTM; according to a secondary source, the paper's C̃ has no tanh.
    Doubt: from memory, the paper's output is h_t = o_t * C_t, also without a tanh.
    """

    state = ("h", "C")
    peephole = "diagonal"

    def __init__(self, input_size: int, hidden_size: int, peepholes: Collection[str] = GATES):
        super().__init__(input_size, hidden_size)
        if not isinstance(peepholes, Collection) or isinstance(peepholes, str):
            raise ValueError(f"peepholes must be a list of gates out of {GATES}, not {peepholes!r}")
        for gate in peepholes:
            if gate not in GATES:
                raise ValueError(f"peepholes names {gate!r}, which is not a gate: {suggest(str(gate), GATES)}")
        blocks = {gate: self.peephole if gate in peepholes else "zero" for gate in GATES}
        self.forget = self.affine("C", "h", "x", C=blocks["forget"])
        self.input = self.affine("C", "h", "x", C=blocks["input"])
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x", C=blocks["output"])

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(C, h, x))
        i = sigmoid(self.input(C, h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class FullPeepholeLSTM(PeepholeLSTM):
    """LSTM with peepholes through full matrices, the essay's W · [C, h, x]: a gate reads the memory of all units.

    The equations and the option are those of the peephole LSTM, but the blocks of W for C are full matrices.

    Shapes: as in the LSTM; W_f, W_i, W_o [hidden, 2 hidden + input].
    Paper: the essay, which writes the peepholes of Gers & Schmidhuber 2000 in this form.
    Departures: the full matrices, which that paper does not have.
    """

    peephole = "full"


class CoupledLSTM(Cell):
    """LSTM with coupled forget and input gates (CIFG): it writes to the memory exactly as much as it forgets.

    C_t = f_t * C_{t-1} + (1 - f_t) * C̃_t

    The rest, and the shapes, as in the LSTM.

    Paper: the essay; Greff et al. 2015 have f = 1 - i and peepholes (`CoupledPeepholeLSTM`).
    Departures: none known.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.forget = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + (1 - f) * C_tilde
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C
