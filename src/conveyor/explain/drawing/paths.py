"""Lines as SVG paths with rounded bends, forks and joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from conveyor.explain.drawing.coordinates import Point, Polyline

ROUND = 12.0  # the radius of a bend
TIP = 9.0  # the length of an arrowhead


@dataclass(frozen=True)
class RoundedLine:
    """A line with the radii of the curves in which it leaves another line and merges into one (0: none)."""

    polyline: Polyline
    first: float = 0.0
    last: float = 0.0


def rounded_lines(polylines: tuple[Polyline, ...]) -> list[RoundedLine]:
    """The lines with their radii.

    A line that goes straight on at a fork or join is cut where the curves of the others begin, so that no stub sticks
    out beside a curve when only some lines are highlighted.
    """
    forks: dict[tuple[int, Point], float] = {}
    joins: dict[tuple[Point, tuple[int, int]], float] = {}
    found = []
    for polyline in polylines:
        first, last = 0.0, 0.0
        if polyline.before:
            key = polyline.source, polyline.points[0]
            first = min(ROUND, polyline.room / 2, _length(*polyline.points[:2]) / 2)
            forks[key] = min(forks.get(key, ROUND), first)
        if polyline.after:
            to = polyline.points[-1], polyline.after
            last = min(ROUND, polyline.room / 2, _length(*polyline.points[-2:]) / 2)
            joins[to] = min(joins.get(to, ROUND), last)
        found.append(RoundedLine(polyline, first, last))

    def moved(polyline: Polyline, point: Point, direction: tuple[int, int]) -> Point:
        by = joins.get((point, direction), 0.0) - forks.get((polyline.source, point), 0.0)
        return _moved(point, direction, by)

    return [replace(line, polyline=_fitted(line.polyline, moved)) for line in found]


def _fitted(polyline: Polyline, moved: Callable[[Polyline, Point, tuple[int, int]], Point]) -> Polyline:
    points = list(polyline.points)
    if not polyline.before:
        points[0] = moved(polyline, points[0], _direction(*polyline.points[:2]))
    if not polyline.after and not polyline.tip:
        points[-1] = moved(polyline, points[-1], _direction(*polyline.points[-2:]))
    return replace(polyline, points=tuple(points))


def path(line: RoundedLine) -> str:
    """The path of a line with rounded bends. It ends within its arrowhead."""
    polyline, points = line.polyline, list(line.polyline.points)
    if polyline.tip:
        points[-1] = _towards(points[-1], points[-2], TIP / 2)
    text = f"M{_xy(points[0])}"
    if polyline.before:  # it leaves another line in a curve
        start = _moved(points[0], polyline.before, -line.first)
        text = f"M{_xy(start)}Q{_xy(points[0])} {_xy(_towards(points[0], points[1], line.first))}"
    for a, b, c in zip(points, points[1:], points[2:], strict=False):
        radius = min(ROUND, _length(a, b) / 2, _length(b, c) / 2)
        text += f"L{_xy(_towards(b, a, radius))}Q{_xy(b)} {_xy(_towards(b, c, radius))}"
    if polyline.after:
        end = _moved(points[-1], polyline.after, line.last)
        return text + f"L{_xy(_towards(points[-1], points[-2], line.last))}Q{_xy(points[-1])} {_xy(end)}"
    return text + f"L{_xy(points[-1])}"


def tip(polyline: Polyline) -> str:
    """The arrowhead at the end of a line."""
    end = polyline.points[-1]
    back = _towards(end, polyline.points[-2], TIP)
    aside = (back[1] - end[1]) / 2, (end[0] - back[0]) / 2
    one, two = (back[0] + aside[0], back[1] + aside[1]), (back[0] - aside[0], back[1] - aside[1])
    return f"M{_xy(end)}L{_xy(one)}L{_xy(two)}Z"


def number(value: float) -> str:
    """A number rounded to hundredths, as short as possible."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _xy(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"


def _length(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _direction(a: Point, b: Point) -> tuple[int, int]:
    return (b[0] > a[0]) - (b[0] < a[0]), (b[1] > a[1]) - (b[1] < a[1])


def _moved(a: Point, direction: tuple[int, int], by: float) -> Point:
    return a[0] + direction[0] * by, a[1] + direction[1] * by


def _towards(a: Point, b: Point, by: float) -> Point:
    share = by / _length(a, b)
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
