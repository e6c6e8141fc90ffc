"""When each piece of work is done: before the loop over time, in it, or after it; and what is done together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conveyor.compiler.items import Item, Work


@dataclass(frozen=True)
class Group:
    """Items that are done together: one loop over the elements of a value, or one matrix product."""

    items: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """`kind`: what is run over, as an item's domain, or "bulk": products over all rows and steps at once.

    Between two sections, threads wait for each other.
    """

    kind: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Schedule:
    """The sections of a graph's work, in order; `main` is the index of the loop that carries the state."""

    work: Work
    sections: tuple[Section, ...]
    main: int


def schedule(w: Work, over_time: bool = True) -> Schedule:
    """The sections in order; `over_time`: there is a loop over time.

    What needs no state leaves the loop: a product of the input is one bulk product before it. What no later step
    needs leaves it too: a weight's gradient is one bulk product after it.
    """
    waiting = _waiting(w)
    bulk = _bulk(w, waiting) if over_time else set()
    early = _with_needs(w, (i for i in bulk if i not in waiting and w.items[i].op == "gemm"))
    domains = {
        domain: {i for i, item in enumerate(w.items) if item.domain == domain} - bulk
        for domain in ("shared", "rows", "time")
    }
    done: set[int] = set()
    sections: list[Section] = []

    def take(kind: str, allowed: set[int]) -> bool:
        """A section of all that can be done now."""
        ready = _closure(w, allowed - done, done)
        if ready:
            groups = _bulk_groups(w, ready) if kind == "bulk" else _groups(w, ready)
            sections.append(Section(kind, tuple(groups)))
            done.update(ready)
        return bool(ready)

    def take_around(steps: set[int]) -> None:
        """As many sections as there can be, besides the loop, in which only `steps` of the work of each step are."""
        while (
            take("shared", domains["shared"])
            or take("rows", domains["rows"])
            or take("bulk", {i for i in bulk - done if w.needs(i) <= done})
            or take("time", steps)
        ):
            pass

    take_around(domains["time"] & early)
    if not take("time", domains["time"]):
        sections.append(Section("time", ()))  # for copies of states
    main = len(sections) - 1
    take_around(domains["time"])
    assert len(done) == len(w.items), "some work waits for ever"
    return Schedule(w, tuple(sections), main)


def _with_needs(w: Work, ends: Iterable[int]) -> set[int]:
    """These items, and all that must be done before them."""
    found: set[int] = set()
    stack = list(ends)
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            stack.extend(w.needs(i))
    return found


def _waiting(w: Work) -> set[int]:
    """The items that need a state, and so wait for the step before."""
    found: set[int] = set()
    for i, item in enumerate(w.items):
        if any(_is_input(w, j, "state") for j in item.args) or found & w.needs(i):
            found.add(i)
    return found


def _is_input(w: Work, j: int, *kinds: str) -> bool:
    root = w.nodes[w.layouts[j].root]
    return root.op == "input" and root.attrs[0] in kinds


def _bulk(w: Work, waiting: set[int]) -> set[int]:
    """The products over all rows and steps at once: those that are not between a state and the next.

    A product that nothing waits for can be done after the loop, and one that waits for no state before it.
    """
    carried = _with_needs(w, (i for i, item in enumerate(w.items) if _makes_state(w, item)))
    return {
        i
        for i, item in enumerate(w.items)
        if item.sums_rows or (item.op == "gemm" and _is_stored(w, item) and not (i in carried and i in waiting))
    }


def _makes_state(w: Work, item: Item) -> bool:
    output = item.output or w.stored.get(item.target.root)
    return output is not None and output.kind == "state"


def _is_stored(w: Work, item: Item) -> bool:
    """Whether there is a stream of each operand of a product, one row for each step of each sequence."""
    roots = [w.nodes[w.layouts[j].root] for j in item.args[::2]]
    streams = all(root.time and root.rows for root in roots)
    return item.time and streams and not any(_is_input(w, j, "before", "state") for j in item.args[::2])


def _closure(w: Work, allowed: set[int], done: set[int]) -> set[int]:
    """Those of `allowed` that can be done with what is done and with each other."""
    ready: set[int] = set()
    for i in sorted(allowed):
        if w.needs(i) <= done | ready:
            ready.add(i)
    return ready


def _bulk_groups(w: Work, items: set[int]) -> list[Group]:
    left, groups = sorted(items), []
    while left:
        group = _like(w, left[0], left) if w.items[left[0]].op == "gemm" else left[:1]
        groups.append(Group(tuple(group)))
        left = [i for i in left if i not in group]
    return groups


def _groups(w: Work, items: set[int]) -> list[Group]:
    """Items of one pass: products first and together, then as much pointwise work as goes into one loop."""
    left, groups = set(items), []
    while left:
        ready = sorted(i for i in left if not w.needs(i) & left)
        products = [i for i in ready if w.items[i].op == "gemm"]
        alone = [i for i in ready if not w.items[i].fuses]
        if products:
            group = _like(w, products[0], products)
        elif alone:
            group = alone[:1]
        else:
            group = _fused(w, ready[0], left)
        groups.append(Group(tuple(group)))
        left -= set(group)
    return groups


def _like(w: Work, first: int, items: list[int]) -> list[int]:
    """With the product `first`, those of the same values: they are one product with a wider matrix."""
    return [i for i in items if i == first or (w.items[i].op == "gemm" and _merges(w, w.items[i], w.items[first]))]


def _merges(w: Work, one: Item, other: Item) -> bool:
    """Whether two products read the same values, and neither must lie by itself because it is an output."""
    same = one.args[::2] == other.args[::2] and one.dims[:-1] == other.dims[:-1] and one.domain == other.domain
    same = same and one.condition == other.condition
    return same and not any(w.lies_alone(item.target.root) for item in (one, other))


def _fused(w: Work, first: int, left: set[int]) -> list[int]:
    """With `first`, all that can run in the same loop: over the same elements, from what is there or made in it."""
    like = w.items[first]
    group: list[int] = []
    made: dict[int, list[Item]] = {}  # by the group, by the root of the value
    for i in sorted(left):
        item = w.items[i]
        if not item.fuses or (item.dims, item.rows, item.time) != (like.dims, like.rows, like.time):
            continue
        made_here = w.needs(i) & left <= set(group) and not set(item.after) & left
        if made_here and all(_is_at_hand(w, j, made.get(w.layouts[j].root, [])) for j in item.args):
            group.append(i)
            made.setdefault(item.target.root, []).append(item)
    return group


def _is_at_hand(w: Work, j: int, made: list[Item]) -> bool:
    """Whether a value is made before a group, or by its items element by element, so that its loop has it at hand."""
    return not made or (w.layouts[j].root == j and w.whole(j) and not any(item.moves for item in made))
