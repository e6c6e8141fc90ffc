"""Models that hold a layer, by torch.onnx.export: the same as in PyTorch, for any time and batch."""

import onnxruntime
import pytest
import torch

import conveyor
from conveyor import zoo

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # PyTorch's own

BOUND = 1e-5


class Model(torch.nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.out = rnn, torch.nn.Linear(rnn.output_size, 2)

    def forward(self, x, lengths=None):
        output, state = self.rnn(x, lengths=lengths)
        return self.out(output), *(state if isinstance(state, tuple) else (state,))


def exported(model, *further, table=None):
    T, B = torch.export.Dim("T"), torch.export.Dim("B")
    shapes = ({0: T, 1: B}, *({0: B} for _ in further))
    given = (torch.randn(5, 2, 3), *further)
    table = conveyor.onnx_translations() if table is None else table
    options = {"dynamo": True, "dynamic_shapes": shapes, "verbose": False, "custom_translation_table": table}
    return torch.onnx.export(model, given, **options).model_proto


@pytest.mark.parametrize(
    ("make", "operations"),
    [
        (lambda: conveyor.Recurrent(zoo.LSTM, 3, 6, num_layers=2), ["LSTM", "LSTM"]),
        (lambda: conveyor.LSTM(3, 6), ["LSTM"]),
        (lambda: conveyor.GRU(3, 6, bidirectional=True), ["GRU", "GRU"]),
        (lambda: conveyor.Recurrent(zoo.RNN, 3, 6, learn_initial_state=True), ["RNN"]),
        (lambda: conveyor.Recurrent(zoo.MUT1, 3, 6), ["Scan"]),
    ],
)
def test_a_model_is_the_same_in_onnx_for_any_time_and_batch(make, operations):
    model = Model(make()).eval()
    made = exported(model)
    assert [node.op_type for node in made.graph.node if node.op_type in ("LSTM", "GRU", "RNN", "Scan")] == operations
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    for steps, rows in ((5, 2), (1, 1), (9, 3)):
        x = torch.randn(steps, rows, 3)
        with torch.no_grad(), conveyor.backend("eager"):
            wanted = model(x)
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for value, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(value), other, rtol=0, atol=BOUND)


def test_without_the_table_the_error_names_it(monkeypatch):
    monkeypatch.setattr(conveyor.layer.operator, "translations", {})
    with pytest.raises(Exception, match=r"conveyor\.onnx_translations\(\)"):
        exported(Model(conveyor.Recurrent(zoo.LSTM, 3, 6)).eval(), table={})


def test_lengths_are_refused():
    with pytest.raises(Exception, match="lengths= has no translation to ONNX"):
        exported(Model(conveyor.Recurrent(zoo.LSTM, 3, 6)).eval(), torch.tensor([5, 3]))
