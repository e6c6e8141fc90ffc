"""The whole way from a graph of a step to C, each stage a value that prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conveyor.compiler.differentiate import differentiate
from conveyor.compiler.emit_c import Source, emit
from conveyor.compiler.graph import Graph
from conveyor.compiler.items import work
from conveyor.compiler.place import place
from conveyor.compiler.plan import Plan, Ref
from conveyor.compiler.schedule import schedule
from conveyor.compiler.simplify import simplify

Wanted = Iterable[tuple[str, str]]  # the inputs whose gradients are wanted, by kind and name


@dataclass(frozen=True)
class Stage:
    """One direction of a step on its way to C."""

    graph: Graph
    plan: Plan

    @property
    def source(self) -> Source:
        return emit(self.plan)


def inference(graph: Graph) -> Stage:
    """Forward alone: of the states, only the first is kept over time, which is the output."""
    graph = simplify(graph)
    return Stage(graph, plan(graph, frozenset(graph.states[:1]), (), reverse=False))


def training(graph: Graph, wanted: Wanted) -> tuple[Stage, Stage]:
    """Forward and backward: forward also leaves what backward reads."""
    given = [("state", graph.states[0]), *(("stream", name) for name in graph.streams)]
    derivative = differentiate(graph, wanted, given)
    forward, backward = simplify(derivative.forward), simplify(derivative.backward)
    histories = {*graph.states[:1], *backward.inputs("before"), *backward.inputs("after")}
    first = plan(forward, frozenset(histories), (), reverse=False)
    second = plan(backward, frozenset(), first.saved, reverse=True)
    return Stage(forward, first), Stage(backward, second)


def plan(graph: Graph, histories: frozenset[str], saved: tuple[tuple[str, Ref, int], ...], reverse: bool) -> Plan:
    """How a kernel computes a graph.

    `histories`: the states of which every step is kept; `saved`: where an earlier kernel left what this one reads
    (buffer, offset and width); `reverse`: from the last step to the first.
    """
    w = work(graph)
    return place(w, *schedule(w), histories, {name: (ref, width) for name, ref, width in saved}, reverse)
