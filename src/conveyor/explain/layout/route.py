"""Lines between items along the lines of a grid, each net a tree of shortest ways, paying for bends and crossings.

An item is one crossing of the grid. Between two rows or columns of items lie `tracks` lines. Two nets never share a
piece of the grid; they cross at right angles, where both go straight. So nothing has to be mended afterwards.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from conveyor.explain.layout.place import Placement
from conveyor.explain.layout.scheme import Link

LEFT, RIGHT, UP, DOWN = range(4)
OPPOSITE = (RIGHT, LEFT, DOWN, UP)
ACROSS = (True, True, False, False)  # the sides that lie on the same row

BEND = 4.0
AGAIN = 9.0  # to leave an item by one more side, in place of a fork
CROSSING = 9.0
ASIDE = 2.5  # how much more than others a line costs that has merged and goes on in another row
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
    ("join", ""): {LEFT: 0.0, DOWN: 0.0, UP: 3.0, RIGHT: 9.0},
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
        size = self.width * self.height
        self.xs, self.ys = _nominal(self.width, step), _nominal(self.height, step)
        self.moves = (-1, 1, -self.width, self.width)
        self.at = [c * step + r * step * self.width for c, r in placement.cells]
        self.item_at = dict(zip(self.at, range(len(self.at)), strict=True))
        # Who has the piece of the grid from a point to the right, and down; and for each item, who has its sides.
        self.across, self.down = [-1] * size, [-1] * size
        self.sides: list[dict[int, int]] = [{} for _ in self.items]
        self.want = [0] * len(self.items)  # lines that have still to find a side of the item
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
        return min(self.apart(v, self.at[link.target]) for v in points)

    def apart(self, v: int, w: int) -> float:
        width, xs, ys = self.width, self.xs, self.ys
        return abs(xs[v % width] - xs[w % width]) + abs(ys[v // width] - ys[w // width])

    def length(self, v: int, w: int, source: int) -> float:
        """Of a step, as it counts: what has merged is to stay on its row."""
        row = v // self.width
        away = w // self.width == row != self.home.get(source, row)
        return (ASIDE if away else 1.0) * self.apart(v, w)

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
            (self.across if ACROSS[direction] else self.down)[min(v, w)] = net
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

    def neighbours(self, v: int) -> tuple[int, int, int, int]:
        """Who has the four pieces of the grid at a point."""
        return self.across[v - 1], self.across[v], self.down[v - self.width], self.down[v]

    # -- one way

    def find(self, source: int, link: Link) -> list[int] | None:
        """The cheapest way from the net's tree to the target."""
        goal, goal_kind = self.at[link.target], self.items[link.target].kind
        enters = {s: c for s, c in ENTERS[goal_kind, link.port].items() if s not in self.sides[link.target]}
        starts = self.starts(source)
        width, xs, ys = self.width, self.xs, self.ys
        gx, gy = xs[goal % width], ys[goal // width]
        best: dict[tuple[int, int], float] = {}
        came: dict[tuple[int, int], tuple[int, int] | int] = {}
        heap: list[tuple[float, float, int, int]] = []
        for cost, v, direction in starts:
            self.push(heap, best, came, cost, v, direction, v, source, (goal, gx, gy, enters))
        while heap:
            _, cost, v, direction = heapq.heappop(heap)
            if best[v, direction] < cost:
                continue
            if v == goal:
                return self.trace(came, v, direction)
            crossing = self.crosses(v, direction)
            for turn in (direction,) if crossing or not self.may_bend(v, source, link) else range(4):
                if turn != OPPOSITE[direction]:
                    extra = cost + (0 if turn == direction else BEND)
                    self.push(heap, best, came, extra, v, turn, (v, direction), source, (goal, gx, gy, enters))
        return None

    def push(self, heap, best, came, cost, v, direction, origin, source, aim) -> None:  # type: ignore[no-untyped-def]
        """One step further, if the grid is free there."""
        goal, gx, gy, enters = aim
        w = v + self.moves[direction]
        if (self.across if ACROSS[direction] else self.down)[min(v, w)] >= 0:
            return
        width = self.width
        x, y = w % width, w // width
        if w == goal:
            if OPPOSITE[direction] not in enters:
                return
            cost += enters[OPPOSITE[direction]]
        elif w in self.item_at or x in (0, width - 1) or y in (0, self.height - 1):
            return
        else:
            left, right, up, down = self.neighbours(w)
            if left >= 0 or right >= 0 or up >= 0 or down >= 0:
                one, two = (up, down) if ACROSS[direction] else (left, right)
                along = right if direction == RIGHT else left if direction == LEFT else up if direction == UP else down
                if one != two or one < 0 or one == source or along >= 0:
                    return
                cost += CROSSING
        cost += self.length(v, w, source)
        key = (w, direction)
        if cost < best.get(key, 1e9):
            best[key] = cost
            came[key] = origin
            heapq.heappush(heap, (cost + abs(self.xs[x] - gx) + abs(self.ys[y] - gy), cost, w, direction))

    def crosses(self, v: int, direction: int) -> bool:
        left, _, up, _ = self.neighbours(v)
        return (up if ACROSS[direction] else left) >= 0

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
                around = self.neighbours(v)
                if any(net not in (-1, source) for net in around) or not self.may_bend(v, source, None):
                    continue
                found += [(BEND, v, turn) for turn in range(4) if around[turn] < 0 and turn != OPPOSITE[direction]]
        return found

    def trace(self, came: dict, v: int, direction: int) -> list[int]:
        points = [v]
        origin = came[v, direction]
        while isinstance(origin, tuple):
            points.append(origin[0])
            origin = came[origin]
        return [origin, *reversed(points)]

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
        left, _, up, _ = self.neighbours(v)
        return (up if ACROSS[direction] else left) not in (-1, source)

    @property
    def strain(self) -> float:
        """What the sides cost by which lines leave and enter."""
        return sum(self.ends_cost(source, way) for source, ways in self.ways.items() for way in ways)

    def crossings(self) -> int:
        found = 0
        for v in range(self.width, len(self.across) - self.width):
            left, right, up, down = self.neighbours(v)
            found += left >= 0 and left == right and up >= 0 and up == down and left != up and v not in self.item_at
        return found

    def cost(self) -> float:
        """Of all nets; a crossing counts once for each of the two."""
        return sum(self.cost_of(source) for source in self.ways)


def _nominal(count: int, step: int) -> list[float]:
    """Where the lines of the grid lie, before it is known which of them are used."""
    return [PITCH * i / step for i in range(count)]
