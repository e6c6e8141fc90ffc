"""What one cell does otherwise than another."""

from __future__ import annotations

from conveyor.explain.circuit import Circuit
from conveyor.explain.formula import Equation, equations


def changed(circuit: Circuit, against: Circuit) -> tuple[Equation, ...]:
    """The equations of a cell that the other has not, such as those of a GRU against an LSTM.

    An equation is the same if it is spelled the same, whatever the order of the step.
    """
    known = {equation.text for equation in equations(against)}
    return tuple(equation for equation in equations(circuit) if equation.text not in known)


def gone(circuit: Circuit, against: Circuit) -> tuple[str, ...]:
    """The values that the other cell has, and this one has not."""
    names = {equation.name for equation in equations(circuit)}
    return tuple(equation.name for equation in equations(against) if equation.name not in names)
