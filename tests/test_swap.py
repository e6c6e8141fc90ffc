"""Training recipes written for `torch.nn` give the same losses with the classes of conveyor in their place."""

from functools import cache
from types import SimpleNamespace

import pytest
from torch import nn

import conveyor
from recipes import RECIPES, STEPS, resumed

NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
SEED, WITHIN = 3, 1e-5


def swapped():
    """torch.nn with conveyor's recurrent layers and cells."""
    return SimpleNamespace(**vars(nn) | {name: getattr(conveyor, name) for name in NAMES})


@cache
def wanted(recipe):
    """The losses with torch.nn."""
    return recipe(nn, SEED)


def assert_same_losses(found, expected):
    assert len(found) == len(expected) >= STEPS
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    assert max(gaps) <= WITHIN, f"step {gaps.index(max(gaps))}: off by {max(gaps):.2g}"


every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)


@every_recipe
@pytest.mark.parametrize("backend", ["auto", "compiled"])
def test_losses_are_those_with_torch_nn(recipe, backend):
    with conveyor.backend(backend):
        assert_same_losses(recipe(swapped(), SEED), wanted(recipe))


@every_recipe
def test_a_recipe_learns_and_depends_on_its_seed(recipe):
    """Else equal losses would show nothing."""
    losses = wanted(recipe)
    assert sum(losses[STEPS - 10 : STEPS]) < sum(losses[:10])
    assert max(abs(a - b) for a, b in zip(losses, recipe(nn, SEED + 1), strict=True)) > 100 * WITHIN


@pytest.mark.parametrize("way", ["from torch.nn", "to torch.nn"])
def test_training_goes_on_in_the_other_library(way):
    first, second = (nn, swapped()) if way == "from torch.nn" else (swapped(), nn)
    assert_same_losses(resumed(first, SEED, second), wanted(resumed))


@every_recipe
@pytest.mark.parametrize("way", ["replaced", "restored"])
def test_models_that_are_replaced_or_restored_when_they_are_made(recipe, way):
    """`replace` and `restore` on each layer as it is made leave the losses what they were."""

    def changed(make, change):
        return lambda *arguments, **keywords: in_place(make(*arguments, **keywords), change)

    space, change = (nn, conveyor.replace) if way == "replaced" else (swapped(), conveyor.restore)
    made = {name: changed(getattr(space, name), change) for name in NAMES}
    assert_same_losses(recipe(SimpleNamespace(**vars(space) | made), SEED), wanted(recipe))


def in_place(module, change):
    """The module after `change` of a model that holds it."""
    model = nn.ModuleList([module])
    change(model)
    assert model[0] is module
    return module
