"""The cheapest path on the grid from the tree of a net to one more item, by A* search."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LEFT, RIGHT, UP, DOWN = range(4)
OPPOSITE = (RIGHT, LEFT, DOWN, UP)
ACROSS = (True, True, False, False)  # whether a direction is horizontal

BEND = 4.0
CROSSING = 9.0
ASIDE = 2.5  # the factor for the cost of a merged line outside its row


class Grid:
    """The grid. Points are numbered row by row; `across[v]`, `down[v]` are the nets on the edges right of and below v.

    -1 means that the edge is free; `unit` is its length. Only the end of a path may be at a `closed` point, which is an
    item or the border.
    """

    def __init__(self, width: int, height: int, unit: float, items: Iterable[int]):
        self.width, self.height, self.unit = width, height, unit
        self.across, self.down = [-1] * (width * height), [-1] * (width * height)
        self.closed = bytearray(width * height)
        for v in range(width * height):
            self.closed[v] = v % width in (0, width - 1) or v // width in (0, height - 1)
        for v in items:
            self.closed[v] = True
        self.moves = (-1, 1, -width, width)

    def around(self, v: int) -> tuple[int, int, int, int]:
        """The nets on the four edges at a point, or -1: left, right, up, down."""
        return self.across[v - 1], self.across[v], self.down[v - self.width], self.down[v]

    def apart(self, v: int, w: int) -> float:
        """The length of the shortest path between two points of the empty grid."""
        return self.unit * (abs(v % self.width - w % self.width) + abs(v // self.width - w // self.width))


@dataclass(frozen=True)
class Query:
    """A search: a path of the net `source` to the point `goal`, entered at one of the sides `enters` at its cost.

    `home`: the row in which the net should stay, or -1. `may_bend(v)`: whether the net may bend or fork at a point.
    """

    source: int
    goal: int
    enters: dict[int, float]
    home: int
    may_bend: Callable[[int], bool]


def cheapest_path(grid: Grid, query: Query, starts: list[tuple[float, int, int]]) -> list[int] | None:
    """The points of the cheapest path from one of the `starts` (cost, point, direction), or None."""
    across, down, width, closed, unit, moves = grid.across, grid.down, grid.width, grid.closed, grid.unit, grid.moves
    goal, source = query.goal, query.source
    gx, gy = goal % width, goal // width
    best: dict[tuple[int, int], float] = {}
    came: dict[tuple[int, int], tuple[int, int]] = {}
    heap: list[tuple[float, float, int, int]] = []
    steps = [(cost, v, direction, (v, -1)) for cost, v, direction in starts]
    while True:
        for cost, v, direction, origin in steps:
            w = v + moves[direction]
            if (across if direction < UP else down)[v if w > v else w] >= 0:
                continue
            if w == goal:
                if OPPOSITE[direction] not in query.enters:
                    continue
                cost += query.enters[OPPOSITE[direction]]
            elif closed[w]:
                continue
            else:
                one, two, three, four = across[w - 1], across[w], down[w - width], down[w]
                if one >= 0 or two >= 0 or three >= 0 or four >= 0:
                    if direction < UP:  # the other net must go straight across
                        one, two, three, four = three, four, one, two
                    if one != two or one < 0 or one == source or three >= 0 or four >= 0:
                        continue
                    cost += CROSSING
            y = w // width
            cost += unit * ASIDE if direction < UP and query.home not in (-1, y) else unit
            if cost < best.get((w, direction), 1e9):
                best[w, direction] = cost
                came[w, direction] = origin
                heapq.heappush(heap, (cost + unit * (abs(w % width - gx) + abs(y - gy)), cost, w, direction))
        while heap:
            _, cost, v, direction = heapq.heappop(heap)
            if best[v, direction] == cost:
                break
        else:
            return None
        if v == goal:
            return _trace(came, v, direction)
        steps = [(cost, v, direction, (v, direction))]
        crossed = (down if direction < UP else across)[v] >= 0
        if not crossed and query.may_bend(v):
            turns = (UP, DOWN) if direction < UP else (LEFT, RIGHT)
            steps += [(cost + BEND, v, turn, (v, direction)) for turn in turns]


def _trace(came: dict[tuple[int, int], tuple[int, int]], v: int, direction: int) -> list[int]:
    points = [v]
    while direction >= 0:
        v, direction = came[v, direction]
        points.append(v)
    return points[::-1]
