"""A schedule as a program: every value has a slot, every group of items is a stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from conveyor.compiler.allocate import Allocation, Slot
from conveyor.compiler.graph import Key, needed
from conveyor.compiler.items import Item, packed, spread
from conveyor.compiler.program import (
    Arg,
    Contract,
    Gemm,
    Line,
    Local,
    Loop,
    Outer,
    Pack,
    Pass,
    Program,
    Reduce,
    Ref,
    Space,
    Stage,
)
from conveyor.compiler.schedule import Schedule


def program(
    schedule: Schedule,
    histories: frozenset[str],
    saved: Mapping[str, tuple[Ref, int]],
    reverse: bool,
    order: tuple[str, ...],
) -> Program:
    """The program of a schedule; the rest as in pipeline.lower."""
    slots = Allocation(schedule, histories, saved, order)
    passes = _Stages(slots).passes()
    outputs = tuple(
        (output.key, slots.output(output), slots.w.nodes[output.node].dims) for output in slots.w.graph.outputs
    )
    states = {key.name: slots.state(key) for key, _, _ in outputs if key.kind == "state"}
    return Program(tuple(slots.buffers), passes, tuple(slots.inputs), outputs, tuple(slots.zero), reverse, states)


class _Stages:
    """Spells the items of each section as stages, with the slots of what they read and make."""

    def __init__(self, slots: Allocation):
        self.slots, self.w = slots, slots.w
        self.copies: dict[int, Slot] = {}  # of states that are read outside the loop, by root

    def passes(self) -> tuple[Pass, ...]:
        found = [self.section(s) for s in range(len(self.slots.sections))]
        packs, loop = found[self.slots.main]
        copies = tuple(self.copy_state(root, slot) for root, slot in self.copies.items())
        found[self.slots.main] = packs, Pass("time", copies + loop.stages)
        return tuple(one for both in found for one in both if one.stages)

    def section(self, s: int) -> tuple[Pass, Pass]:
        """The matrices that a section multiplies by are brought into order; then it runs."""
        section = self.slots.sections[s]
        groups = [[self.w.items[i] for i in group.items] for group in section.groups]
        stages: list[Stage] = [*self.sums([items[0] for items in groups if items[0].sums_rows], s)]
        for items in groups:
            if not items[0].sums_rows:
                stages += self.stages(items, s)
        if s == self.slots.main:
            stages += [self.late_state(key, root) for key, root in self.slots.late.items()]
        packs = tuple(stage for stage in stages if isinstance(stage, Pack))
        rest = tuple(stage for stage in stages if not isinstance(stage, Pack))
        return Pass("shared", packs), Pass(section.kind, rest)

    def stages(self, items: list[Item], s: int) -> list[Stage]:
        if items[0].op == "gemm":
            return self.gemm(items, s)
        if items[0].op in ("sum", "max"):
            return [self.reduction(items[0], s)]
        if items[0].op == "contract":
            return [self.contraction(items[0], s)]
        return [self.loop(items, s)]

    # --- what a stage reads and writes ---

    def slot(self, root: int, s: int) -> Slot:
        """Where a value lies for section s. Outside the loop a state is gone: there, a copy of each step's is read."""
        node = self.w.nodes[root]
        if node.op != "input" or node.attrs[0] != "state" or s == self.slots.main:
            return self.slots.of[root]
        if root not in self.copies:
            self.copies[root] = Slot(self.slots.buffer(f"copy of {node.name}", Space.STREAM, node.size))
        return self.copies[root]

    def ref(self, j: int, s: int, dims: tuple[int, ...] | None = None) -> Ref:
        """A value as it is read by a loop over `dims`, by default its own."""
        layout = self.w.layouts[j]
        slot = self.slot(layout.root, s)
        strides = layout.strides if dims is None else spread(self.w.nodes[j].dims, layout.strides, dims)
        return Ref(slot.buffer, slot.offset + layout.offset, strides, slot.when)

    def arg(self, j: int, s: int, dims: tuple[int, ...], local: Iterable[int] = ()) -> Arg:
        root = self.w.layouts[j].root
        number = self.w.constant(j)
        if number is not None:
            return number
        if self.w.nodes[root].attrs[:1] == ("step",):
            return "step"
        return Local(root) if root in local else self.ref(j, s, dims)

    def target(self, item: Item) -> Ref:
        if item.output is not None:
            return self.slots.stores[item.output.key]
        slot = self.slots.of[item.target.root]
        return Ref(slot.buffer, slot.offset + item.target.offset, item.target.strides, slot.when)

    # --- element by element ---

    def loop(self, items: list[Item], s: int) -> Loop:
        local: set[int] = set()  # the roots that this loop has made so far
        lines = []
        for item in items:
            args = tuple(self.arg(j, s, item.dims, local) for j in item.args) or (0.0,)
            if item.moves:
                lines.append(Line(item.op, args, -1, self.target(item)))
                continue
            root = item.target.root
            target = self.target(item) if root in self.slots.of else None
            lines.append(Line(item.op, args, root, target, self.w.nodes[root].name))
            local.add(root)
        return Loop(items[0].dims, items[0].rows, tuple(lines))

    def late_state(self, key: Key, root: int) -> Loop:
        """A state that is made outside the loop, brought to its place at each step."""
        slot = self.slots.of[root]
        return self._copy(root, slot, Slot(self.slots.state(key), 0, "after"))

    def copy_state(self, root: int, slot: Slot) -> Loop:
        return self._copy(root, self.slots.of[root], slot)

    def _copy(self, root: int, source: Slot, target: Slot) -> Loop:
        dims = self.w.nodes[root].dims
        here, there = (Ref(slot.buffer, slot.offset, packed(dims), slot.when) for slot in (source, target))
        return Loop(dims, True, (Line("copy", (here,), -1, there),))

    # --- reductions ---

    def reduction(self, item: Item, s: int) -> Reduce:
        node = self.w.nodes[item.target.root]
        inner = node.attrs[0]
        order = [k for k in range(len(item.dims)) if k not in inner] + list(inner)
        source = self.arg(item.args[0], s, item.dims)
        if isinstance(source, Ref):
            source = Ref(source.buffer, source.offset, tuple(source.strides[k] for k in order), source.when)
        return Reduce(item.op, node.dims, tuple(item.dims[k] for k in inner), item.rows, source, self.target(item))

    def contraction(self, item: Item, s: int) -> Contract:
        labels = self.w.nodes[item.target.root].attrs
        first, second = (self.w.nodes[j].dims for j in item.args)
        sizes = dict(zip(labels[0] + labels[1], first + second, strict=True))
        a, b = (self.arg(j, s, dims) for j, dims in zip(item.args, (first, second), strict=True))
        return Contract(labels, tuple(sizes.items()), item.rows, (a, b), self.target(item))

    # --- products ---

    def gemm(self, items: list[Item], s: int) -> list[Stage]:
        """One product for all items, which read the same operands, if their results lie side by side."""
        if not self.are_adjacent(items):
            return [stage for item in items for stage in self.gemm([item], s)]
        first = items[0]
        operands = [(self.ref(j, s), self.w.nodes[j].dims[-1]) for j in first.args[::2]]
        inner, width = sum(k for _, k in operands), sum(item.dims[-1] for item in items)
        names = ", ".join(self.slots.label(item.target.root) for item in items)
        matrix = self.slots.buffer(f"matrix for {names}", Space.MATRIX, width, inner)
        packs: list[Stage] = []
        column = 0
        for item in items:
            row = 0
            for weight, (_, k) in zip(item.args[1::2], operands, strict=True):
                packs.append(Pack(self.ref(weight, s), (k, item.dims[-1]), matrix, (row, column)))
                row += k
            column += item.dims[-1]
        lead = math.prod(first.dims[:-1])
        condition = () if first.condition is None or s != self.slots.main else self.condition(first.condition)
        return [*packs, Gemm(_joined(operands), lead, first.rows, matrix, self.target(first), width, condition)]

    def condition(self, i: int) -> tuple[Line, ...]:
        """The condition at node i, from the step's number on."""
        made = [j for j in needed(self.w.nodes, [i]) if self.w.nodes[j].kind == "pointwise"]
        lines = []
        for j in made:
            node = self.w.nodes[j]
            args = tuple(self.arg(k, self.slots.main, (), made) for k in node.inputs)
            lines.append(Line(node.op, args, j, name=node.name))
        return tuple(lines)

    def are_adjacent(self, items: list[Item]) -> bool:
        targets = [self.target(item) for item in items]
        ends = [(ref.buffer, ref.offset + item.dims[-1]) for ref, item in zip(targets, items, strict=True)]
        flat = len(items) == 1 or len(items[0].dims) == 1
        return flat and all(end == (ref.buffer, ref.offset) for end, ref in zip(ends, targets[1:], strict=False))

    def sums(self, items: list[Item], s: int) -> list[Outer]:
        """Sums over all rows; those of neighbours with the same second operand in one."""
        groups: dict[object, list[Item]] = {}
        for item in items:
            lead = self.w.nodes[item.args[0]].dims[:-1]
            groups.setdefault((item.args[1:], self.ref(item.args[0], s).buffer, lead), []).append(item)
        return [self.outer(run, s) for group in groups.values() for run in self.neighbours(group, s)]

    def neighbours(self, items: list[Item], s: int) -> list[list[Item]]:
        """Those in one list whose first operands lie side by side."""
        runs: list[list[Item]] = []
        end = -1
        for item in sorted(items, key=lambda item: self.ref(item.args[0], s).offset):
            j = item.args[0]
            start, dims = self.ref(j, s).offset, self.w.nodes[j].dims
            if start == end:
                runs[-1].append(item)
            else:
                runs.append([item])
            end = start + math.prod(dims) if len(dims) == 1 and self.w.whole(j) else -1
        return runs

    def outer(self, items: list[Item], s: int) -> Outer:
        """The results lie in a new buffer, one after the other."""
        sizes = [self.w.nodes[item.target.root].size for item in items]
        names = ", ".join(self.slots.label(item.target.root) for item in items)
        buffer = self.slots.buffer(f"sums {names}", Space.SHARED, sum(sizes))
        for k, item in enumerate(items):
            self.slots.of[item.target.root] = Slot(buffer, sum(sizes[:k]))
        first, *second = items[0].args
        if not second:
            return Outer(self.ref(first, s), None, 1, (sum(sizes), 0), Ref(buffer, 0, (1, 1)))
        columns = self.w.nodes[second[0]].dims[-1]
        size = (sum(sizes) // columns if columns else sum(sizes), columns)
        lead = math.prod(self.w.nodes[first].dims[:-1]) if columns else 1
        b = self.ref(second[0], s)
        return Outer(self.ref(first, s), b, lead, size, Ref(buffer, 0, (max(columns, 1), 1)))


def _joined(operands: list[tuple[Ref, int]]) -> tuple[tuple[Ref, int], ...]:
    """Operands that lie side by side are one."""
    found: list[tuple[Ref, int]] = []
    for ref, k in operands:
        if found and len(ref.strides) == 1:
            last, size = found[-1]
            if (last.buffer, last.offset + size, last.when) == (ref.buffer, ref.offset, ref.when):
                found[-1] = (last, size + k)
                continue
        found.append((ref, k))
    return tuple(found)
