"""Storage allocation: the buffers of a program, and where in them each value lies that is kept in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conveyor.compiler.graph import Key, Node, Output
from conveyor.compiler.items import Item, packed
from conveyor.compiler.program import Buffer, Ref, Space
from conveyor.compiler.schedule import Schedule

INPUT_SPACES = {"weight": Space.SHARED, "stream": Space.STREAM, "constant": Space.ROWS}


@dataclass(frozen=True)
class Slot:
    """Where a value lies: from `offset` on in each row of a buffer; `when` as in Ref."""

    buffer: int
    offset: int = 0
    when: str = ""


class Allocation:
    """The buffers, and in `of` the slot of every value that needs one, by the root of its layout.

    A value that only its own loop reads has no slot: it stays in a register. The steps in __init__ go from the values
    with the least choice to those with the most: inputs have a fixed place, products want to lie side by side, what is
    saved takes a slot that is free again, and the rest lies anywhere.
    """

    def __init__(
        self,
        schedule: Schedule,
        histories: frozenset[str],
        saved: Mapping[str, tuple[Ref, int]],
        order: tuple[str, ...] = (),
    ):
        w, sections = schedule.work, schedule.sections
        self.w, self.sections, self.main, self.histories, self.saved = w, sections, schedule.main, histories, saved
        self.buffers: list[Buffer] = []
        self.of: dict[int, Slot] = {}
        self.inputs: list[tuple[Key, Ref]] = []
        self.stores: dict[Key, Ref] = {}  # where the items "store" put their outputs
        self.late: dict[Key, int] = {}  # states that are made outside the loop, and copied to their place in it
        self.zero: list[int] = []  # buffers that must start from 0
        self._named: dict[str, int] = {}
        self._section_of = {i: s for s, one in enumerate(sections) for group in one.groups for i in group.items}
        self._group_of = {i: group.items for one in sections for group in one.groups for i in group.items}
        self._readers: dict[int, list[int]] = {}
        for i, item in enumerate(w.items):
            for j in item.args:
                self._readers.setdefault(w.layouts[j].root, []).append(i)
        self._ranks = self._rank(order)
        self._place_inputs()
        self._place_side_by_side()
        self._place_saved()
        self._place_outputs()
        self._place_stores()
        self._place_rest()

    def buffer(self, name: str, space: Space, width: int, depth: int = 1) -> int:
        """The index of a new buffer."""
        self.buffers.append(Buffer(name, space, width, depth))
        return len(self.buffers) - 1

    def label(self, root: int) -> str:
        """What a value is called in the program."""
        return self.w.nodes[root].name or f"%{root}"

    def output(self, output: Output) -> Ref:
        """Where an output is when the kernel has run."""
        layout = self.w.layouts[output.node]
        if output.key in self.stores:
            return self.stores[output.key]
        if output.key in self.late:
            return Ref(self.state(output.key), 0, layout.strides, "after")
        slot = self.of[layout.root]
        return Ref(slot.buffer, slot.offset + layout.offset, layout.strides, slot.when)

    def state(self, key: Key, width: int = 0) -> int:
        """The buffer of a state; the first who asks for it says how wide it is."""
        return self._once(str(key), Space.HISTORY if key.name in self.histories else Space.PAIR, width)

    def _once(self, name: str, space: Space, width: int) -> int:
        if name not in self._named:
            self._named[name] = self.buffer(name, space, width)
        return self._named[name]

    # --- what comes from outside ---

    def _place_inputs(self) -> None:
        for i, node in enumerate(self.w.graph.nodes):
            if node.op == "input" and node.attrs[0] != "step":
                slot = self.of[i] = self._input_slot(node, node.key)
                self.inputs.append((node.key, Ref(slot.buffer, slot.offset, packed(node.dims), slot.when)))

    def _input_slot(self, node: Node, key: Key) -> Slot:
        if key.kind == "state":
            return Slot(self.state(key, node.size), 0, "before")
        if key.kind in ("before", "after"):
            return Slot(self._once(f"history {key.name}", Space.HISTORY, node.size), 0, key.kind)
        if key.kind == "saved":  # in a buffer that the forward kernel filled, perhaps with other values beside it
            ref, width = self.saved[key.name]
            return Slot(self._once(f"saved {ref.buffer}", Space.STREAM if node.time else Space.ROWS, width), ref.offset)
        return Slot(self.buffer(str(key), INPUT_SPACES[key.kind], node.size))

    # --- what the kernel makes ---

    def _rank(self, order: tuple[str, ...]) -> dict[int, int]:
        """Of the values whose sums over the rows are gradients: the place of the weight in `order`.

        Where such values lie side by side, so do the gradients.
        """
        ranks: dict[int, int] = {}
        for root, output in self.w.stored.items():
            if output.kind == "once" and output.name in order and self._maker(root).sums_rows:
                of = self.w.layouts[self._maker(root).args[0]].root
                ranks[of] = min(order.index(output.name), ranks.get(of, len(order)))
        return ranks

    def _is_free(self, root: int) -> bool:
        """Made here, without a slot yet, and free to have any."""
        return root in self.w.makers and root not in self.of and not self.w.lies_alone(root)

    def _space(self, root: int) -> Space:
        node = self.w.nodes[root]
        if not node.time:
            return Space.ROWS if node.rows else Space.SHARED
        users = {self._section_of[i] for i in (*self.w.makers[root], *self._readers.get(root, ()))}
        bulk = any(self.sections[s].kind == "bulk" for s in users)
        return Space.STREAM if len(users) > 1 or bulk or root in self.w.stored else Space.SCRATCH

    def _own(self, root: int, name: str = "") -> Slot:
        """A buffer of its own."""
        return Slot(self.buffer(name or self.label(root), self._space(root), self.w.nodes[root].size))

    def _maker(self, root: int) -> Item:
        return self.w.items[self.w.makers[root][0]]

    def _place_side_by_side(self) -> None:
        """The results of products with one operand, and the operands of products with one result."""
        for section in self.sections:
            for group in section.groups:
                items = [self.w.items[i] for i in group.items]
                if items[0].op == "gemm":
                    self._join([item.target.root for item in items])
        for item in self.w.items:
            if item.op == "gemm" and len(item.args) > 2:
                whole = [j for j in item.args[::2] if self.w.whole(j) and self.w.layouts[j].root == j]
                self._join(list(dict.fromkeys(whole)))

    def _join(self, roots: list[int]) -> None:
        roots = [r for r in roots if self._is_free(r) and self.w.nodes[r].time]
        if len(roots) < 2:
            return
        roots.sort(key=lambda root: self._ranks.get(root, len(self._ranks)))
        space = Space.STREAM if Space.STREAM in map(self._space, roots) else Space.SCRATCH
        sizes = [self.w.nodes[r].size for r in roots]
        buffer = self.buffer(f"values {', '.join(map(self.label, roots))}", space, sum(sizes))
        for k, root in enumerate(roots):
            self.of[root] = Slot(buffer, sum(sizes[:k]))

    def _place_saved(self) -> None:
        """What is saved goes where a product was that its own loop reads, element by element, and nothing else.

        So the gates of an LSTM lie where their products with the input were, and take no stream of their own.
        """
        for root, output in self.w.stored.items():
            if not output.is_saved or root in self.of or not self._maker(root).fuses:
                continue
            group = self._group_of[self.w.makers[root][0]]
            read = {self.w.layouts[j].root for i in group for j in self.w.items[i].args}
            over = next((u for u in sorted(read) if self._is_product(u) and self._can_overwrite(u, root, group)), None)
            if over is not None:
                self.of[root] = self.of[over]

    def _is_product(self, u: int) -> bool:
        """The result of a product, kept for every step, whose slot is nobody else's."""
        if u not in self.of or u not in self.w.makers or self._maker(u).op != "gemm" or u in self.w.stored:
            return False
        alone = all(slot != self.of[u] for root, slot in self.of.items() if root != u)
        return alone and self.buffers[self.of[u].buffer].space == Space.STREAM

    def _can_overwrite(self, u: int, root: int, group: tuple[int, ...]) -> bool:
        """Whether u, element for element the same place, is read in `group` only, and not after root is made."""
        before = group[: group.index(self.w.makers[root][0]) + 1]
        reads = [j for i in group for j in self.w.items[i].args if self.w.layouts[j].root == u]
        same = self.w.nodes[u].dims == self.w.nodes[root].dims and all(self.w.whole(j) for j in reads)
        return same and set(self._readers.get(u, ())) <= set(before)

    def _place_outputs(self) -> None:
        for root, output in self.w.stored.items():
            if root in self.of:
                continue
            if output.kind == "state":
                self.of[root] = self._state_slot(root, output.key)
            elif not self._maker(root).sums_rows:
                self.of[root] = self._own(root, str(output.key))

    def _state_slot(self, root: int, key: Key) -> Slot:
        """The state's own place; for one made before the loop, or read after it when a pair is lost, another."""
        slot = Slot(self.state(key, self.w.nodes[root].size), 0, "after")
        users = {self._section_of[i] for i in (*self.w.makers[root], *self._readers.get(root, ()))}
        lost = self.buffers[slot.buffer].space == Space.PAIR and users != {self.main}
        if self._section_of[self.w.makers[root][0]] == self.main and not lost:
            return slot
        self.late[key] = root
        return self._own(root)

    def _place_stores(self) -> None:
        for item in self.w.items:
            if item.output is not None:
                size, strides, key = math.prod(item.dims), item.target.strides, item.output.key
                if item.output.kind == "state":
                    self.stores[key] = Ref(self.state(key, size), 0, strides, "after")
                else:
                    space = Space.STREAM if item.time else Space.ROWS if item.rows else Space.SHARED
                    self.stores[key] = Ref(self.buffer(str(key), space, size), 0, strides)

    def _place_rest(self) -> None:
        """Every value that is read outside its own loop. A sum over all rows has its slot made with its Outer."""
        for root, made in self.w.makers.items():
            if root not in self.of and not self._maker(root).sums_rows and self._is_read(root):
                self.of[root] = self._own(root)
            if any(self.w.items[i].op == "accumulate" for i in made):
                self.zero.append(self.of[root].buffer)

    def _is_read(self, root: int) -> bool:
        """Whether anything but its own loop needs it in memory."""
        made = self.w.makers[root]
        if len(made) > 1 or not self._maker(root).fuses or self._maker(root).moves:
            return True
        return any(i not in self._group_of[made[0]] for i in self._readers.get(root, ()))
