"""Checks the laws of a layout before it is drawn. A layout that breaks one is a defect of this package."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from conveyor.explain.drawing.coordinates import BESIDE, NAME, Layout, Point, Polyline, Shape
from conveyor.explain.drawing.errors import CannotDraw

Box = tuple[float, float, float, float]  # left, top, right, bottom


def check(layout: Layout) -> None:
    """Raises CannotDraw if shapes or names overlap, or a line runs through a shape or a name or along another line."""
    boxes = [(shape, box) for shape in layout.shapes for box in boxes_of(shape)]
    for (first, one), (second, two) in combinations(boxes, 2):
        if _overlap(one, two):
            raise CannotDraw(f"{first.item} and {second.item} overlap")
    for polyline in layout.polylines:
        for a, b in zip(polyline.points, polyline.points[1:], strict=False):
            if (a[0] == b[0]) == (a[1] == b[1]):
                raise CannotDraw(f"a line from {a} to {b} is not straight")
            for shape, box in boxes:
                if _overlap(_thin(a, b), box):
                    raise CannotDraw(f"a line runs through {shape.item}")
    _apart(layout.polylines)


def boxes_of(shape: Shape) -> Iterable[Box]:
    """The bounding boxes of a shape and of the name beside its line."""
    if shape.form == "point":
        return
    x, y, half, tall = shape.x, shape.y, shape.width / 2, shape.height / 2
    if shape.form == "label":
        yield x - half, y - 8 - shape.height, x + half, y - 4
        return
    yield x - half, y - tall, x + half, y + tall
    if shape.name is not None:
        yield x + BESIDE - 2, y - tall - NAME, x + BESIDE + shape.name.width(NAME), y - tall


def _apart(polylines: tuple[Polyline, ...]) -> None:
    """Raises CannotDraw if two lines share more than a point."""
    steps = [(p, _thin(a, b)) for p in polylines for a, b in zip(p.points, p.points[1:], strict=False)]
    for (one, a), (two, b) in combinations(steps, 2):
        across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        if max(across, down) > 1e-6 and min(across, down) >= 0:
            raise CannotDraw(f"lines of {one.wires} and {two.wires} overlap")


def _thin(a: Point, b: Point) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
