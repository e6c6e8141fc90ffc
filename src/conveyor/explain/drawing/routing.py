"""Routing: connects the items along a grid. Each net is a tree of cheapest paths, with costs for bends and crossings.

Items lie on points of the grid, with `tracks` grid lines between two rows or columns of items. Two nets never share an
edge of the grid, and they cross only at right angles, so no overlap has to be removed afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from conveyor.explain.drawing.netlist import Link
from conveyor.explain.drawing.pathfinding import (
    ACROSS,
    ASIDE,
    BEND,
    CROSSING,
    DOWN,
    LEFT,
    OPPOSITE,
    RIGHT,
    UP,
    Grid,
    Query,
    cheapest_path,
)
from conveyor.explain.drawing.placement import Placement

AGAIN = 9.0  # the cost of leaving an item at one more side instead of forking
PITCH = 8.0  # from one row or column of items to the next, whatever the number of tracks

# The sides where a line may leave an item, with their costs; and those where it may enter a port.
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


class NoRouteError(Exception):
    """A net has no route on this grid. `source`: the item where the net starts."""

    def __init__(self, source: int):
        self.source = source


@dataclass
class Route:
    """A branch of a net: the points of the grid from the tree so far to the target of `link`."""

    link: Link
    points: list[int]


class Router:
    """Routes the nets of a placement with `tracks` grid lines between items. `routes`: the branches by source."""

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
        # For each item, the nets at its sides, and the number of lines that still need a side.
        self.sides: list[dict[int, int]] = [{} for _ in self.items]
        self.pending = [0] * len(self.items)
        self.ports: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by the point next to a side: item, side
        for i, v in enumerate(self.at):
            for side in self.all_sides(i):
                self.ports[v + self.moves[side]].append((i, side))
        self.nets = placement.netlist.nets()
        self.home = {i: self.at[i] // self.width for i in placement.netlist.of("join")}
        self.routes: dict[int, list[Route]] = {source: [] for source in self.nets}
        self.fixed: dict[int, list[Route]] = {source: [] for source in self.nets}
        for link in placement.netlist.links:
            self.pending[link.target] += 1
        for source in self.nets:
            self.pending[source] += 1

    def all_sides(self, i: int) -> set[int]:
        """All sides of an item where lines may leave or enter."""
        kind = self.items[i].kind
        found = set(LEAVES.get(kind, ()))
        for (of, _), sides in ENTERS.items():
            if of == kind:
                found |= set(sides)
        return found

    # -- all nets

    def run(self, first: list[int], rounds: int = 1) -> None:
        """Routes all nets: those in `first`, then short ones, then long ones.

        In further `rounds`, each net is ripped up and routed again, if that is not more expensive. Raises NoRouteError.
        """
        self.lay_belts()
        order = sorted(self.nets, key=lambda s: (first.index(s) if s in first else len(first), self.span(s), s))
        for source in order:
            self.route_net(source)
        for _ in range(rounds):
            for source in order:
                before = self.cost_of(source)
                kept = self.routes[source]
                self.rip_up(source)
                try:
                    self.route_net(source)
                    better = self.cost_of(source) <= before
                except NoRouteError:
                    better = False
                if not better:
                    self.rip_up(source)
                    for route in kept:
                        if route not in self.fixed[source]:
                            self.lay(source, route)

    def lay_belts(self) -> None:
        """Lays the belts as straight lines, which are fixed."""
        for belt in self.placement.netlist.belts:
            for a, b in zip(belt.stations, belt.stations[1:], strict=False):
                link = next(k for k in self.nets[a] if k.target == b)
                route = Route(link, list(range(self.at[a], self.at[b] + 1)))
                self.lay(a, route)
                self.fixed[a].append(route)

    def span(self, source: int) -> float:
        """Half the perimeter of the bounding box of a net."""
        points = [self.at[source], *(self.at[k.target] for k in self.nets[source])]
        columns, rows = [v % self.width for v in points], [v // self.width for v in points]
        return max(columns) - min(columns) + max(rows) - min(rows)

    def route_net(self, source: int) -> None:
        """Routes all links of a net that have no route yet. Raises NoRouteError."""
        laid = {route.link.target for route in self.routes[source]}
        left = [link for link in self.nets[source] if link.target not in laid]
        while left:
            link = min(left, key=lambda k: (self.distance(source, k), k.target))
            left.remove(link)
            points = self.find(source, link)
            if points is None:
                raise NoRouteError(source)
            self.lay(source, Route(link, points))

    def distance(self, source: int, link: Link) -> float:
        """A rough distance from the tree of a net to the target of a link."""
        points = {v for route in self.routes[source] for v in (route.points[0], route.points[-1])} | {self.at[source]}
        return min(self.grid.apart(v, self.at[link.target]) for v in points)

    def length(self, v: int, w: int, source: int) -> float:
        """The cost of one edge of the grid: merged lines should stay in their row."""
        row = v // self.width
        away = w // self.width == row != self.home.get(source, row)
        return (ASIDE if away else 1.0) * self.grid.apart(v, w)

    # -- adding and removing routes

    def segments(self, route: Route) -> Iterator[tuple[int, int, int]]:
        """The edges of a route: a point, the next, and the direction."""
        for v, w in zip(route.points, route.points[1:], strict=False):
            yield v, w, self.moves.index(w - v)

    def lay(self, source: int, route: Route) -> None:
        """Adds a route to a net."""
        self.routes[source].append(route)
        self.mark(route, source)

    def rip_up(self, source: int) -> None:
        """Removes all routes of a net that are not fixed."""
        for route in self.routes[source]:
            if route not in self.fixed[source]:
                self.mark(route, -1)
        self.routes[source] = list(self.fixed[source])

    def mark(self, route: Route, net: int) -> None:
        """Records that `net` uses the edges and sides of a route, or with -1 that it no longer does."""
        for v, w, direction in self.segments(route):
            (self.grid.across if ACROSS[direction] else self.grid.down)[min(v, w)] = net
            for point, side in ((v, direction), (w, OPPOSITE[direction])):
                item = self.item_at.get(point)
                if item is None:
                    continue
                if net < 0:
                    if self.sides[item].pop(side, None) is not None:
                        others = any(s == route.link.source for s in self.sides[item].values())
                        self.pending[item] += not (point == self.at[route.link.source] and others)
                else:
                    others = any(s == net for s in self.sides[item].values())
                    self.pending[item] -= not (point == self.at[net] and others)
                    self.sides[item][side] = net

    # -- one route

    def find(self, source: int, link: Link) -> list[int] | None:
        """The points of the cheapest path from the tree of the net to the target of a link, or None."""
        target = link.target
        enters = ENTERS[self.items[target].kind, link.port]
        free = {side: cost for side, cost in enters.items() if side not in self.sides[target]}
        known: dict[int, bool] = {}

        def may_bend(v: int) -> bool:
            if v not in known:
                known[v] = self.may_bend(v, source, link)
            return known[v]

        query = Query(source, self.at[target], free, self.home.get(source, -1), may_bend)
        return cheapest_path(self.grid, query, self.starts(source))

    def may_bend(self, v: int, source: int, link: Link | None) -> bool:
        """Whether the net may bend or fork at a point: not where that would block a side that another line needs."""
        return all(self.uses(source, link, item, side) for item, side in self.ports.get(v, ()))

    def uses(self, source: int, link: Link | None, item: int, side: int) -> bool:
        """Whether a net uses a side of an item, or may use it for the link or for leaving."""
        if side in self.sides[item]:
            return self.sides[item][side] == source
        if item == source:
            return side in LEAVES[self.items[source].kind] and self.may_leave(source, side)
        ends = [k for k in self.nets[source] if k.target == item]
        return any(side in ENTERS[self.items[item].kind, k.port] for k in ends)

    def may_leave(self, source: int, side: int) -> bool:
        """Whether a side is free, and not reserved for a line that is still to be routed."""
        used = self.sides[source]
        if side in used:
            return False
        if all(net != source for net in used.values()):
            return True
        return len(self.all_sides(source)) - len(used) > self.pending[source]

    def starts(self, source: int) -> list[tuple[float, int, int]]:
        """Where the next branch of a net may start (cost, point, direction): its source, or where the tree can fork."""
        kind, found = self.items[source].kind, []
        for side, cost in LEAVES[kind].items():
            if self.may_leave(source, side):
                found.append((cost + (AGAIN if self.routes[source] else 0), self.at[source], side))
        seen = set()
        for route in self.routes[source]:
            for _, v, direction in list(self.segments(route))[:-1]:
                if v in seen:
                    continue
                seen.add(v)
                around = self.grid.around(v)
                if any(net not in (-1, source) for net in around) or not self.may_bend(v, source, None):
                    continue
                found += [(BEND, v, turn) for turn in range(4) if around[turn] < 0 and turn != OPPOSITE[direction]]
        return found

    # -- cost

    def cost_of(self, source: int) -> float:
        """The cost of a net."""
        total = 0.0
        for route in self.routes[source]:
            last = None
            for v, w, direction in self.segments(route):
                total += self.length(v, w, source) + (BEND if last not in (None, direction) else 0)
                total += CROSSING * (last == direction and self.crosses_other(v, direction, source))
                last = direction
            total += BEND if route.points[0] != self.at[source] else 0
            total += self.ends_cost(source, route)
        return total

    def ends_cost(self, source: int, route: Route) -> float:
        """The cost of the sides where a route leaves and enters."""
        *_, (_, _, last) = self.segments(route)
        target = self.items[route.link.target].kind
        cost = ENTERS[target, route.link.port][OPPOSITE[last]]
        if route.points[0] == self.at[source]:
            side = self.moves.index(route.points[1] - route.points[0])
            cost += LEAVES[self.items[source].kind][side] + (AGAIN if route is not self.routes[source][0] else 0)
        return cost

    def crosses_other(self, v: int, direction: int, source: int) -> bool:
        """Whether a route that passes a point in this direction crosses another net there."""
        left, _, up, _ = self.grid.around(v)
        return (up if ACROSS[direction] else left) not in (-1, source)

    @property
    def side_cost(self) -> float:
        """The cost of the sides where all routes leave and enter."""
        return sum(self.ends_cost(source, route) for source, routes in self.routes.items() for route in routes)

    def crossings(self) -> int:
        """The number of points where two nets cross."""
        found = 0
        for v in range(self.width, len(self.grid.across) - self.width):
            left, right, up, down = self.grid.around(v)
            found += left >= 0 and left == right and up >= 0 and up == down and left != up and v not in self.item_at
        return found

    def cost(self) -> float:
        """The cost of all nets; a crossing counts for both nets."""
        return sum(self.cost_of(source) for source in self.routes)
