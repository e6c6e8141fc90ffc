"""A step of a network and what it is made of: learned affine maps, the cell, the loop over its step.

affine.py       learned affine maps of several values
cell.py         Cell: states, parameters, step
loop.py         the loop over the step, which specifies what every cell computes; it also records named values
regularise.py   variational dropout and zoneout, as a step that wraps the step
"""

from conveyor.cell.affine import Affine
from conveyor.cell.cell import Cell

__all__ = ["Affine", "Cell"]
