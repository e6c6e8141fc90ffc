"""Steps of one row, in microseconds: medians and least times of interleaved bursts, float32, one thread.

    python benchmarks/steps.py                  # 3 minutes; needs pip install 'conveyor[bench]'

Every state is handed on. The floor of a stream is the time of reading its weights once a step, at the speed at which
this machine reads from the cache that holds them, or that of its operations at the speed of a large product, whichever
is longer. docs/explanation/speed-inference.md has the figures.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import conveyor
from conveyor import language, zoo
from conveyor.bench.machine import Conditions, Machine, measure
from conveyor.language import LanguageModel
from conveyor.layer.stream import Stream

BURST, ROUNDS, STEPS = 50, 60, 500
Step = Callable[[], Any]


def times(steps: Mapping[str, Step], rounds: int = ROUNDS, burst: int = BURST) -> dict[str, list[float]]:
    """The microseconds of a call in each burst, one burst of each in turn."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(burst):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(burst):
                step()
            found[name].append(1e6 * (time.perf_counter() - began) / burst)
    return found


def handed_on(call: Callable[[Any], Any], state: Any) -> Step:
    """A step that begins with the state after the one before."""
    kept = [state]

    def step() -> None:
        kept[0] = call(kept[0])

    return step


def by_onnx(theirs: nn.LSTM, x: torch.Tensor) -> Step:
    """ONNX Runtime's operator, one for each layer, with states in and out."""
    nodes, weights, hidden = [], [], theirs.hidden_size
    states = [f"{name}{row}" for row in range(theirs.num_layers) for name in "hc"]
    below = "x"
    for row in range(theirs.num_layers):
        parts = [getattr(theirs, f"{part}_l{row}").detach().numpy() for part in ("weight_ih", "weight_hh")]
        bias = np.concatenate([getattr(theirs, f"{part}_l{row}").detach().numpy() for part in ("bias_ih", "bias_hh")])
        named = {f"W{row}": _iofc(parts[0])[None], f"R{row}": _iofc(parts[1])[None]}
        named[f"B{row}"] = np.concatenate([_iofc(half) for half in np.split(bias, 2)])[None]
        weights += [numpy_helper.from_array(value, name) for name, value in named.items()]
        inputs = [below, *named, "", f"h{row}", f"c{row}"]
        nodes.append(helper.make_node("LSTM", inputs, [f"Y{row}", f"h{row}_n", f"c{row}_n"], hidden_size=hidden))
        nodes.append(helper.make_node("Squeeze", [f"Y{row}", "direction"], [f"y{row}"]))
        below = f"y{row}"
    weights.append(numpy_helper.from_array(np.array([1]), "direction"))
    floats = TensorProto.FLOAT
    given = [helper.make_tensor_value_info("x", floats, [1, 1, theirs.input_size])]
    given += [helper.make_tensor_value_info(name, floats, [1, 1, hidden]) for name in states]
    made = [helper.make_tensor_value_info(name, floats, None) for name in (below, *(f"{name}_n" for name in states))]
    model = helper.make_model(
        helper.make_graph(nodes, "lstm", given, made, weights),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()[None], **{name: np.zeros((1, 1, hidden), np.float32) for name in states}}

    def step() -> None:
        feed.update(zip(states, session.run(None, feed)[1:], strict=True))

    return step


def _iofc(blocks: np.ndarray) -> np.ndarray:
    """PyTorch's gates i, f, c, o in ONNX's order."""
    i, f, c, o = np.split(blocks, 4)
    return np.concatenate([i, o, f, c])


def floor(stream: Stream, machine: Machine) -> float:
    """The least microseconds of a step, by its operations and the bytes of its weights."""
    assert stream._stepper is not None
    plan = stream._stepper.kernel.plan
    operations = 2 * sum(matrix.depth * matrix.width for matrix in plan.matrices.values())
    return 1e6 * max(operations / machine.sgemm, plan.size / machine.bandwidth(plan.size))


def whole_steps(stream: Stream, inputs: int) -> Step:
    """Many steps in one call."""
    chunk = torch.randn(STEPS, inputs)
    return lambda: stream.run(chunk)


def shown(name: str, found: list[float], against: Mapping[str, list[float]], note: str = "") -> None:
    """A line: the median, the least, and how many times as long each of the others takes."""
    ratios = [
        f"{statistics.median(other) / statistics.median(found):5.2f} ({min(other) / min(found):.2f}) {what}"
        for what, other in against.items()
    ]
    print(f"  {name:20} {statistics.median(found):8.2f} ({min(found):8.2f})   {'   '.join(ratios)}{note}")


