"""The changes that make a new cell of another: each takes a genome and chance, and gives one, or None if it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from conveyor.search.genome import BINARY, UNARY, Genome, Node, tidy

Mutation = Callable[["Sketch", Random], bool]


class Sketch:
    """A genome that is being changed: nodes by number, in no order; `ends` are read like inputs."""

    def __init__(self, genome: Genome):
        self.genome = genome
        self.nodes = dict(enumerate(genome.nodes))
        self.ends = list(genome.ends)

    def done(self) -> Genome | None:
        """The new genome; None where a value would need itself."""
        try:
            return tidy(self.nodes, self.genome.states, tuple(self.ends))
        except ValueError:
            return None

    def add(self, node: Node) -> int:
        self.nodes[number := max(self.nodes) + 1] = node
        return number

    def put(self, use: Use, i: int) -> None:
        """Lets what reads there read node i."""
        if use.node is None:
            self.ends[use.slot] = i
            return
        node = self.nodes[use.node]
        inputs = (*node.inputs[: use.slot], i, *node.inputs[use.slot + 1 :])
        self.nodes[use.node] = replace(node, inputs=inputs)

    def put_all(self, old: int, new: int) -> None:
        """Lets all that read one node read another."""
        for use in self.uses():
            if use.value == old:
                self.put(use, new)

    def uses(self) -> list[Use]:
        """Where a value is read, but for constants, which stay where they are."""
        found = [
            Use(i, slot, value)
            for i, node in self.nodes.items()
            for slot, value in enumerate(node.inputs)
            if self.nodes[value].op != "const"
        ]
        return [*found, *(Use(None, slot, value) for slot, value in enumerate(self.ends))]

    def is_map(self, use: Use) -> bool:
        return use.node is not None and self.nodes[use.node].op == "map"

    def values(self, but: tuple[str, ...] = ("const", "x")) -> list[int]:
        return [i for i, node in self.nodes.items() if node.op not in but]

    def map(self, *inputs: int) -> int:
        """A learned map with weights of its own."""
        names = {node.weights for node in self.nodes.values()}
        name = next(f"map{n}" for n in range(1, 999) if f"map{n}" not in names)
        return self.add(Node("map", inputs, weights=name, diagonal=(False,) * len(inputs)))

    def with_operands(self, i: int, inputs: tuple[int, ...], diagonal: tuple[bool, ...]) -> bool:
        """Another number of operands for a map, and with it weights of its own if it shared them."""
        node = self.nodes[i]
        if sum(one.weights == node.weights for one in self.nodes.values()) > 1:
            new = self.nodes[self.map(*inputs)]
            node = replace(node, weights=new.weights)
        self.nodes[i] = replace(node, inputs=inputs, diagonal=diagonal)
        return True


@dataclass(frozen=True)
class Use:
    """Where node `value` is read: a node's input, or, where `node` is None, the end of a state."""

    node: int | None
    slot: int
    value: int


def swap(sketch: Sketch, random: Random) -> bool:
    """Another function in place of one: tanh for sigmoid, a product for a sum."""
    found = [i for i, node in sketch.nodes.items() if node.op in UNARY + BINARY]
    if not found:
        return False
    i = random.choice(found)
    node = sketch.nodes[i]
    others = [op for op in (UNARY if node.op in UNARY else BINARY) if op != node.op]
    sketch.nodes[i] = replace(node, op=random.choice(others))
    return True


def insert_function(sketch: Sketch, random: Random) -> bool:
    """A function between a value and one of its readers."""
    use = random.choice([p for p in sketch.uses() if sketch.nodes[p.value].op != "x"])
    sketch.put(use, sketch.add(Node(random.choice(UNARY), (use.value,))))
    return True


def insert_operation(sketch: Sketch, random: Random) -> bool:
    """A sum, difference or product of a value and another, in place of the value at one of its readers."""
    use = random.choice([p for p in sketch.uses() if sketch.nodes[p.value].op != "x"])
    other = random.choice(sketch.values())
    sketch.put(use, sketch.add(Node(random.choice(BINARY), (use.value, other))))
    return True


def complement(sketch: Sketch, random: Random) -> bool:
    """1 - a in place of a value at one of its readers, as coupled gates have it."""
    use = random.choice([p for p in sketch.uses() if sketch.nodes[p.value].op != "x"])
    one = sketch.add(Node("const", value=1.0))
    sketch.put(use, sketch.add(Node("sub", (one, use.value))))
    return True


def remove(sketch: Sketch, random: Random) -> bool:
    """A function or operation goes; one of its inputs takes its place. So a gate is dropped."""
    found = [i for i, node in sketch.nodes.items() if node.op in UNARY + BINARY]
    if not found:
        return False
    i = random.choice(found)
    inputs = [j for j in sketch.nodes[i].inputs if sketch.nodes[j].op not in ("const", "x")]
    if not inputs:
        return False
    sketch.put_all(i, random.choice(inputs))
    return True


def rewire(sketch: Sketch, random: Random) -> bool:
    """A reader reads another value."""
    use = random.choice(sketch.uses())
    others = sketch.values(("const",) if sketch.is_map(use) else ("const", "x"))
    sketch.put(use, random.choice(others))
    return True


def add_map(sketch: Sketch, random: Random) -> bool:
    """A learned map in place of a value at one of its readers: of the value, and perhaps of another."""
    use = random.choice([p for p in sketch.uses() if not sketch.is_map(p)])  # the ends always are such
    values = [use.value]
    others = [i for i in sketch.values(("const",)) if i != use.value]
    if others and random.random() < 0.5:
        values.append(random.choice(others))
    sketch.put(use, sketch.map(*values))
    return True


def widen_map(sketch: Sketch, random: Random) -> bool:
    """A map reads one more value."""
    maps = [i for i, node in sketch.nodes.items() if node.op == "map"]
    if not maps:
        return False
    i = random.choice(maps)
    node = sketch.nodes[i]
    others = [j for j in sketch.values(("const",)) if j not in node.inputs]
    if not others:
        return False
    return sketch.with_operands(i, (*node.inputs, random.choice(others)), (*node.diagonal, False))


def narrow_map(sketch: Sketch, random: Random) -> bool:
    """A map reads one value less."""
    maps = [i for i, node in sketch.nodes.items() if node.op == "map" and len(node.inputs) > 1]
    if not maps:
        return False
    i = random.choice(maps)
    node = sketch.nodes[i]
    out = random.randrange(len(node.inputs))
    inputs = (*node.inputs[:out], *node.inputs[out + 1 :])
    return sketch.with_operands(i, inputs, (*node.diagonal[:out], *node.diagonal[out + 1 :]))


def share(sketch: Sketch, random: Random) -> bool:
    """A map takes the weights of another that reads as many values."""
    nodes = sketch.nodes

    def form(i: int) -> tuple[object, ...]:  # what maps must have in common: x is of another width
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
    """The genome with one change of this name; None where it cannot be."""
    sketch = Sketch(genome)
    return sketch.done() if MUTATIONS[name](sketch, random) else None
