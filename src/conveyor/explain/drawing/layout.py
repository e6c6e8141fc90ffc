"""The layout of a diagram: of many placements, routed, the one with the shortest and plainest lines is kept."""

from __future__ import annotations

import random

from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.check import check
from conveyor.explain.drawing.coordinates import Layout, assign_coordinates
from conveyor.explain.drawing.errors import CannotDraw
from conveyor.explain.drawing.netlist import netlist
from conveyor.explain.drawing.placement import Placement
from conveyor.explain.drawing.routing import NoRouteError, Router

TRACKS = 3
MOST_TRACKS = 24
STARTS, CHANGES = 30, 1_000  # the most placements that are tried, and the most changes of each
WORK = 1_000  # the effort; a larger circuit gets fewer placements and changes for it

# Weights of the cost, in pixels of line length.
BEND, CROSSING, WIDTH, LEFTWARD, DISORDER, SIDES, LOW = 30.0, 120.0, 0.3, 1.5, 60.0, 8.0, 80.0


def lay_out(circuit: Circuit, work: int = WORK) -> Layout:
    """The layout of a circuit; it is deterministic. `work`: the effort, of which the time is roughly a multiple.

    Raises CannotDraw if no layout that obeys the laws is found.
    """
    made = netlist(circuit)
    size = len(made.items) + len(made.links)
    best: tuple[float, Placement, Layout] | None = None
    for seed in range(1 + min(work // size, STARTS)):
        placement = Placement(made)
        placement.improve(min(30 * work // size, CHANGES), seed)
        layout = assign_coordinates(circuit, routed(placement))
        if best is None or cost(layout, placement) < best[0]:
            best = cost(layout, placement), placement, layout
    assert best is not None
    layout = refined(circuit, *best, tries=min(80 * work // size**2, CHANGES // 10))
    check(layout)
    return layout


def refined(circuit: Circuit, least: float, placement: Placement, layout: Layout, tries: int) -> Layout:
    """Improves a layout by changes of its placement, each routed in full."""
    chance = random.Random(1)
    limit = placement.cost()
    for _ in range(tries):
        saved = placement.snapshot()
        for _ in range(20):
            if placement.try_change(chance) and placement.cost() < limit + 8:
                break
            placement.restore(saved)
        else:
            continue
        new = assign_coordinates(circuit, routed(placement))
        if cost(new, placement) < least:
            least, layout, limit = cost(new, placement), new, placement.cost()
        else:
            placement.restore(saved)
    return layout


def cost(layout: Layout, placement: Placement) -> float:
    """The cost of a layout, in pixels of line length."""
    plain = layout.length + BEND * layout.bends + CROSSING * layout.crossings + SIDES * layout.side_cost
    plain += WIDTH * (layout.width + layout.height) + LEFTWARD * layout.leftward
    return plain + DISORDER * placement.disorder + LOW * placement.low


def routed(placement: Placement) -> Router:
    """Routes all lines. A net that fails is routed first in the next trial; after some trials there are more tracks."""
    tracks, first = TRACKS, list[int]()
    while tracks <= MOST_TRACKS:
        for _ in range(4):
            router = Router(placement, tracks)
            try:
                router.run(first)
                return router
            except NoRouteError as error:
                first = [error.source, *(source for source in first if source != error.source)]
        tracks += 1 + tracks // 4
    raise CannotDraw(f"no route for all lines of {len(placement.items)} items")
