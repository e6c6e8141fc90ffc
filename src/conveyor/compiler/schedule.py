"""When each piece of work is done: before the loop over time, in it, or after it; and what is done together."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.compiler.items import Item, Work


@dataclass(frozen=True)
class Stage:
    """Items that are done together: one loop over the numbers of a value, or one matrix product."""

    items: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """`kind`: "shared", "rows" and "time" are passes over these, "bulk" are products over all rows and steps at once.

    Between two sections, threads wait for each other.
    """

    kind: str
    stages: tuple[Stage, ...]


def schedule(w: Work) -> tuple[list[Section], int]:
    """The sections in order, and which of them is the loop that carries the state.

    What needs no state leaves the loop: a product of the input is one bulk product before it. What no later step
    needs leaves it too: a weight's gradient is one bulk product after it.
    """
    loop = _ancestors(w, {i for i, item in enumerate(w.items) if _is_state(w, i, item)})
    waiting = _waiting(w)
    bulk = {i for i, item in enumerate(w.items) if _is_bulk(w, i, item, loop, waiting)}
    early = _ancestors(w, {i for i in bulk if i not in waiting and w.items[i].op == "gemm"})
    done: set[int] = set()
    sections: list[Section] = []

    def take(kind: str, allowed: set[int]) -> bool:
        ready = _closure(w, allowed - done, done)
        if ready:
            stages = _bulk_stages(w, ready) if kind == "bulk" else _stages(w, ready)
            sections.append(Section(kind, tuple(stages)))
            done.update(ready)
        return bool(ready)

    def of(domain: str) -> set[int]:
        return {i for i, item in enumerate(w.items) if item.domain == domain and i not in bulk}

    shared, rows, time = of("shared"), of("rows"), of("time")

    def around(times: set[int]) -> None:
        while (
            take("shared", shared) or take("rows", rows) or take("bulk", _ready(w, bulk, done)) or take("time", times)
        ):
            pass

    around(time & early)
    if not take("time", time):
        sections.append(Section("time", ()))
    main = len(sections) - 1
    around(time)
    assert len(done) == len(w.items), "some work waits for ever"
    return sections, main


def _bulk_stages(w: Work, items: set[int]) -> list[Stage]:
    """Products of the same values are one."""
    left, stages = sorted(items), []
    while left:
        first = w.items[left[0]]
        stage = [i for i in left if i == left[0] or (first.op == w.items[i].op == "gemm" and _merges(w, i, left[0]))]
        stages.append(Stage(tuple(stage)))
        left = [i for i in left if i not in stage]
    return stages


def _is_state(w: Work, i: int, item: Item) -> bool:
    return item.output.startswith("state ") or w.homes.get(item.target.root, "").startswith("state ")


def _ancestors(w: Work, ends: set[int]) -> set[int]:
    found, stack = set(ends), list(ends)
    while stack:
        for j in w.needs(stack.pop()):
            if j not in found:
                found.add(j)
                stack.append(j)
    return found


def _waiting(w: Work) -> set[int]:
    """The items that need a state, and so wait for the step before."""
    found: set[int] = set()
    for i, item in enumerate(w.items):
        roots = [w.nodes[w.layouts[j].root] for j in item.args]
        if any(r.op == "input" and r.attrs[0] == "state" for r in roots) or found & w.needs(i):
            found.add(i)
    return found


def _is_bulk(w: Work, i: int, item: Item, loop: set[int], waiting: set[int]) -> bool:
    if item.op in ("outer", "colsum"):
        return True
    if item.op == "gemm":
        operands = [w.nodes[w.layouts[j].root] for j in item.args[::2]]
        stored = all(r.time and r.rows and not _is_history(r.op, r.attrs) for r in operands)
        return item.domain == "time" and stored and (i not in loop or i not in waiting)
    return False


def _is_history(op: str, attrs: tuple[object, ...]) -> bool:
    return op == "input" and attrs[0] in ("before", "state")


def _ready(w: Work, some: set[int], done: set[int]) -> set[int]:
    """Those that need nothing that is not done."""
    return {i for i in some - done if w.needs(i) <= done}


def _closure(w: Work, allowed: set[int], done: set[int]) -> set[int]:
    """Those of `allowed` that can be done with what is done and with each other."""
    ready: set[int] = set()
    for i in sorted(allowed):
        if w.needs(i) <= done | ready:
            ready.add(i)
    return ready


def _stages(w: Work, items: set[int]) -> list[Stage]:
    """Items of one pass: products first and together, then as much pointwise work as goes into one loop."""
    left, stages = set(items), []
    while left:
        ready = sorted(i for i in left if not w.needs(i) & left)
        products = [i for i in ready if w.items[i].op == "gemm"]
        maps = [i for i in ready if w.items[i].fuses]
        if products:
            stage = [i for i in products if i == products[0] or _merges(w, i, products[0])]
        elif maps and len(maps) == len(ready):
            stage = _fused(w, maps[0], left)
        else:
            stage = [next(i for i in ready if not w.items[i].fuses)]
        stages.append(Stage(tuple(stage)))
        left -= set(stage)
    return stages


def _merges(w: Work, i: int, k: int) -> bool:
    """Whether two products read the same values, and neither must lie by itself because it is an output."""
    one, other = w.items[i], w.items[k]
    alone = any(not w.homes.get(item.target.root, "stream saved").startswith("stream saved") for item in (one, other))
    same = one.args[::2] == other.args[::2] and one.dims[:-1] == other.dims[:-1] and one.domain == other.domain
    return same and not alone


def _fused(w: Work, first: int, left: set[int]) -> list[int]:
    """With `first`, all that can run in the same loop: over the same numbers, from what is there or made in it."""
    like = w.items[first]
    stage: list[int] = []
    for i in sorted(left):
        item = w.items[i]
        if not item.fuses or item.dims != like.dims or item.rows != like.rows or item.time != like.time:
            continue
        within = w.needs(i) & left
        if within <= set(stage) and all(_local(w, j, stage) for j in item.args) and not set(item.after) & left:
            stage.append(i)
    return stage


def _local(w: Work, j: int, stage: list[int]) -> bool:
    """Whether a value is made before this stage, or number by number in it, so that the loop has it at hand."""
    root = w.layouts[j].root
    made = [i for i in stage if w.items[i].target.root == root]
    return not made or (root == j and w.whole(j) and all(w.items[i].op not in ("copy", "fill") for i in made))
