"""The whole layout: place, route, space; with every improvement that shortens the lines or spares a crossing."""

from __future__ import annotations

from conveyor.explain.circuit import Circuit
from conveyor.explain.layout.check import check
from conveyor.explain.layout.place import Placement
from conveyor.explain.layout.route import NoWayError, Router
from conveyor.explain.layout.scheme import scheme
from conveyor.explain.layout.space import Layout, space

TRACKS = 3
MOST_TRACKS = 24
TRIES = 60_000  # changes of the placement, divided by the number of items


def arrange(circuit: Circuit) -> Layout:
    """Where everything of a circuit lies. The same circuit always lies the same."""
    made = scheme(circuit)
    placement = Placement(made)
    placement.improve(TRIES // len(made.items))
    layout = space(circuit, routed(placement))
    check(layout)
    return layout


def routed(placement: Placement) -> Router:
    """All lines: those that found no way come first in the next trial, and now and then there is more room."""
    tracks, first = TRACKS, list[int]()
    while tracks <= MOST_TRACKS:
        for _ in range(4):
            router = Router(placement, tracks)
            try:
                router.run(first)
                return router
            except NoWayError as error:
                first = [error.source, *(source for source in first if source != error.source)]
        tracks += 1 + tracks // 4
    raise AssertionError(f"no way for all lines of {len(placement.items)} items")
