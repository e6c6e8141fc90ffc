"""A network as it is run here: what makes x of an input, recurrent layers, and what makes a result of their output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from conveyor.layer import Recurrent

# The modules of a chain that compute something at each step by itself, as pages call them.
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
}
NOTHING = (nn.Identity, nn.Dropout)  # in evaluation mode


@dataclass(frozen=True)
class Model:
    """A network of recurrent layers between maps that work on each step by itself.

        Model(torch.nn.Embedding(50, 8), conveyor.GRU(8, 32), chain(torch.nn.Linear(32, 50), "head"))

    `first` makes the x of the lowest layer: an embedding of tokens, or a chain of maps of a vector. `head` is the chain
    that makes the result, such as logits, of the output of the highest layer.
    """

    first: nn.Embedding | nn.Sequential
    rnn: Recurrent
    head: nn.Sequential

    @classmethod
    def of(cls, model: LanguageModel | Model) -> Model:
        """A language model, whose output matrix may be that of its embedding; or the model itself."""
        if isinstance(model, Model):
            return model
        matrix = model.embedding.weight if model.tied else model.output
        linear = nn.utils.skip_init(nn.Linear, matrix.shape[1], matrix.shape[0])
        linear.weight, linear.bias = matrix, model.bias
        return cls(model.embedding, model.rnn, nn.Sequential(linear))

    @property
    def parameters(self) -> int:
        """The number of its parameters; those that it uses twice count once."""
        modules = (self.first, self.rnn, self.head)
        return sum(each.numel() for each in {id(p): p for module in modules for p in module.parameters()}.values())

    @property
    def count(self) -> int:
        """The number of its outputs."""
        linear = [each for each in self.head if isinstance(each, nn.Linear)]
        return linear[-1].out_features if linear else self.rnn.output_size

    def embed(self, inputs: Tensor) -> Tensor:
        """The x [T, width] of tokens [T] or of vectors [T, channels]."""
        found: Tensor = self.first(inputs)
        return found


def chain(module: nn.Module | None, name: str) -> nn.Sequential:
    """The maps of a module, one after another: linear ones, activations, layer norms; without what does nothing.

        chain(nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), "head")      # three of them

    Raises BadInput for any other module; `name` is what the message calls it.
    """
    return nn.Sequential(*_flat(module, name))


def _flat(module: nn.Module | None, name: str) -> list[nn.Module]:
    if module is None or isinstance(module, NOTHING):
        return []
    if isinstance(module, nn.Sequential):
        return [each for key, inner in module.named_children() for each in _flat(inner, f"{name}.{key}")]
    if type(module) in (nn.Linear, *ACTIVATIONS) or (
        type(module) is nn.LayerNorm and len(module.normalized_shape) == 1
    ):
        return [module]
    known = ", ".join(kind.__name__ for kind in (nn.Linear, nn.LayerNorm, *ACTIVATIONS))
    raise BadInput(
        f"{name} is a {type(module).__name__}, which a page cannot run: it knows {known}, and nn.Sequential of them"
    )


def check_widths(maps: nn.Sequential, name: str, width: int, wanted: int, what: str) -> None:
    """Raises BadInput if a chain does not go from `width` numbers to `wanted`, which are `what`."""
    for each in maps:
        takes = _width_of(each)
        if takes is not None and takes[0] != width:
            raise BadInput(f"{name}: {each} reads {takes[0]} numbers, but there are {width}")
        width = takes[1] if takes is not None else width
    if width != wanted:
        raise BadInput(f"{name} gives {width} numbers, but {what} {wanted}")


def _width_of(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0], module.normalized_shape[0]
    return None


def described(module: nn.Module, add: Any) -> dict[str, Any]:
    """A map of a chain as data for a page. `add(name, tensor)` gives the number of a tensor there."""
    if isinstance(module, nn.Linear):
        return {"op": "linear", "matrix": add("weight", module.weight), "bias": _optional(add, "bias", module.bias)}
    if isinstance(module, nn.LayerNorm):
        matrix, bias = (_optional(add, name, getattr(module, name)) for name in ("weight", "bias"))
        return {"op": "norm", "matrix": matrix, "bias": bias, "eps": module.eps}
    return {"op": ACTIVATIONS[type(module)]}


def _optional(add: Any, name: str, tensor: Tensor | None) -> int | None:
    return None if tensor is None else add(name, tensor)


@torch.no_grad()
def outputs(model: Model, inputs: Tensor) -> Tensor:
    """The results [T, outputs] for one sequence of inputs, in evaluation mode and by the loop over the equations."""
    was_training = model.rnn.training
    model.rnn.eval()
    try:
        x = model.embed(inputs)
        output, *_ = model.rnn(x[None] if model.rnn.batch_first else x[:, None])
    finally:
        model.rnn.train(was_training)
    found: Tensor = model.head.eval()(output[0] if model.rnn.batch_first else output[:, 0])
    return found