def single_steps(hidden: int, layers: int, machine: Machine) -> None:
    """`rnn.step` and `stream.step` against PyTorch's and ONNX Runtime's."""
    theirs = nn.LSTM(hidden, hidden, layers)
    ours, cell, x = conveyor.LSTM.from_torch(theirs), nn.LSTMCell(hidden, hidden), torch.randn(1, hidden)
    apart = conveyor.Recurrent(zoo.LSTM, hidden, hidden, layers)
    stream = ours.stream()
    zeros = (torch.zeros(layers, 1, hidden),) * 2
    steps: dict[str, Step] = {
        "nn.LSTM": handed_on(lambda state: theirs(x[None], state)[1], zeros),
        "rnn.step": handed_on(lambda state: ours.step(x, state)[1], zeros),
        "rnn.step, own cell": handed_on(lambda state: apart.step(x, state)[1], zeros),
        "stream.step": lambda: stream.step(x),
        "ONNX Runtime": by_onnx(theirs, x),
    }
    if layers == 1:
        steps["nn.LSTMCell"] = handed_on(lambda state: cell(x, state), (zeros[0][0], zeros[1][0]))
    found = times(steps)
    whole = times({"run": whole_steps(ours.stream(), hidden)}, 10, 2)["run"]
    print(f"LSTM, {hidden} units, {layers} layer{'s' if layers > 1 else ''}")
    for name in ("nn.LSTM", "nn.LSTMCell", "ONNX Runtime"):
        if name in found:
            shown(name, found[name], {})
    for name in ("rnn.step", "rnn.step, own cell"):
        shown(name, found[name], {"nn.LSTM": found["nn.LSTM"]})
    shown("stream.step", found["stream.step"], {n: found[n] for n in ("nn.LSTMCell", "ONNX Runtime") if n in found})
    shown("stream.run, a step", [each / STEPS for each in whole], {}, f"   floor {floor(stream, machine):.2f}")


def narrow_inputs(machine: Machine) -> None:
    """`stream.run` of 16 units and few inputs."""
    print("LSTM, 16 units, stream.run, a step")
    for inputs in (1, 4, 16):
        stream = conveyor.LSTM(inputs, 16).stream()
        found = times({"run": whole_steps(stream, inputs)}, ROUNDS, 2)["run"]
        note = f"   floor {floor(stream, machine):.3f}"
        shown(f"{inputs} inputs", [each / STEPS for each in found], {}, note)


def stored_in_less(hidden: int, machine: Machine) -> None:
    """A step of a stream with its weights in less."""
    layer, x = conveyor.LSTM(hidden, hidden), torch.randn(1, hidden)
    streams = {kind: layer.stream(weights=kind) for kind in ("float32", "bfloat16", "int8")}
    found = times({kind: (lambda stream=stream: stream.step(x)) for kind, stream in streams.items()}, 60, 10)
    print(f"LSTM, {hidden} units, stream.step")
    for kind, each in found.items():
        against = {} if kind == "float32" else {"float32": found["float32"]}
        shown(kind, each, against, f"   floor {floor(streams[kind], machine):.1f}")


def writing(machine: Machine) -> None:
    """Text from a model of 192 units, as `conveyor generate` writes it."""
    model, prompt = LanguageModel(100, zoo.LSTM, 192), torch.zeros(1, dtype=torch.long)
    generator, count = torch.Generator().manual_seed(0), 2000
    speeds = []
    for _ in range(8):
        began = time.perf_counter()
        for _token in language.generate(model, prompt, count, 0.8, 0, generator):
            pass
        speeds.append(count / (time.perf_counter() - began))
    most = 1e6 / floor(model.stream(), machine)
    print("a language model of 192 units and 100 characters")
    for what, speed in (("median", statistics.median(speeds)), ("best", max(speeds))):
        print(
            f"  {what:8} {speed:8,.0f} characters a second: {speed / most:.2f} of what reading the weights once allows"
        )


def main() -> None:
    """Prints a line for each figure."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    machine = measure(1, False, [0])
    here = Conditions.here()
    load = os.getloadavg()[0]
    reads = ", ".join(f"{level} {speed / 1e9:.0f}" for level, speed in machine.reads.items() if speed < math.inf)
    print(f"{here.processor}, {here.vectors}, load {load:.1f}: {machine.sgemm / 1e9:.0f} GFLOP/s, GB/s {reads}")
    print("microseconds: median (least), and the ratio of others to it, of medians (of least times)")
    with torch.no_grad():
        for hidden, layers in ((16, 1), (64, 1), (192, 1), (512, 2)):
            single_steps(hidden, layers, machine)
        narrow_inputs(machine)
        for hidden in (512, 1024):
            stored_in_less(hidden, machine)
    writing(machine)


if __name__ == "__main__":
    main()
