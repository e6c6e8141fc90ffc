"""Functions of one value, as the recurrent operators of ONNX, Keras and Flax have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017

# By ONNX's names, or PyTorch's where ONNX's recurrent operators have none; after the value come the parameters.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Relu": torch.relu,
    "Affine": lambda a, alpha, beta: alpha * a + beta,
    "LeakyRelu": lambda a, alpha: torch.where(a >= 0, a, alpha * a),
    "ThresholdedRelu": lambda a, alpha: torch.where(a >= alpha, a, 0),
    "ScaledTanh": lambda a, alpha, beta: alpha * torch.tanh(beta * a),
    "HardSigmoid": lambda a, alpha, beta: torch.clamp(alpha * a + beta, 0, 1),
    "Elu": lambda a, alpha: F.elu(a, alpha),
    "Softsign": lambda a: a / (1 + torch.abs(a)),
    "Softplus": F.softplus,
    "Linear": lambda a: a,
    "Selu": lambda a: SELU_SCALE * F.elu(a, SELU_ALPHA),
    "SiLU": F.silu,
    "GELU": F.gelu,
    "Exp": torch.exp,
}


@dataclass(frozen=True)
class Activation:
    """A function of one value: its name, its parameters, and within which bounds what it is applied to is kept.

        Activation("HardSigmoid", (0.2, 0.5), clip=3.0)(a)        # clamp(0.2 clamp(a, -3, 3) + 0.5, 0, 1)

    It is applied to a tensor of any shape.
    """

    name: str
    parameters: tuple[float, ...] = ()
    clip: float | None = None

    def __call__(self, a: Tensor) -> Tensor:
        if self.clip is not None:
            a = torch.clamp(a, -self.clip, self.clip)
        return FUNCTIONS[self.name](a, *self.parameters)


SIGMOID, TANH, RELU = Activation("Sigmoid"), Activation("Tanh"), Activation("Relu")

# By the names that Keras and jax.nn have in common.
BY_NAME = {
    "linear": Activation("Linear"),
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": RELU,
    "elu": Activation("Elu", (1.0,)),
    "selu": Activation("Selu"),
    "silu": Activation("SiLU"),
    "swish": Activation("SiLU"),
    "softplus": Activation("Softplus"),
    "softsign": Activation("Softsign"),
}
HARD_SIGMOID_2 = Activation("HardSigmoid", (0.2, 0.5))  # of Keras up to 2
HARD_SIGMOID_3 = Activation("HardSigmoid", (1 / 6, 0.5))  # of Keras 3 and jax.nn
