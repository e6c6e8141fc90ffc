"""The way from the graph of a step to its programs, each stage a value that prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conveyor.compiler.differentiate import Costs, differentiate
from conveyor.compiler.graph import Graph, Key
from conveyor.compiler.items import work
from conveyor.compiler.program import Program, Ref
from conveyor.compiler.schedule import schedule
from conveyor.compiler.simplify import simplify
from conveyor.compiler.stages import program

Wanted = Iterable[tuple[str, ...]]  # the inputs whose gradients are wanted, as Key or kind and name


@dataclass(frozen=True)
class Lowered:
    """One direction of a step: its graph, and the program that computes it."""

    graph: Graph
    program: Program


def inference(graph: Graph) -> Lowered:
    """Forward alone: of the states, only the first is kept over time, which is the output."""
    return lower(simplify(graph), frozenset(graph.states[:1]))


def single_step(graph: Graph) -> Lowered:
    """Forward of one step by itself: nothing leaves the loop over time, since there is none."""
    simple = simplify(graph, over_time=False)
    return Lowered(simple, program(schedule(work(simple), over_time=False), frozenset(), {}, False, ()))


def training(graph: Graph, wanted: Wanted, costs: Costs, order: tuple[str, ...] = ()) -> tuple[Lowered, Lowered]:
    """Forward and backward: forward also leaves what backward reads, by the costs that a target states.

    `order`: weights whose gradients are to lie one after the other, so far as they lie together at all.
    """
    given = [Key("state", graph.states[0]), *(Key("stream", name) for name in graph.streams)]
    derivative = differentiate(graph, [Key(*each) for each in wanted], given, costs)
    forward, backward = simplify(derivative.forward), simplify(derivative.backward)
    histories = {*graph.states[:1], *backward.inputs("before"), *backward.inputs("after")}
    first = lower(forward, frozenset(histories))
    return first, lower(backward, frozenset(), first.program.saved, reverse=True, order=order)


def lower(
    graph: Graph,
    histories: frozenset[str],
    saved: tuple[tuple[str, Ref, int], ...] = (),
    reverse: bool = False,
    order: tuple[str, ...] = (),
) -> Lowered:
    """The program of a graph.

    `histories`: the states of which every step is kept; `saved`: where an earlier kernel left what this one reads
    (buffer, offset and width); `reverse`: from the last step to the first; `order`: as in `training`.
    """
    slots = {name: (ref, width) for name, ref, width in saved}
    return Lowered(graph, program(schedule(work(graph)), histories, slots, reverse, order))
