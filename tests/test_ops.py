"""Every operation has its entry in every table of those who interpret it."""

import pytest

from conveyor.compiler.differentiate import RULES
from conveyor.compiler.ops import OPS
from conveyor.targets.cpu.emit import SPELLING

# What an emitter writes in a loop over numbers, and is no operation of a graph.
MOVES = {"copy", "fill", "store", "accumulate"}


def test_every_operation_has_a_derivative():
    assert RULES.keys() == OPS.keys()


def test_every_pointwise_operation_is_spelled_in_c():
    assert SPELLING.keys() - MOVES == {name for name, op in OPS.items() if op.kind == "pointwise"}


@pytest.mark.parametrize("name", SPELLING)
def test_a_spelling_uses_each_argument(name):
    arity = OPS[name].arity if name in OPS else 1
    given = [f"<{i}>" for i in range(arity)]
    text = SPELLING[name].format(*given)
    assert all(argument in text for argument in given)
