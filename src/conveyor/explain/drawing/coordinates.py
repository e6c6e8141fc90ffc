"""Coordinates: from the rows, columns and grid lines of a routed diagram to points. Unused grid lines take no room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.netlist import Item
from conveyor.explain.drawing.pathfinding import OPPOSITE
from conveyor.explain.drawing.routing import Router
from conveyor.explain.symbols import Symbol, symbol, text_width

Point = tuple[float, float]

LINE_TO_LINE, LINE_TO_SHAPE, SHAPE_TO_SHAPE = 18.0, 18.0, 26.0
BORDER = 26.0  # between the contents of the module and its border
OUTSIDE = 44.0  # from the border to the middle of shapes outside
TEXT, NAME = 21.0, 20.0  # font sizes on shapes and beside lines
LAYER, CIRCLE, END = (58.0, 40.0), 36.0, 46.0
BESIDE = 9.0  # from a line to a name beside it
ABOVE = 24.0  # the height of a name above a shape or a line
DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # left, right, up, down


@dataclass(frozen=True)
class Shape:
    """The shape of an item: a box, a circle (a pill if its text is long), or just a point for a join."""

    item: Item
    form: str  # "box", "circle", "tag", "end", "label", "point"
    x: float
    y: float
    width: float
    height: float
    text: Symbol
    name: Symbol | None = None  # beside the line that leaves it


@dataclass(frozen=True)
class Polyline:
    """A line without forks, through `points`, and the wires that run along it.

    `before`: if it leaves another line in a curve, the direction of that line; `after`: if it merges into another line
    in a curve, the direction of that; `room`: the length of that line's straight end; `tip`: it ends in an arrow.
    """

    source: int
    points: tuple[Point, ...]
    wires: tuple[str, ...]
    before: tuple[int, int] | None = None
    after: tuple[int, int] | None = None
    tip: bool = False
    room: float = 0.0


@dataclass(frozen=True)
class Layout:
    """A laid out module: its border with a corner at (0, 0), its shapes in the order of the items, and its lines.

    `gap`: the distance to the next module. Lengths are in pixels.
    """

    circuit: Circuit
    width: float
    height: float
    gap: float
    shapes: tuple[Shape, ...]
    polylines: tuple[Polyline, ...]
    crossings: int
    side_cost: float

    @property
    def length(self) -> float:
        """The total length of all lines."""
        pairs = (pair for polyline in self.polylines for pair in pairwise(polyline.points))
        return sum(_length(a, b) for a, b in pairs)

    @property
    def leftward(self) -> float:
        """The total length of leftward lines, against the direction of time."""
        return sum(max(0.0, a[0] - b[0]) for polyline in self.polylines for a, b in pairwise(polyline.points))

    @property
    def bends(self) -> int:
        """The number of bends."""
        return sum(len(p.points) - 2 + (p.before is not None) + (p.after is not None) for p in self.polylines)


def assign_coordinates(circuit: Circuit, router: Router) -> Layout:
    """The layout of a routed diagram."""
    return _Coordinates(circuit, router).layout()


class _Coordinates:
    def __init__(self, circuit: Circuit, router: Router):
        self.circuit, self.router = circuit, router
        self.items, self.cells = router.items, router.placement.cells
        self.step = router.tracks + 1
        belts = router.placement.netlist.belts
        ended = {item.part for item in self.items if item.kind == "given"}  # their name stands at the end of the line
        ended |= {self.items[belt.becomes].part for belt in belts}
        self.shapes = [self.shape(item, item.part in ended) for item in self.items]

    def shape(self, item: Item, ended: bool) -> Shape:
        """A shape that fits its text, still without coordinates."""
        if item.kind == "join":
            return Shape(item, "point", 0, 0, 0, 0, Symbol(""))
        part = self.circuit.parts[item.part]
        name = symbol(part.name) if part.name and not ended else None
        if item.kind == "layer":
            text = Symbol(part.label or "W")
            width = max(LAYER[0], text_width(text.base, TEXT) + 16)
            return Shape(item, "box", 0, 0, width, LAYER[1], text, name)
        if item.kind == "op":
            text = Symbol(part.label)
            wide = text_width(text.base, TEXT) + 14
            return Shape(item, "circle", 0, 0, wide if wide > CIRCLE + 4 else CIRCLE, CIRCLE, text, name)
        if item.kind in ("clock", "parameter"):
            text = symbol(part.name) if item.kind == "parameter" and part.name else Symbol(part.label)
            named = name if item.kind == "clock" else None
            return Shape(item, "tag", 0, 0, text.width(NAME) + 18, 34, text, named)
        text = symbol(item.name)
        if item.kind != "constant":
            text = text.at("t−1" if item.kind == "state" else "t")
        if item.kind in ("state", "handed"):
            return Shape(item, "label", 0, 0, text.width(NAME), NAME, text)
        wide = text.width(TEXT) + 16
        return Shape(item, "end", 0, 0, max(END, wide), END if wide <= END + 8 else 40, text)

    # -- coordinates of the grid lines

    def layout(self) -> Layout:
        xs, left, right = self.lines(self.router.width, self.across_extents(), self.used_columns())
        ys, top, bottom = self.lines(self.router.height, self.down_extents(), self.used_rows())
        gap = 56 + max((s.width for s in self.shapes if s.form == "label"), default=0)
        width, height = right - left + 2 * BORDER, bottom - top + 2 * BORDER
        xs = {i: x - left + BORDER for i, x in xs.items()} | {0: -gap, self.router.width - 1: width + gap}
        ys = {i: y - top + BORDER for i, y in ys.items()} | {0: -OUTSIDE, self.router.height - 1: height + OUTSIDE}
        self.xs, self.ys = xs, ys
        polylines = _with_room([polyline for source in self.router.nets for polyline in self.polylines(source)])
        shapes = [self.placed(shape, cell, gap) for shape, cell in zip(self.shapes, self.cells, strict=True)]
        return Layout(
            self.circuit,
            width,
            height,
            gap,
            tuple(shapes),
            tuple(polylines),
            self.router.crossings(),
            self.router.side_cost,
        )

    def placed(self, shape: Shape, cell: tuple[int, int], gap: float) -> Shape:
        x, y = self.xs[cell[0] * self.step], self.ys[cell[1] * self.step]
        if shape.form == "label":  # in the middle of the gap, above the line
            x += gap / 2 if x < 0 else -gap / 2
        return Shape(**{**vars(shape), "x": x, "y": y})

    def used_columns(self) -> set[int]:
        width = self.router.width
        return {v % width for v, net in enumerate(self.router.grid.down) if net >= 0}

    def used_rows(self) -> set[int]:
        width = self.router.width
        return {v // width for v, net in enumerate(self.router.grid.across) if net >= 0}

    def across_extents(self) -> dict[int, Point]:
        """How far the shapes of each column reach to the left and to the right of it."""
        found: dict[int, Point] = {}
        for shape, (column, _) in zip(self.shapes, self.cells, strict=True):
            if shape.form != "label":
                half = shape.width / 2
                name = shape.name.width(NAME) + BESIDE if shape.name else 0
                old = found.get(column * self.step, (0, 0))
                found[column * self.step] = max(old[0], half), max(old[1], half, name)
        return found

    def down_extents(self) -> dict[int, Point]:
        found: dict[int, Point] = {}
        for shape, (_, row) in zip(self.shapes, self.cells, strict=True):
            half = 6 if shape.form == "label" else shape.height / 2
            above = half + (ABOVE if shape.name or shape.form == "label" else 0)
            old = found.get(row * self.step, (0, 0))
            found[row * self.step] = max(old[0], above), max(old[1], half)
        return found

    def lines(self, count: int, extents: dict[int, Point], used: set[int]) -> tuple[dict[int, float], float, float]:
        """The coordinates of the used grid lines of the module, and those of its two edges."""
        places: dict[int, float] = {}
        edge, last_is_shape, begin = 0.0, None, 0.0
        for i in range(1, count - 1):
            if i not in extents and i not in used:
                continue
            before, after = extents.get(i, (0.0, 0.0))
            is_shape = before + after > 0
            if last_is_shape is None:
                room = 0.0
            elif is_shape and last_is_shape:
                room = SHAPE_TO_SHAPE
            else:
                room = LINE_TO_SHAPE if is_shape or last_is_shape else LINE_TO_LINE
            places[i] = edge + room + before
            edge, last_is_shape = places[i] + after, is_shape
        return places, begin, edge

    # -- lines

    def point(self, v: int) -> Point:
        return self.xs[v % self.router.width], self.ys[v // self.router.width]

    def edge(self, v: int, side: int) -> Point:
        """Where a line at this side touches the shape at a point of the grid; the point itself if there is none."""
        (x, y), (dx, dy) = self.point(v), DIRECTIONS[side]
        item = self.router.item_at.get(v)
        if item is None or self.shapes[item].form == "label":
            return x, y
        return x + dx * self.shapes[item].width / 2, y + dy * self.shapes[item].height / 2

    def polylines(self, source: int) -> Iterable[Polyline]:
        router = self.router
        parents: dict[int, int] = {}
        children: dict[int, list[int]] = defaultdict(list)
        wires: dict[int, set[str]] = defaultdict(set)  # by the end point of each edge of the tree
        for route in router.routes[source]:
            for v, w, _ in router.segments(route):
                parents[w] = v
                children[v].append(w)
        for route in router.routes[source]:
            v = route.points[-1]
            while v != router.at[source]:
                wires[v] |= route.link.wires
                v = parents[v]
        for start, after in list(children.items()):
            if start == router.at[source] or len(after) > 1:
                for child in after:
                    yield self.polyline(source, [start, child], parents, children, wires[child])

    def polyline(
        self, source: int, way: list[int], parents: dict[int, int], children: dict[int, list[int]], wires: set[str]
    ) -> Polyline:
        """The line that starts with the two points `way`, up to the next fork."""
        router = self.router
        while len(children.get(way[-1], ())) == 1 and way[-1] not in router.item_at:
            way.append(children[way[-1]][0])
        turns = [router.moves.index(w - v) for v, w in pairwise(way)]
        bends = [v for v, a, b in zip(way[1:], turns, turns[1:], strict=False) if a != b]
        before = router.moves.index(way[0] - parents[way[0]]) if way[0] in parents else turns[0]
        end = router.item_at.get(way[-1])
        joins = end is not None and self.items[end].kind == "join"
        after = self.leaving(end, turns[-1]) if end is not None and joins else turns[-1]
        return Polyline(
            source,
            (self.edge(way[0], turns[0]), *map(self.point, bends), self.edge(way[-1], OPPOSITE[turns[-1]])),
            tuple(sorted(wires, key=lambda wire: [(len(n), n) for n in wire.split("-", 1)])),
            DIRECTIONS[before] if before != turns[0] else None,
            DIRECTIONS[after] if after != turns[-1] else None,
            end is not None and not joins,
        )

    def leaving(self, join: int, coming: int) -> int:
        """The direction in which the line of a join leaves it: straight on if possible."""
        sides = sorted(side for side, net in self.router.sides[join].items() if net == join)
        return coming if coming in sides else sides[0]


def _with_room(polylines: list[Polyline]) -> list[Polyline]:
    """The polylines with `room`: the length of the straight line that each leaves or merges into."""
    before = {polyline.points[-1]: _length(*polyline.points[-2:]) for polyline in polylines if not polyline.tip}
    after = {
        (polyline.points[0], _direction(*polyline.points[:2])): _length(*polyline.points[:2]) for polyline in polylines
    }
    found = []
    for polyline in polylines:
        room = [before[polyline.points[0]]] if polyline.before else []
        room += [after[polyline.points[-1], polyline.after]] if polyline.after else []
        found.append(replace(polyline, room=min(room, default=0.0)))
    return found


def _length(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _direction(a: Point, b: Point) -> tuple[int, int]:
    return (b[0] > a[0]) - (b[0] < a[0]), (b[1] > a[1]) - (b[1] < a[1])
