"""Where each value lies, and from that the stages as a kernel does them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conveyor.compiler.items import Item, Work, packed, spread
from conveyor.compiler.plan import (
    Arg,
    Buffer,
    Contract,
    Gemm,
    Line,
    Local,
    Loop,
    Outer,
    Pack,
    Pass,
    Plan,
    Reduce,
    Ref,
    Stage,
)
from conveyor.compiler.schedule import Section

PANEL = 64  # a packed matrix has room for its columns rounded up to this, more than any machine's panels need
SCRATCH = 1 << 16  # numbers of a block's scratch that stay in a core's second cache


@dataclass(frozen=True)
class Home:
    buffer: int
    offset: int = 0
    when: str = ""


def place(
    w: Work,
    sections: list[Section],
    main: int,
    histories: frozenset[str],
    saved: Mapping[str, tuple[Ref, int]],
    reverse: bool,
) -> Plan:
    p = _Placer(w, sections, main, histories, saved)
    p.inputs()
    p.joint()
    p.reuse()
    p.rest()
    passes = p.passes()
    outputs = tuple(
        (f"{o.kind} {o.name}", p.output(f"{o.kind} {o.name}"), w.nodes[o.node].dims) for o in w.graph.outputs
    )
    scratch = sum(b.width for b in p.buffers if b.space == "block")
    block = max(12, min(96, SCRATCH // max(1, scratch) // 12 * 12))
    return Plan(tuple(p.buffers), passes, tuple(p.given), outputs, tuple(p.zero), reverse, block)


class _Placer:
    def __init__(
        self,
        w: Work,
        sections: list[Section],
        main: int,
        histories: frozenset[str],
        saved: Mapping[str, tuple[Ref, int]],
    ):
        self.w, self.sections, self.main, self.histories, self.saved = w, sections, main, histories, saved
        self.buffers: list[Buffer] = []
        self.homes: dict[int, Home] = {}
        self.given: list[tuple[str, Ref]] = []
        self.zero: list[int] = []
        self.states: dict[str, int] = {}
        self.shadows: dict[int, Home] = {}
        self.section_of = {i: s for s, one in enumerate(sections) for stage in one.stages for i in stage.items}
        self.stage_of = {i: (s, k) for s, one in enumerate(sections) for k, g in enumerate(one.stages) for i in g.items}
        self.readers: dict[int, list[int]] = {}
        for i, item in enumerate(w.items):
            for j in item.args:
                self.readers.setdefault(w.layouts[j].root, []).append(i)
        self.output_nodes = {f"{o.kind} {o.name}": o.node for o in w.graph.outputs}
        self.stored = {item.output: i for i, item in enumerate(w.items) if item.op == "store"}
        self.store_refs: dict[str, Ref] = {}
        self.late: list[tuple[int, str]] = []  # states that are made before the loop, and go to their place in it

    def buffer(self, name: str, space: str, width: int) -> int:
        self.buffers.append(Buffer(name, space, width))
        return len(self.buffers) - 1

    # --- what comes from outside ---

    def inputs(self) -> None:
        spaces = {"weight": "shared", "stream": "stream", "constant": "rows"}
        shared: dict[int, int] = {}
        for i, node in enumerate(self.w.graph.nodes):
            if node.op != "input":
                continue
            kind, name = node.attrs
            if kind in spaces:
                home = Home(self.buffer(f"{kind} {name}", spaces[kind], node.size))
            elif kind == "state":
                home = Home(self.state(name, node.size), 0, "before")
            elif kind in ("before", "after"):
                known = self.states.get(f"history {name}")
                if known is None:
                    known = self.states[f"history {name}"] = self.buffer(f"history {name}", "history", node.size)
                home = Home(known, 0, kind)
            elif kind == "saved":
                ref, width = self.saved[name]
                if ref.buffer not in shared:
                    space = "stream" if node.time else "rows"
                    shared[ref.buffer] = self.buffer(f"saved {ref.buffer}", space, width)
                home = Home(shared[ref.buffer], ref.offset)
            else:
                continue
            self.homes[i] = home
            self.given.append((f"{kind} {name}", Ref(home.buffer, home.offset, packed(node.dims), home.when)))

    def state(self, name: str, width: int) -> int:
        if name not in self.states:
            space = "history" if name in self.histories else "pair"
            self.states[name] = self.buffer(f"state {name}", space, width)
        return self.states[name]

    # --- what the kernel makes ---

    def is_temporary(self, root: int) -> bool:
        """Made here, without a place yet, and free to have any: an output that only backward reads is."""
        key = self.w.homes.get(root, "stream saved")
        return root in self.w.makers and root not in self.homes and key.startswith("stream saved")

    def space(self, root: int) -> str:
        node = self.w.nodes[root]
        if not node.time:
            return "rows" if node.rows else "shared"
        makers = {self.section_of[i] for i in self.w.makers[root]}
        crosses = makers | {self.section_of[i] for i in self.readers.get(root, ())}
        bulk = any(self.sections[s].kind == "bulk" for s in crosses)
        return "stream" if len(crosses) > 1 or bulk or root in self.w.homes else "block"

    def joint(self) -> None:
        """Results of one product side by side, and operands of one product side by side."""
        for section in self.sections:
            for stage in section.stages:
                items = [self.w.items[i] for i in stage.items]
                if items[0].op == "gemm":
                    self.beside([item.target.root for item in items])
        for item in self.w.items:
            if item.op == "gemm" and len(item.args) > 2:
                whole = [j for j in item.args[::2] if self.w.whole(j) and self.w.layouts[j].root == j]
                self.beside(list(dict.fromkeys(whole)))

    def beside(self, roots: list[int]) -> None:
        roots = [r for r in roots if self.is_temporary(r) and self.w.nodes[r].time]
        if len(roots) < 2:
            return
        spaces = {self.space(r) for r in roots}
        sizes = [self.w.nodes[r].size for r in roots]
        buffer = self.buffer(f"values {', '.join(map(self.label, roots))}", max(spaces), sum(sizes))  # stream > block
        for k, root in enumerate(roots):
            self.homes[root] = Home(buffer, sum(sizes[:k]))

    def label(self, root: int) -> str:
        return self.w.nodes[root].name or f"%{root}"

    def reuse(self) -> None:
        """What is saved goes where the input's product was, number by number, if nothing else reads that."""
        for root, key in self.w.homes.items():
            if not key.startswith("stream saved") or root in self.homes:
                continue
            (maker,) = self.w.makers[root][:1]
            stage = self.sections[self.section_of[maker]].stages[self.stage_of[maker][1]]
            if not self.w.items[maker].fuses:
                continue
            for u in sorted({self.w.layouts[j].root for i in stage.items for j in self.w.items[i].args}):
                if self.can_take(u, root, maker, stage.items):
                    self.homes[root] = self.homes[u]
                    break

    def can_take(self, u: int, root: int, maker: int, stage: tuple[int, ...]) -> bool:
        home = self.homes.get(u)
        made = self.w.makers.get(u)
        if home is None or not made or self.w.items[made[0]].op != "gemm" or u in self.w.homes:
            return False
        taken = [r for r, h in self.homes.items() if h == home and r != u]
        before = stage[: stage.index(maker) + 1]  # what comes after would read the new value
        alone = set(self.readers.get(u, ())) <= set(before)
        reads = [j for i in stage for j in self.w.items[i].args if self.w.layouts[j].root == u]
        same = self.w.nodes[u].dims == self.w.nodes[root].dims and all(self.w.whole(j) for j in reads)
        return self.buffers[home.buffer].space == "stream" and not taken and alone and same

    def rest(self) -> None:
        """Outputs, and every value that is read outside its own loop."""
        for root, key in self.w.homes.items():
            if root in self.homes:
                continue
            node = self.w.nodes[root]
            if key.startswith("state "):
                home = Home(self.state(key[6:], node.size), 0, "after")
                sections = {self.section_of[i] for i in (*self.w.makers[root], *self.readers.get(root, ()))}
                pair = self.buffers[home.buffer].space == "pair"
                if self.section_of[self.w.makers[root][0]] != self.main or (pair and sections != {self.main}):
                    self.late.append((root, key))
                    home = Home(self.buffer(self.label(root), self.space(root), node.size))
                self.homes[root] = home
            elif self.w.items[self.w.makers[root][0]].op not in ("outer", "colsum"):
                self.homes[root] = Home(self.buffer(key, self.space(root), node.size))
        for key, i in self.stored.items():
            item = self.w.items[i]
            size = math.prod(item.dims)
            if key.startswith("state "):
                buffer, when = self.state(key[6:], size), "after"
            else:
                space = "stream" if item.time else "rows" if item.rows else "shared"
                buffer, when = self.buffer(key, space, size), ""
            self.store_refs[key] = Ref(buffer, 0, item.target.strides, when)
        for root, made in self.w.makers.items():
            if root not in self.homes and self.w.items[made[0]].op not in ("outer", "colsum") and self.is_read(root):
                self.homes[root] = Home(self.buffer(self.label(root), self.space(root), self.w.nodes[root].size))
            if any(self.w.items[i].op == "accumulate" for i in made):
                self.zero.append(self.homes[root].buffer)

    def is_read(self, root: int) -> bool:
        """Whether anything but its own loop needs it in memory."""
        made = {self.stage_of[i] for i in self.w.makers[root]}
        if len(self.w.makers[root]) > 1 or not self.w.items[self.w.makers[root][0]].fuses:
            return True
        if self.w.items[self.w.makers[root][0]].op in ("copy", "fill", "accumulate"):
            return True
        return any(self.stage_of[i] not in made for i in self.readers.get(root, ()))

    def output(self, key: str) -> Ref:
        if key in self.store_refs:
            return self.store_refs[key]
        node = self.output_nodes[key]
        home, layout = self.homes[self.w.layouts[node].root], self.w.layouts[node]
        late = [k for r, k in self.late if k == key]
        if late:
            return Ref(self.states[key[6:]], 0, layout.strides, "after")
        return Ref(home.buffer, home.offset + layout.offset, layout.strides, home.when)

    # --- the stages ---

    def passes(self) -> tuple[Pass, ...]:
        found: list[Pass] = []
        for s, section in enumerate(self.sections):
            packs: list[Stage] = []
            stages: list[Stage] = []
            outers = [i for stage in section.stages for i in stage.items if self.w.items[i].op in ("outer", "colsum")]
            stages += self.outers(outers)
            for stage in section.stages:
                items = [i for i in stage.items if i not in outers]
                if items:
                    stages += self.stage(items, s, packs)
            if s == self.main:
                stages += [self.late_store(root, key) for root, key in self.late]
                main = len(found) + bool(packs)
            if packs:
                found.append(Pass("shared", tuple(packs)))
            found.append(Pass(section.kind, tuple(stages)))
        copies = tuple(self.shadow(root, home) for root, home in self.shadows.items())
        found[main] = Pass("time", copies + found[main].stages)
        return tuple(one for one in found if one.stages)

    def late_store(self, root: int, key: str) -> Loop:
        node = self.w.nodes[root]
        home = self.homes[root]
        target = Ref(self.state(key[6:], node.size), 0, packed(node.dims), "after")
        source = Ref(home.buffer, home.offset, packed(node.dims))
        return Loop(node.dims, True, (Line("copy", (source,), -1, target),))

    def shadow(self, root: int, home: Home) -> Loop:
        """A state that is read after the loop, when it is there no more, is kept as a stream."""
        node, own = self.w.nodes[root], self.homes[root]
        strides = packed(node.dims)
        line = Line("copy", (Ref(own.buffer, 0, strides, own.when),), -1, Ref(home.buffer, 0, strides))
        return Loop(node.dims, True, (line,))

    def at(self, j: int, section: int) -> Home:
        """Where the root of a value lies, for a reader in this section."""
        root = self.w.layouts[j].root
        home = self.homes[root]
        node = self.w.nodes[root]
        if node.op == "input" and node.attrs[0] == "state" and section != self.main:
            if root not in self.shadows:
                self.shadows[root] = Home(self.buffer(f"copy of {node.name}", "stream", node.size))
            home = self.shadows[root]
        return home

    def ref(self, j: int, section: int, dims: tuple[int, ...] | None = None) -> Ref:
        """A value as it is read by a loop over `dims`."""
        layout, home, own = self.w.layouts[j], self.at(j, section), self.w.nodes[j].dims
        strides = layout.strides if dims is None else spread(own, layout.strides, dims)
        return Ref(home.buffer, home.offset + layout.offset, strides, home.when)

    def arg(self, j: int, section: int, dims: tuple[int, ...], local: Iterable[int] = ()) -> Arg:
        root = self.w.layouts[j].root
        number = self.w.constant(j)
        if number is not None:
            return number
        if self.w.nodes[root].attrs[:1] == ("step",):
            return "step"
        return Local(root) if root in local else self.ref(j, section, dims)

    def target(self, item: Item) -> Ref:
        if item.op == "store":
            return self.store_refs[item.output]
        home = self.homes[item.target.root]
        return Ref(home.buffer, home.offset + item.target.offset, item.target.strides, home.when)

    def stage(self, ids: list[int], s: int, packs: list[Stage]) -> list[Stage]:
        item = self.w.items[ids[0]]
        if item.op == "gemm":
            return self.gemm([self.w.items[i] for i in ids], s, packs)
        if item.op in ("sum", "max"):
            return [self.reduction(item, s)]
        if item.op == "contract":
            return [self.contraction(item, s)]
        return [self.loop(ids, s)]

    def loop(self, ids: list[int], s: int) -> Loop:
        local: set[int] = set()
        lines = []
        for i in ids:
            item = self.w.items[i]
            args = tuple(self.arg(j, s, item.dims, local) for j in item.args) or (0.0,)
            keeps = item.op not in ("copy", "fill", "store", "accumulate")
            stored = not keeps or item.target.root in self.homes
            node = item.target.root if keeps else -1
            name = self.w.nodes[node].name if keeps else ""
            lines.append(Line(item.op, args, node, self.target(item) if stored else None, name))
            if keeps:
                local.add(item.target.root)
        return Loop(item.dims, item.rows, tuple(lines))

    def reduction(self, item: Item, s: int) -> Reduce:
        (j,) = item.args
        node = self.w.nodes[item.target.root]
        inner = node.attrs[0]
        order = [k for k in range(len(item.dims)) if k not in inner] + list(inner)
        source = self.arg(j, s, item.dims)
        if isinstance(source, Ref):
            source = Ref(source.buffer, source.offset, tuple(source.strides[k] for k in order), source.when)
        return Reduce(item.op, node.dims, tuple(item.dims[k] for k in inner), item.rows, source, self.target(item))

    def contraction(self, item: Item, s: int) -> Contract:
        labels = self.w.nodes[item.target.root].attrs
        dims = [self.w.nodes[j].dims for j in item.args]
        sizes = dict(zip(labels[0] + labels[1], dims[0] + dims[1], strict=True))
        a, b = (self.arg(j, s, d) for j, d in zip(item.args, dims, strict=True))
        return Contract(labels, tuple(sizes.items()), item.rows, (a, b), self.target(item))

    def gemm(self, items: list[Item], s: int, packs: list[Stage]) -> list[Stage]:
        """One product for all items: they read the same operands, and their results lie side by side."""
        first = items[0]
        operands = [(self.ref(j, s), self.w.nodes[j].dims[-1]) for j in first.args[::2]]
        widths = [item.dims[-1] for item in items]
        inner, width = sum(k for _, k in operands), sum(widths)
        target = self.target(first)
        adjacent = all(
            self.target(item).buffer == target.buffer and self.target(item).offset == target.offset + sum(widths[:k])
            for k, item in enumerate(items)
        )
        if len(items) > 1 and not (adjacent and len(first.dims) == 1):
            return [stage for item in items for stage in self.gemm([item], s, packs)]
        room = -(-width // PANEL) * PANEL * inner
        matrix = self.buffer(f"matrix for {', '.join(self.label(i.target.root) for i in items)}", "packed", room)
        for n, item in enumerate(items):
            for k, weight in enumerate(item.args[1::2]):
                at = (sum(size for _, size in operands[:k]), sum(widths[:n]))
                source = self.ref(weight, s)
                packs.append(Pack(source, (operands[k][1], widths[n]), matrix, at, (inner, width)))
        lead = math.prod(first.dims[:-1])
        return [Gemm(_joined(operands), lead, first.rows, matrix, target, width)]

    def outers(self, ids: list[int]) -> list[Stage]:
        """Sums over all rows; those of neighbours with the same second operand in one."""
        found: list[Stage] = []
        groups: dict[object, list[int]] = {}
        for i in ids:
            item = self.w.items[i]
            other = item.args[1] if item.op == "outer" else -1
            lead = self.w.nodes[item.args[0]].dims[:-1]
            groups.setdefault((other, self.ref(item.args[0], -1).buffer, lead), []).append(i)
        for group in groups.values():
            group.sort(key=lambda i: self.ref(self.w.items[i].args[0], -1).offset)
            run: list[int] = []
            for i in group:
                if run and self.end(run[-1]) != self.ref(self.w.items[i].args[0], -1).offset:
                    found.append(self.outer(run))
                    run = []
                run.append(i)
            found.append(self.outer(run))
        return found

    def end(self, i: int) -> int:
        j = self.w.items[i].args[0]
        dims = self.w.nodes[j].dims
        return self.ref(j, -1).offset + math.prod(dims) if len(dims) == 1 and self.w.whole(j) else -1

    def outer(self, ids: list[int]) -> Outer:
        items = [self.w.items[i] for i in ids]
        a = self.w.nodes[items[0].args[0]].dims
        sizes = [self.w.nodes[item.target.root].size for item in items]
        buffer = self.buffer(f"sums {', '.join(self.label(item.target.root) for item in items)}", "shared", sum(sizes))
        for k, item in enumerate(items):
            self.homes[item.target.root] = Home(buffer, sum(sizes[:k]))
        second = items[0].args[1] if items[0].op == "outer" else None
        columns = self.w.nodes[second].dims[-1] if second is not None else 0
        width = sum(sizes) // columns if columns else sum(sizes)
        lead = math.prod(a[:-1]) if columns else 1
        b = self.ref(second, -1) if second is not None else None
        return Outer(self.ref(items[0].args[0], -1), b, lead, (width, columns), Ref(buffer, 0, (max(columns, 1), 1)))


def _joined(operands: list[tuple[Ref, int]]) -> tuple[tuple[Ref, int], ...]:
    """Operands that lie side by side are one."""
    found: list[tuple[Ref, int]] = []
    for ref, k in operands:
        if found:
            last, size = found[-1]
            if (last.buffer, last.offset + size, last.when) == (ref.buffer, ref.offset, ref.when) and len(
                ref.strides
            ) == 1:
                found[-1] = (last, size + k)
                continue
        found.append((ref, k))
    return tuple(found)
