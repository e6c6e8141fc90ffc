"""Shows what a cell does: diagrams, equations, measurements of trained models, and pages on which any model runs.

from conveyor import explain

explain.diagram(conveyor.zoo.LSTM(32, 128)).svg
explain.record(load(Path("runs/lstm")), "the keys to the cabinet").values["f"]
"""

from conveyor.explain.circuit import Circuit
from conveyor.explain.difference import changed, gone
from conveyor.explain.drawing.diagram import Diagram, diagram
from conveyor.explain.formula import Equation, equations
from conveyor.explain.measure.connectivity import connectivity
from conveyor.explain.measure.flow import gradient_flow
from conveyor.explain.measure.gates import Saturation, gates, saturation
from conveyor.explain.measure.labels import LABELLINGS, label
from conveyor.explain.measure.plot import plot
from conveyor.explain.measure.record import Recording, record
from conveyor.explain.measure.similar import Match, Pattern, find_similar, pattern
from conveyor.explain.measure.units import Unit, units
from conveyor.explain.page import Page, page
from conveyor.explain.page.outcomes import Classes, Labels, NextToken, Numbers
from conveyor.explain.page.sequences import Series, Text
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import run

__all__ = [
    "LABELLINGS",
    "Circuit",
    "Classes",
    "Diagram",
    "Edit",
    "Equation",
    "Labels",
    "Match",
    "NextToken",
    "Numbers",
    "Page",
    "Pattern",
    "Recording",
    "Saturation",
    "Series",
    "Text",
    "Unit",
    "changed",
    "connectivity",
    "diagram",
    "equations",
    "find_similar",
    "gates",
    "gone",
    "gradient_flow",
    "label",
    "page",
    "pattern",
    "plot",
    "record",
    "run",
    "saturation",
    "units",
]
