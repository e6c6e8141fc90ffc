"""The error of a drawing."""

REPORT = "this is a defect of conveyor, please report it with the cell"


class CannotDraw(Exception):
    """No layout was found for a circuit, or the one found breaks a law: a defect of this package, not of the cell."""
