"""The mutations. Each changes a draft of a genome at random, or returns False where it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from conveyor.search.genome import BINARY, UNARY, Genome, Node, canonicalise

Mutation = Callable[["Draft", Random], bool]


class Draft:
    """A mutable genome: nodes by number, in any order. `updates` are uses of nodes like inputs."""

    def __init__(self, genome: Genome):
        self.genome = genome
        self.nodes = dict(enumerate(genome.nodes))
        self.updates = list(genome.updates)

    def finish(self) -> Genome | None:
        """The new genome; None if it has a cycle."""
        try:
            return canonicalise(self.nodes, self.genome.states, tuple(self.updates))
        except ValueError:
            return None

    def add(self, node: Node) -> int:
        """Adds a node; its number."""
        self.nodes[number := max(self.nodes) + 1] = node
        return number

    def redirect(self, use: Use, i: int) -> None:
        """Makes a use refer to node i."""
        if use.node is None:
            self.updates[use.slot] = i
            return
        node = self.nodes[use.node]
        inputs = (*node.inputs[: use.slot], i, *node.inputs[use.slot + 1 :])
        self.nodes[use.node] = replace(node, inputs=inputs)

    def redirect_all(self, old: int, new: int) -> None:
        """Replaces all uses of one node by another."""
        for use in self.uses():
            if use.value == old:
                self.redirect(use, new)

    def uses(self) -> list[Use]:
        """All uses of nodes, except those of constants, which are left alone."""
        found = [
            Use(i, slot, value)
            for i, node in self.nodes.items()
            for slot, value in enumerate(node.inputs)
            if self.nodes[value].op != "const"
        ]
        return [*found, *(Use(None, slot, value) for slot, value in enumerate(self.updates))]

    def is_map(self, use: Use) -> bool:
        """Whether the user is a map, which may read x, too."""
        return use.node is not None and self.nodes[use.node].op == "map"

    def values(self, exclude: tuple[str, ...] = ("const", "x")) -> list[int]:
        """The nodes whose operation is not excluded."""
        return [i for i, node in self.nodes.items() if node.op not in exclude]

    def map(self, *inputs: int) -> int:
        """Adds a learned map with weights of its own; its number."""
        names = {node.weights for node in self.nodes.values()}
        name = next(f"map{n}" for n in range(1, 999) if f"map{n}" not in names)
        return self.add(Node("map", inputs, weights=name, diagonal=(False,) * len(inputs)))

    def set_operands(self, i: int, inputs: tuple[int, ...], diagonal: tuple[bool, ...]) -> bool:
        """Changes the operands of a map, which gets weights of its own if it shared them."""
        node = self.nodes[i]
        if sum(one.weights == node.weights for one in self.nodes.values()) > 1:
            new = self.nodes[self.map(*inputs)]
            node = replace(node, weights=new.weights)
        self.nodes[i] = replace(node, inputs=inputs, diagonal=diagonal)
        return True


@dataclass(frozen=True)
class Use:
    """A use of node `value`: input `slot` of `node`, or, where `node` is None, the new value of state `slot`."""

    node: int | None
    slot: int
    value: int


def swap(draft: Draft, random: Random) -> bool:
    """Replaces a function by another of the same arity: tanh by sigmoid, a product by a sum."""
    found = [i for i, node in draft.nodes.items() if node.op in UNARY + BINARY]
    if not found:
        return False
    i = random.choice(found)
    node = draft.nodes[i]
    others = [op for op in (UNARY if node.op in UNARY else BINARY) if op != node.op]
    draft.nodes[i] = replace(node, op=random.choice(others))
    return True


def insert_function(draft: Draft, random: Random) -> bool:
    """Inserts a unary function at one use of a value."""
    use = random.choice([p for p in draft.uses() if draft.nodes[p.value].op != "x"])
    draft.redirect(use, draft.add(Node(random.choice(UNARY), (use.value,))))
    return True


def insert_operation(draft: Draft, random: Random) -> bool:
    """Replaces one use of a value by its sum, difference or product with another value."""
    use = random.choice([p for p in draft.uses() if draft.nodes[p.value].op != "x"])
    other = random.choice(draft.values())
    draft.redirect(use, draft.add(Node(random.choice(BINARY), (use.value, other))))
    return True


def complement(draft: Draft, random: Random) -> bool:
    """Replaces one use of a value a by 1 - a, as in coupled gates."""
    use = random.choice([p for p in draft.uses() if draft.nodes[p.value].op != "x"])
    one = draft.add(Node("const", value=1.0))
    draft.redirect(use, draft.add(Node("sub", (one, use.value))))
    return True


def remove(draft: Draft, random: Random) -> bool:
    """Replaces a function by one of its inputs, which can remove a gate."""
    found = [i for i, node in draft.nodes.items() if node.op in UNARY + BINARY]
    if not found:
        return False
    i = random.choice(found)
    inputs = [j for j in draft.nodes[i].inputs if draft.nodes[j].op not in ("const", "x")]
    if not inputs:
        return False
    draft.redirect_all(i, random.choice(inputs))
    return True


def rewire(draft: Draft, random: Random) -> bool:
    """Replaces one use of a value by another value."""
    use = random.choice(draft.uses())
    others = draft.values(("const",) if draft.is_map(use) else ("const", "x"))
    draft.redirect(use, random.choice(others))
    return True


def add_map(draft: Draft, random: Random) -> bool:
    """Replaces one use of a value by a learned map of it, and perhaps of another value."""
    use = random.choice([p for p in draft.uses() if not draft.is_map(p)])  # never empty: the updates are uses
    values = [use.value]
    others = [i for i in draft.values(("const",)) if i != use.value]
    if others and random.random() < 0.5:
        values.append(random.choice(others))
    draft.redirect(use, draft.map(*values))
    return True


def widen_map(draft: Draft, random: Random) -> bool:
    """Adds an operand to a map."""
    maps = [i for i, node in draft.nodes.items() if node.op == "map"]
    if not maps:
        return False
    i = random.choice(maps)
    node = draft.nodes[i]
    others = [j for j in draft.values(("const",)) if j not in node.inputs]
    if not others:
        return False
    return draft.set_operands(i, (*node.inputs, random.choice(others)), (*node.diagonal, False))


def narrow_map(draft: Draft, random: Random) -> bool:
    """Removes an operand from a map."""
    maps = [i for i, node in draft.nodes.items() if node.op == "map" and len(node.inputs) > 1]
    if not maps:
        return False
    i = random.choice(maps)
    node = draft.nodes[i]
    out = random.randrange(len(node.inputs))
    inputs = (*node.inputs[:out], *node.inputs[out + 1 :])
    return draft.set_operands(i, inputs, (*node.diagonal[:out], *node.diagonal[out + 1 :]))


def share(draft: Draft, random: Random) -> bool:
    """Makes a map share the weights of another with the same shapes."""
    nodes = draft.nodes

    def form(i: int) -> tuple[object, ...]:  # what maps that share weights must have in common; x has its own width
        node = nodes[i]
        return tuple(nodes[j].op == "x" for j in node.inputs), node.diagonal, node.bias

    maps = [i for i, node in nodes.items() if node.op == "map"]
    pairs = [(i, j) for i in maps for j in maps if nodes[i].weights != nodes[j].weights and form(i) == form(j)]
    if not pairs:
        return False
    i, j = random.choice(pairs)
    nodes[i] = replace(nodes[i], weights=nodes[j].weights)
    return True


MUTATIONS: dict[str, Mutation] = {
    one.__name__.replace("_", " "): one
    for one in (
        swap,
        insert_function,
        insert_operation,
        complement,
        remove,
        rewire,
        add_map,
        widen_map,
        narrow_map,
        share,
    )
}


def mutate(genome: Genome, name: str, random: Random) -> Genome | None:
    """The genome after the mutation of this name; None if it does not apply."""
    draft = Draft(genome)
    return draft.finish() if MUTATIONS[name](draft, random) else None
