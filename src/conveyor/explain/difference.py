"""The differences between two cells."""

from __future__ import annotations

from conveyor.explain.circuit import Circuit
from conveyor.explain.formula import Equation, equations


def changed(circuit: Circuit, against: Circuit) -> tuple[Equation, ...]:
    """The equations of `circuit` that `against` does not have, such as those of a GRU compared with an LSTM.

    Equations are compared as text, regardless of their order.
    """
    known = {equation.text for equation in equations(against)}
    return tuple(equation for equation in equations(circuit) if equation.text not in known)


def gone(circuit: Circuit, against: Circuit) -> tuple[str, ...]:
    """The names of the values that `against` has and `circuit` does not."""
    names = {equation.name for equation in equations(circuit)}
    return tuple(equation.name for equation in equations(against) if equation.name not in names)
