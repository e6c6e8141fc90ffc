"""Lines between items along the lines of a grid, each net a tree of shortest ways, paying for bends and crossings.

An item is one crossing of the grid. Between two rows or columns of items lie `tracks` lines. Two nets never share a
piece of the grid; they cross at right angles, where both go straight. So nothing has to be mended afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from conveyor.explain.drawing.place import Placement
from conveyor.explain.drawing.scheme import Link
from conveyor.explain.drawing.way import ACROSS, ASIDE, BEND, CROSSING, DOWN, LEFT, OPPOSITE, RIGHT, UP, Aim, Grid, find

AGAIN = 9.0  # to leave an item by one more side, in place of a fork
PITCH = 8.0  # from one row or column to the next, however many tracks lie between

# The sides that may be left by, and what it costs; and those that may be entered by, for each port.
LEAVES = {
    "layer": {UP: 0.0, RIGHT: 6.0},
    "op": {RIGHT: 0.0, UP: 2.0, DOWN: 3.0, LEFT: 6.0},
    "join": {RIGHT: 0.0, UP: 20.0, DOWN: 20.0, LEFT: 24.0},
    "clock": {UP: 0.0, RIGHT: 0.0, DOWN: 0.0, LEFT: 2.0},
    "parameter": {UP: 0.0, RIGHT: 0.0, DOWN: 0.0, LEFT: 2.0},
    "stream": {UP: 0.0},
    "constant": {UP: 0.0},
    "state": {RIGHT: 0.0},
}
ENTERS = {
    ("layer", "main"): {DOWN: 0.0},
    ("layer", "side"): {LEFT: 0.0, RIGHT: 1.0},
    ("op", ""): {LEFT: 0.0, UP: 0.5, DOWN: 0.0, RIGHT: 20.0},
    ("join", ""): {LEFT: 0.0, DOWN: 0.0, UP: 6.0, RIGHT: 9.0},
    ("handed", ""): {LEFT: 0.0},
    ("given", ""): {DOWN: 0.0},
}


class NoWayError(Exception):
    """A net found no way on this grid; `source` is where it starts."""

    def __init__(self, source: int):
        self.source = source


@dataclass
class Way:
    """A piece of a net: the grid's points from the tree to the target of `link`."""

    link: Link
    points: list[int]


