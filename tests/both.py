"""The same layer with the same inputs, by its kernel and by the loop: everything that comes out, and every gradient."""

import copy

import torch

from cases import extra_inputs, tensors
from conveyor import backend
from tolerance import KERNEL, assert_as_exact, assert_equal, relative_error


def draw_inputs(layer, steps, batch, shaped=()):
    """Random values for all that the layer takes, by name; all of them are to have gradients.

    `shaped`: the shapes, but for the hidden units, of constants that only the test knows.
    """
    cell, dtype = layer.cell, next(layer.parameters()).dtype
    shapes = {"x": (steps, batch, cell.widths["x"])}
    shapes |= {name: (layer.state_rows, batch, cell.widths[name]) for name in cell.state}
    values = {name: torch.randn(shape) for name, shape in shapes.items()}
    known = {name: (*dims, layer.hidden_size) for name, dims in dict(shaped).items()}
    values |= extra_inputs(layer, steps, batch, torch.float32, known)
    return {name: value.to(dtype).requires_grad_() for name, value in values.items()}


def weights(value):
    """Fixed numbers of order one, so that a loss weighs every number of a result differently."""
    return torch.cos(torch.arange(value.numel(), dtype=torch.float64)).reshape(value.shape).to(value.dtype)


def results(layer, inputs, loss_of=None, **keywords):
    """By name: the output, the last states, the values, and the gradients of all that asks for one.

    `loss_of`: the names of the results that the loss reads, by default all.
    """
    torch.manual_seed(1)  # the same masks
    given = {name: value.detach().requires_grad_(value.requires_grad) for name, value in inputs.items()}
    names = [name for name in layer.state_names if name in given]
    state = tuple(given[name] for name in names)
    others = {name: value for name, value in given.items() if name not in ("x", *names)}
    output, last, *values = layer(
        given["x"], (state if len(state) > 1 else state[0]) if state else None, **others, **keywords
    )
    found = {"output": output.data if hasattr(output, "batch_sizes") else output}
    found |= {f"last {name}": value for name, value in zip(layer.state_names, tensors(last), strict=True)}
    for name, value in values[0].items() if values else ():
        by_layer = value if isinstance(value, list) else [value]
        found |= {f"value {name} {i}": tensor for i, tensor in enumerate(by_layer)}
    named = {**given, **dict(layer.named_parameters())}
    wanted = {f"gradient of {name}": value for name, value in named.items() if value.requires_grad}
    assert wanted or not any(value.requires_grad for value in found.values())
    if wanted:
        used = [value for name, value in found.items() if (loss_of is None or name in loss_of) and value.requires_grad]
        loss = sum((value * weights(value)).sum() for value in used)
        gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
        found |= dict(zip(wanted, gradients, strict=True))
    return {name: value.detach() for name, value in found.items()}


def by_both(layer, inputs, exact=None, **keywords):
    """The kernel's results and the loop's, or those of the loop of the layer `exact`."""
    with backend("compiled"):
        kernel = results(layer, inputs, **keywords)
    with backend("eager"):
        loop = results(exact or layer, inputs, **keywords)
    assert list(kernel) == list(loop)
    return kernel, loop


def assert_kernel_is_loop(layer, inputs, **keywords):
    kernel, loop = by_both(layer, inputs, **keywords)
    for name, value in kernel.items():
        assert_equal(value, loop[name], name, KERNEL)


def in_float64(layer, inputs, **keywords):
    """The loop's results in float64."""
    with backend("eager"):
        whole = {name: value.detach().double().requires_grad_(value.requires_grad) for name, value in inputs.items()}
        return results(copy.deepcopy(layer).double(), whole, **keywords)


DRAWS = 4


def assert_float32_is_as_good(draw, **keywords):
    """The kernel of a layer in float32 is about as near the loop in float64 as the loop in float32 is.

    `draw` makes a layer and its inputs. The loop's largest error counts, over all results of a few draws: its error
    in one number, a gradient of a bias say, is chance.
    """
    drawn = [draw() for _ in range(DRAWS)]
    found = [(*by_both(*one, **keywords), in_float64(*one, **keywords)) for one in drawn]
    usual = max(relative_error(loop[name], exact[name]) for _, loop, exact in found for name in loop)
    for kernel, loop, exact in found:
        for name, value in kernel.items():
            assert value.dtype == loop[name].dtype, f"{name}: {value.dtype}, not {loop[name].dtype}"
            assert_as_exact(value, usual, exact[name], name)
