"""What a network gives on an example, by PyTorch: that with which an export is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.exporting.exported import Exported
from conveyor.layer.backends import backend
from conveyor.layer.network import as_evaluated

STEPS = 200


@dataclass(frozen=True)
class Recorded:
    """Steps of one row, from the first state.

    `inputs`: streams [T, ...] and constants [...] by name; for a language model "x" are tokens [T]. `outputs`: [T, ...]
    each; `states`: those after the last step, [width] each. Both have the names of `Exported`.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    states: Mapping[str, Tensor]

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.inputs["x"])


def record(exported: Exported, examples: Mapping[str, Tensor] | None = None, steps: int = STEPS) -> Recorded:
    """Runs the network by the loop over its step. `examples`: as the layer is called with; they are repeated in time.

    What has no example is drawn from a normal distribution, by a seed of its own.
    """
    inputs = _inputs(exported, examples or {}, steps)
    module = exported.layer if exported.model is None else exported.model
    with as_evaluated(module), torch.no_grad(), backend("eager"), torch.autocast("cpu", enabled=False):
        if exported.model is not None:
            output, state, *_ = exported.model(inputs["x"][:, None])
            return Recorded(inputs, {"output": output[:, 0]}, _states(exported, state, 1))
        given = {name: value for name, value in inputs.items() if name != "x"}
        output, state, *values = exported.layer(inputs["x"], **given)
        output = output if exported.head is None else exported.head(output)
    outputs = {"output": output}
    for named in values:
        outputs |= {f"{name}.{row}": layers[row][0] for name, layers in named.items() for row in range(len(layers))}
    return Recorded(inputs, outputs, _states(exported, state, 0))


def _states(exported: Exported, state: Tensor | tuple[Tensor, ...], rows: int) -> dict[str, Tensor]:
    layer = exported.layer
    each = (state,) if isinstance(state, Tensor) else state
    named = zip(layer.state_names, (s[:, 0] if rows else s for s in each), strict=True)
    return {f"{name}.{row}": value[row] for name, value in named for row in range(layer.num_layers)}


def _inputs(exported: Exported, examples: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    layer = exported.layer
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in layer.parameters()), torch.get_default_dtype())
    if exported.model is not None:
        if examples:
            raise BadInput(f"a language model takes tokens only: omit the example of {', '.join(examples)}")
        return {"x": torch.randint(exported.tokens, (steps,), generator=generator)}
    found = {}
    for name, dims in exported.streams.items():
        shape = (steps, *dims)
        if name in examples:
            found[name] = _repeated(name, examples[name], dims, layer.batch_first, steps)
        else:
            found[name] = torch.randn(shape, generator=generator, dtype=dtype)
    for name, dims in exported.constants.items():
        found[name] = examples[name][0] if name in examples else torch.randn(dims, generator=generator, dtype=dtype)
    return {n: v.detach().cpu().to(exported.types.get(n, dtype)) for n, v in found.items()}


def _repeated(name: str, example: Tensor, dims: tuple[int, ...], batch_first: bool, steps: int) -> Tensor:
    """The first row of an example [T, B, ...], repeated until there are enough steps."""
    if tuple(example.shape[2:]) != dims or not example.numel():
        raise BadInput(
            f"the example of {name} has the shape {list(example.shape)}, not [T, B, {', '.join(map(str, dims))}]"
        )
    row = example[0] if batch_first else example[:, 0]
    return row.repeat(-(-steps // len(row)), *[1] * len(dims))[:steps]
