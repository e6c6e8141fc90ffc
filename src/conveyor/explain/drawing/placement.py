"""Placement: a column and a row for each item, first in the order of the step, then improved by simulated annealing.

Rows, from the top: outputs; the belts; free rows for circles; the layers; lanes for the other states and for joins of
lines; inputs. Columns follow the order of the step; states enter at the left and leave at the right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from conveyor.explain.drawing.netlist import Link, Netlist

GridCell = tuple[int, int]  # column, row

EDGES = ("state", "handed", "given", "stream", "constant")  # the kinds of items outside the module

# Weights of the cost, in widths of a column.
TURN = 0.6  # a bend
BACK = 2.5  # a line to the left
HIDDEN = 2.2  # a link between items of one row or column with another item between them
COLUMN = 0.4  # one more column
ORDER = 0.7  # a layer left of the one before it
HOT, COLD = 2.0, 0.05  # the temperature of the annealing, at first and in the end
UNDER = 1.0  # a circle below the layers


@dataclass(frozen=True)
class Rows:
    """The rows of a placement: the numbers of belts, of free rows for circles, and of lanes below the layers."""

    belts: int
    free: int
    lanes: int

    @property
    def layers(self) -> int:
        """The row of the layers."""
        return 1 + self.belts + self.free

    @property
    def bottom(self) -> int:
        """The row of the inputs."""
        return self.layers + self.lanes + 1

    @property
    def for_circles(self) -> range:
        """The rows where a circle that is not on a belt may be."""
        return range(1 + self.belts, self.layers)

    @property
    def for_lanes(self) -> range:
        """The rows of lanes."""
        return range(self.layers + 1, self.bottom)


class Placement:
    """The grid cells of all items. `cost` estimates how good it is without routing; `improve` anneals it."""

    def __init__(self, netlist: Netlist, free: int | None = None):
        self.netlist, self.items = netlist, netlist.items
        count = len(netlist.items)
        free = free if free is not None else 2 if count < 30 else 5
        self.rows = Rows(len(netlist.belts), free, max(1, len(netlist.lanes)))
        self.cells: list[GridCell] = [(0, 0)] * count
        self.taken: dict[GridCell, int] = {}
        self.nets = list(netlist.nets().items())
        self.width = 0
        self.on_belt = {station: k for k, belt in enumerate(netlist.belts) for station in belt.stations}
        self.into: dict[int, list[Link]] = {}
        for link in netlist.links:
            self.into.setdefault(link.target, []).append(link)
        self.rightward = [pair for belt in netlist.belts for pair in pairwise(belt.stations)]
        joins = set(netlist.of("join"))
        self.rightward += [(link.source, link.target) for link in netlist.links if link.source in joins]
        self.layers, self.circles = netlist.of("layer"), netlist.of("op")
        self.movable = [i for i, item in enumerate(self.items) if item.kind not in ("state", "handed")]
        self.place_all()

    # -- the first placement: each item near what it reads, in the order of the step

    def place_all(self) -> None:
        """Places all items greedily."""
        self.left_edge()
        order = [i for i in self.order() if self.items[i].kind not in EDGES]
        for i in order:
            self.put(i, self.first_cell(i))
        self.width = 1 + max((self.cells[i][0] for i in order), default=0)
        for i in self.netlist.of("stream", "constant", "given"):
            self.put(i, self.near(i))
        self.width = 1 + max(c for c, _ in self.cells)
        self.right_edge()

    def left_edge(self) -> None:
        """Places the states of t-1."""
        for k, belt in enumerate(self.netlist.belts):
            self.cells[belt.was] = 0, 1 + k
        for k, (was, _) in enumerate(self.netlist.lanes):
            if was >= 0:
                self.cells[was] = 0, self.rows.layers + 1 + k

    def right_edge(self) -> None:
        """Places the states of t."""
        for k, belt in enumerate(self.netlist.belts):
            self.cells[belt.becomes] = self.width, 1 + k
        for k, (_, becomes) in enumerate(self.netlist.lanes):
            self.cells[becomes] = self.width, self.rows.layers + 1 + k

    def order(self) -> list[int]:
        """All items in topological order, otherwise in the order of the step."""
        done: list[int] = []
        seen: set[int] = set()

        def visit(i: int) -> None:
            if i not in seen:
                seen.add(i)
                for link in self.into.get(i, ()):
                    visit(link.source)
                done.append(i)

        for i in range(len(self.items)):
            visit(i)
        return done

    def put(self, i: int, cell: GridCell) -> None:
        """Puts an item into a cell."""
        self.cells[i] = cell
        self.taken[cell] = i

    def sources(self, i: int) -> list[GridCell]:
        """The cells of the sources of an item that are placed within the module."""
        known = [self.cells[link.source] for link in self.into.get(i, ())]
        return [cell for cell in known if cell[0] > 0]

    def first_cell(self, i: int) -> GridCell:
        """The free cell for an item in the first placement: right of its sources, near their rows."""
        kind, rows = self.items[i].kind, self.rows
        sources = self.sources(i)
        left = max((c for c, _ in sources), default=1)
        left += any(self.items[link.source].kind == "join" for link in self.into.get(i, ()))
        if kind == "layer":
            last = max((c for c, r in self.taken if r == rows.layers), default=0)
            return max(last + 1, left), rows.layers
        if i in self.on_belt:
            row = 1 + self.on_belt[i]
            return max([left, *(c + 1 for c, r in self.taken if r == row)]), row
        wanted = rows.for_lanes if kind == "join" else rows.for_circles
        free = ((c, r) for c in range(left, left + len(self.items) + 2) for r in wanted if (c, r) not in self.taken)
        middle = sum(r for _, r in sources) / len(sources) if sources else wanted[0]
        return min(free, key=lambda cell: (2 * (cell[0] - left) + abs(cell[1] - middle), cell))

    def near(self, i: int) -> GridCell:
        """The free cell of the top or bottom row nearest to the items that it is linked to."""
        row = 0 if self.items[i].kind == "given" else self.rows.bottom
        others = [self.cells[k.target] for k in self.netlist.links if k.source == i]
        others += [self.cells[k.source] for k in self.into.get(i, ())]
        wanted = min(c for c, _ in others) if row else max(c for c, _ in others) + 1
        free = (c for c in range(1, self.width + len(self.items)) if (c, row) not in self.taken)
        return min(free, key=lambda c: (abs(c - wanted), c)), row

    # -- how good a placement is

    def cost(self) -> float:
        """The estimated cost of the placement, in widths of a column."""
        lines = sum(self.net_cost(source, links) for source, links in self.nets)
        return COLUMN * self.width + ORDER * self.disorder + UNDER * self.low + lines

    @property
    def disorder(self) -> int:
        """The number of layers that are left of their predecessor in the step."""
        columns = [self.cells[i][0] for i in self.layers]
        return sum(a > b for a, b in pairwise(columns))

    @property
    def low(self) -> int:
        """The number of circles below the layers."""
        return sum(self.cells[i][1] > self.rows.layers for i in self.circles)

    def net_cost(self, source: int, links: list[Link]) -> float:
        """The estimated cost of a net: a tree that connects each target to the nearest point of the tree so far."""
        total = 0.0
        tree = [self.cells[source]]
        upwards = self.items[source].kind == "layer"
        for link in sorted(links, key=lambda k: abs(self.cells[k.target][0] - tree[0][0])):
            to = self.cells[link.target]
            best = min(self.line(at, to, link, upwards and k == 0) for k, at in enumerate(tree))
            total += best + (BACK if to[0] < tree[0][0] else 0)
            tree.append(to)
        return total

    def line(self, at: GridCell, to: GridCell, link: Link, upwards: bool) -> float:
        """The estimated cost of a line between two cells. `upwards`: it leaves at the top, as that of a layer does."""
        dx, dy = abs(at[0] - to[0]), abs(at[1] - to[1])
        cost = dx + 0.7 * dy
        if dx and dy:
            cost += TURN
        elif self.between(at, to):
            cost += HIDDEN
        if upwards and (at[1] <= to[1]):
            cost += TURN
        if link.port == "main" and at[1] <= to[1]:  # a layer is entered from below
            cost += 2 * TURN
        return cost

    def between(self, at: GridCell, to: GridCell) -> bool:
        """Whether an item lies between two cells of one row or column."""
        (a, r), (b, s) = at, to
        if r == s:
            return any((c, r) in self.taken for c in range(min(a, b) + 1, max(a, b)))
        return any((a, row) in self.taken for row in range(min(r, s) + 1, max(r, s)))

    # -- changes

    def snapshot(self) -> tuple[list[GridCell], dict[GridCell, int], int]:
        """A copy of the placement, for `restore`."""
        return list(self.cells), dict(self.taken), self.width

    def restore(self, saved: tuple[list[GridCell], dict[GridCell, int], int]) -> None:
        """Restores a snapshot."""
        self.cells, self.taken, self.width = list(saved[0]), dict(saved[1]), saved[2]

    def improve(self, tries: int, seed: int = 0) -> None:
        """Simulated annealing with `tries` random changes, deterministic for a seed. The best placement is kept."""
        chance = random.Random(seed)
        cost = self.cost()
        best, saved_best = cost, self.snapshot()
        for n in range(tries):
            saved = self.snapshot()
            if not self.try_change(chance):
                self.restore(saved)
                continue
            new = self.cost()
            heat = HOT * (COLD / HOT) ** (n / tries)
            if new <= cost - heat * math.log(chance.random() or 1.0):
                cost = new
                if cost < best - 1e-9:
                    best, saved_best = cost, self.snapshot()
            else:
                self.restore(saved)
        self.restore(saved_best)
        self.close_gaps()

    def try_change(self, chance: random.Random) -> bool:
        """Makes one random change, and returns whether the placement is still valid."""
        kind = chance.random()
        i = chance.choice(self.movable)
        if kind < 0.15:
            self.insert(chance.randint(1, self.width))
            ok = kind < 0.05 or self.move(i, chance)
        elif kind < 0.4:
            j = chance.choice(self.movable)
            ok = self.swap(i, j)
        else:
            ok = self.move(i, chance)
        self.close_gaps()
        return ok and self.in_order()

    def insert(self, column: int) -> None:
        """Inserts an empty column."""
        self.renumber({c: c + (c >= column) for c in range(self.width + 1)})

    def close_gaps(self) -> None:
        """Removes empty columns."""
        used = sorted({c for c, _ in self.taken})
        if used != list(range(1, len(used) + 1)) or self.width != len(used) + 1:
            self.renumber({0: 0, self.width: len(used) + 1} | {c: k + 1 for k, c in enumerate(used)})

    def renumber(self, new: dict[int, int]) -> None:
        """Moves each column to a new index."""
        self.cells = [(new[c], r) for c, r in self.cells]
        self.taken = {(new[c], r): i for (c, r), i in self.taken.items()}
        self.width = new[self.width]

    def swap(self, i: int, j: int) -> bool:
        """Swaps two items; returns whether they may be swapped."""
        a, b = self.cells[i], self.cells[j]
        if i == j or not self.allowed(i, b[1]) or not self.allowed(j, a[1]):
            return False
        self.put(i, b)
        self.put(j, a)
        return True

    def move(self, i: int, chance: random.Random) -> bool:
        """Moves an item to a random cell nearby; returns whether that cell is free."""
        column, row = self.cells[i]
        rows = [r for r in self.layout_of(i) if abs(r - row) <= 2 or len(self.items) < 30]
        to = column + chance.choice((-2, -1, -1, 0, 1, 1, 2)), chance.choice(rows)
        if not 1 <= to[0] < self.width or to in self.taken:
            return False
        del self.taken[column, row]
        self.put(i, to)
        return True

    def layout_of(self, i: int) -> Iterable[int]:
        """The rows where an item may be."""
        kind, row = self.items[i].kind, self.cells[i][1]
        if kind in ("layer", "given", "stream", "constant") or i in self.on_belt:
            return (row,)
        return (*self.rows.for_circles, *self.rows.for_lanes)

    def allowed(self, i: int, row: int) -> bool:
        """Whether an item may be in a row."""
        return row in self.layout_of(i)

    def in_order(self) -> bool:
        """Whether all belts and all lines that leave a join run to the right."""
        cells = self.cells
        return all(cells[a][0] < cells[b][0] for a, b in self.rightward)