class Router:
    def __init__(self, placement: Placement, tracks: int):
        self.placement, self.tracks = placement, tracks
        self.items = placement.items
        step = tracks + 1
        self.width = placement.width * step + 1
        self.height = placement.rows.bottom * step + 1
        self.at = [c * step + r * step * self.width for c, r in placement.cells]
        self.item_at = dict(zip(self.at, range(len(self.at)), strict=True))
        self.grid = Grid(self.width, self.height, PITCH / step, self.at)
        self.moves = self.grid.moves
        # For each item the nets that have its sides, and how many lines have still to find one.
        self.sides: list[dict[int, int]] = [{} for _ in self.items]
        self.want = [0] * len(self.items)
        self.ports: dict[int, list[tuple[int, int]]] = defaultdict(list)  # points before a side of an item
        for i, v in enumerate(self.at):
            for side in self.all_sides(i):
                self.ports[v + self.moves[side]].append((i, side))
        self.nets = placement.scheme.nets()
        self.home = {i: self.at[i] // self.width for i in placement.scheme.of("join")}
        self.ways: dict[int, list[Way]] = {source: [] for source in self.nets}
        self.fixed: dict[int, list[Way]] = {source: [] for source in self.nets}
        for link in placement.scheme.links:
            self.want[link.target] += 1
        for source in self.nets:
            self.want[source] += 1

    def all_sides(self, i: int) -> set[int]:
        kind = self.items[i].kind
        found = set(LEAVES.get(kind, ()))
        for (of, _), sides in ENTERS.items():
            if of == kind:
                found |= set(sides)
        return found

    # -- all nets

    def run(self, first: list[int], rounds: int = 1) -> None:
        """Routes all nets, those in `first` before the others, the short ones before the long. Raises NoWayError."""
        self.lay_belts()
        order = sorted(self.nets, key=lambda s: (first.index(s) if s in first else len(first), self.reach(s), s))
        for source in order:
            self.route(source)
        for _ in range(rounds):
            for source in order:
                before = self.cost_of(source)
                kept = self.ways[source]
                self.lift(source)
                try:
                    self.route(source)
                    better = self.cost_of(source) <= before
                except NoWayError:
                    better = False
                if not better:
                    self.lift(source)
                    for way in kept:
                        if way not in self.fixed[source]:
                            self.lay(source, way)

    def lay_belts(self) -> None:
        for belt in self.placement.scheme.belts:
            for a, b in zip(belt.stations, belt.stations[1:], strict=False):
                link = next(k for k in self.nets[a] if k.target == b)
                way = Way(link, list(range(self.at[a], self.at[b] + 1)))
                self.lay(a, way)
                self.fixed[a].append(way)

    def reach(self, source: int) -> float:
        points = [self.at[source], *(self.at[k.target] for k in self.nets[source])]
        columns, rows = [v % self.width for v in points], [v // self.width for v in points]
        return max(columns) - min(columns) + max(rows) - min(rows)

    def route(self, source: int) -> None:
        laid = {way.link.target for way in self.ways[source]}
        left = [link for link in self.nets[source] if link.target not in laid]
        while left:
            link = min(left, key=lambda k: (self.distance(source, k), k.target))
            left.remove(link)
            points = self.find(source, link)
            if points is None:
                raise NoWayError(source)
            self.lay(source, Way(link, points))

    def distance(self, source: int, link: Link) -> float:
        points = {v for way in self.ways[source] for v in (way.points[0], way.points[-1])} | {self.at[source]}
        return min(self.grid.apart(v, self.at[link.target]) for v in points)

    def length(self, v: int, w: int, source: int) -> float:
        """Of a step, as it counts: what has merged is to stay on its row."""
        row = v // self.width
        away = w // self.width == row != self.home.get(source, row)
        return (ASIDE if away else 1.0) * self.grid.apart(v, w)

    # -- laying and lifting

    def pieces(self, way: Way) -> Iterator[tuple[int, int, int]]:
        """The steps of a way: from a point to the next, and the direction."""
        for v, w in zip(way.points, way.points[1:], strict=False):
            yield v, w, self.moves.index(w - v)

    def lay(self, source: int, way: Way) -> None:
        self.ways[source].append(way)
        self.mark(way, source)

    def lift(self, source: int) -> None:
        """Takes up all that is not fixed."""
        for way in self.ways[source]:
            if way not in self.fixed[source]:
                self.mark(way, -1)
        self.ways[source] = list(self.fixed[source])

    def mark(self, way: Way, net: int) -> None:
        for v, w, direction in self.pieces(way):
            (self.grid.across if ACROSS[direction] else self.grid.down)[min(v, w)] = net
            for point, side in ((v, direction), (w, OPPOSITE[direction])):
                item = self.item_at.get(point)
                if item is None:
                    continue
                if net < 0:
                    if self.sides[item].pop(side, None) is not None:
                        others = any(s == way.link.source for s in self.sides[item].values())
                        self.want[item] += not (point == self.at[way.link.source] and others)
                else:
                    others = any(s == net for s in self.sides[item].values())
                    self.want[item] -= not (point == self.at[net] and others)
                    self.sides[item][side] = net

    # -- one way

    def find(self, source: int, link: Link) -> list[int] | None:
        """The cheapest way from the net's tree to the target."""
        target = link.target
        enters = ENTERS[self.items[target].kind, link.port]
        free = {side: cost for side, cost in enters.items() if side not in self.sides[target]}
        known: dict[int, bool] = {}

        def may_bend(v: int) -> bool:
            if v not in known:
                known[v] = self.may_bend(v, source, link)
            return known[v]

        aim = Aim(source, self.at[target], free, self.home.get(source, -1), may_bend)
        return find(self.grid, aim, self.starts(source))

    def may_bend(self, v: int, source: int, link: Link | None) -> bool:
        """Not before a side of an item that needs it for another line."""
        return all(self.uses(source, link, item, side) for item, side in self.ports.get(v, ()))

    def uses(self, source: int, link: Link | None, item: int, side: int) -> bool:
        if side in self.sides[item]:
            return self.sides[item][side] == source
        if item == source:
            return side in LEAVES[self.items[source].kind] and self.may_leave(source, side)
        ends = [k for k in self.nets[source] if k.target == item]
        return any(side in ENTERS[self.items[item].kind, k.port] for k in ends)

    def may_leave(self, source: int, side: int) -> bool:
        """Whether a side is free, and not needed by a line that has still to come."""
        used = self.sides[source]
        if side in used:
            return False
        if all(net != source for net in used.values()):
            return True
        return len(self.all_sides(source)) - len(used) > self.want[source]

    def starts(self, source: int) -> list[tuple[float, int, int]]:
        """Where the next way of a net may begin: at its source, or wherever it can fork."""
        kind, found = self.items[source].kind, []
        for side, cost in LEAVES[kind].items():
            if self.may_leave(source, side):
                found.append((cost + (AGAIN if self.ways[source] else 0), self.at[source], side))
        seen = set()
        for way in self.ways[source]:
            for _, v, direction in list(self.pieces(way))[:-1]:
                if v in seen:
                    continue
                seen.add(v)
                around = self.grid.around(v)
                if any(net not in (-1, source) for net in around) or not self.may_bend(v, source, None):
                    continue
                found += [(BEND, v, turn) for turn in range(4) if around[turn] < 0 and turn != OPPOSITE[direction]]
        return found

    # -- how good it is

    def cost_of(self, source: int) -> float:
        total = 0.0
        for way in self.ways[source]:
            last = None
            for v, w, direction in self.pieces(way):
                total += self.length(v, w, source) + (BEND if last not in (None, direction) else 0)
                total += CROSSING * (last == direction and self.crosses_other(v, direction, source))
                last = direction
            total += BEND if way.points[0] != self.at[source] else 0
            total += self.ends_cost(source, way)
        return total

    def ends_cost(self, source: int, way: Way) -> float:
        """What it costs to leave and to enter by these sides."""
        *_, (_, _, last) = self.pieces(way)
        target = self.items[way.link.target].kind
        cost = ENTERS[target, way.link.port][OPPOSITE[last]]
        if way.points[0] == self.at[source]:
            side = self.moves.index(way.points[1] - way.points[0])
            cost += LEAVES[self.items[source].kind][side] + (AGAIN if way is not self.ways[source][0] else 0)
        return cost

    def crosses_other(self, v: int, direction: int, source: int) -> bool:
        left, _, up, _ = self.grid.around(v)
        return (up if ACROSS[direction] else left) not in (-1, source)

    @property
    def strain(self) -> float:
        """What the sides cost by which lines leave and enter."""
        return sum(self.ends_cost(source, way) for source, ways in self.ways.items() for way in ways)

    def crossings(self) -> int:
        found = 0
        for v in range(self.width, len(self.grid.across) - self.width):
            left, right, up, down = self.grid.around(v)
            found += left >= 0 and left == right and up >= 0 and up == down and left != up and v not in self.item_at
        return found

    def cost(self) -> float:
        """Of all nets; a crossing counts once for each of the two."""
        return sum(self.cost_of(source) for source in self.ways)
