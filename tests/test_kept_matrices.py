"""A run reads the weights as they are: matrices packed for an earlier run are never taken for those of a later one.

PyTorch counts no version for what is written through `.data`, NumPy or an inference tensor, so that a matrix that was
kept by version would be wrong without a word. These are all the ways to change a weight that we know.
"""

import copy
import io
import pickle
import threading

import pytest
import torch
from torch.nn.utils import parametrize

import conveyor
from conveyor import zoo

LAYERS = {
    "torch.nn's": lambda: conveyor.LSTM(5, 7),
    "gates apart": lambda: conveyor.Recurrent(zoo.LSTM, 5, 7),
    "stacked": lambda: conveyor.LSTM(5, 7, num_layers=2, bidirectional=True),
    "tied": lambda: conveyor.Recurrent(zoo.LSTM, 7, 7, num_layers=2, tied=True),
}


def halve_data(layer):
    for weight in layer.parameters():
        weight.data.mul_(0.5)


def replace_data(layer):
    for weight in layer.parameters():
        weight.data = weight.data * 0.5


def replace_data_again(layer):
    for _ in range(3):  # so that a place in memory that was freed is taken again
        replace_data(layer)


def in_place(layer):
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(0.5)


def by_numpy(layer):
    for weight in layer.parameters():
        weight.detach().numpy()[...] *= 0.5


def load(layer):
    layer.load_state_dict({name: weight * 0.5 for name, weight in layer.state_dict().items()})


def assign(layer):
    layer.load_state_dict({name: weight * 0.5 for name, weight in layer.state_dict().items()}, assign=True)


def swap(layer):
    for module in layer.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                setattr(module, name, torch.nn.Parameter(weight.detach() * 0.5))


def optimise(layer):
    for weight in layer.parameters():
        weight.grad = weight.detach().clone()
    torch.optim.SGD(layer.parameters(), lr=0.5).step()


def under_inference(layer):
    with torch.inference_mode():
        in_place(layer)


CHANGES = [
    halve_data, replace_data, replace_data_again, in_place, by_numpy, load, assign, swap, optimise, under_inference
]  # fmt: skip


def results(layer, x):
    with torch.no_grad(), conveyor.backend("compiled"):
        found = layer(x)[0]
    with torch.no_grad(), conveyor.backend("eager"):
        torch.testing.assert_close(found, layer(x)[0])
    return found


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_changed_weight_is_read(kind, change):
    layer = LAYERS[kind]()
    x = torch.randn(3, 2, layer.input_size)
    before = results(layer, x)
    change(layer)
    assert not torch.equal(results(layer, x), before)


def test_weights_on_inference_tensors():
    with torch.inference_mode():
        layer = conveyor.LSTM(5, 7)
        x = torch.randn(3, 2, 5)
        before = results(layer, x)
        in_place(layer)
        assert not torch.equal(results(layer, x), before)


def test_a_computed_weight_is_read():
    class Scaled(torch.nn.Module):
        factor = 1.0

        def forward(self, weight):
            return weight * self.factor

    layer, x = conveyor.LSTM(5, 7), torch.randn(3, 2, 5)
    scaled = Scaled()
    parametrize.register_parametrization(layer, "weight_hh_l0", scaled)
    before = results(layer, x)
    scaled.factor = 0.5
    assert not torch.equal(results(layer, x), before)


def test_torch_func_runs_the_given_weights():
    layer, x = conveyor.LSTM(5, 7), torch.randn(3, 2, 5)
    before = results(layer, x)
    half = {name: weight.detach() * 0.5 for name, weight in layer.named_parameters()}
    with torch.no_grad(), conveyor.backend("compiled"):
        found = torch.func.functional_call(layer, half, (x,))[0]
    torch.testing.assert_close(results(layer, x), before)
    halve_data(layer)
    torch.testing.assert_close(results(layer, x), found)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_a_copy_has_weights_of_its_own(how):
    layer, x = conveyor.LSTM(5, 7), torch.randn(3, 2, 5)
    before = results(layer, x)
    copied = how(layer)
    halve_data(copied)
    assert not torch.equal(results(copied, x), before)
    torch.testing.assert_close(results(layer, x), before)


def test_a_run_leaves_nothing_with_the_layer():
    layer, x = conveyor.Recurrent(zoo.LSTM, 64, 64), torch.randn(3, 2, 64)
    sizes = []
    for _ in range(2):
        file = io.BytesIO()
        torch.save(layer, file)
        sizes.append(file.tell())
        results(layer, x)
    assert sizes[0] == sizes[1]


def test_training_between_runs():
    layer, x = conveyor.LSTM(5, 7), torch.randn(3, 2, 5)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1, foreach=True)
    for _ in range(3):
        before = results(layer, x)
        optimiser.zero_grad()
        layer(x)[0].square().sum().backward()
        optimiser.step()
        assert not torch.equal(results(layer, x), before)


def test_threads_run_layers_with_weights_of_their_own():
    layers, x = [conveyor.LSTM(5, 7) for _ in range(4)], torch.randn(3, 2, 5)
    wanted, failed = [results(layer, x) for layer in layers], []

    def run(layer, expected):
        for _ in range(20):
            with torch.no_grad():
                if not torch.equal(layer(x)[0], expected):
                    failed.append(layer)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(layers, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 7), (8, 8), (13, 20), (31, 33), (64, 65), (40, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_of_any_size(inputs, hidden, dtype):
    theirs = torch.nn.LSTM(inputs, hidden, dtype=dtype)
    x = torch.randn(4, 3, inputs, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(results(conveyor.LSTM.from_torch(theirs), x), theirs(x)[0])
