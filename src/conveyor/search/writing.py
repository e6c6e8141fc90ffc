"""Writes the source of a cell from a genome, as one would write it by hand."""

from __future__ import annotations

import keyword
import re
import textwrap

from conveyor.cell import Cell
from conveyor.search.genome import UNARY, Genome, Node

RESERVED = {"self", "sigmoid", "tanh", "relu", "Tensor", "t", "input_size", "hidden_size", "out", "bias", *dir(Cell)}
OPERATORS = {"add": "+", "sub": "-", "mul": "*"}
PRECEDENCE = {"add": 1, "sub": 1, "mul": 2, "neg": 3}
ATOM = 4


def write(genome: Genome, name: str, about: str) -> str:
    """The source of a cell's class, with `about` as its docstring. Saved to a file, commands take it as FILE:NAME.

    print(write(read(zoo.GRU), "Mine", "A GRU."))
    """
    return _Writer(genome).text(name, about)


class _Writer:
    def __init__(self, genome: Genome):
        self.genome = genome
        self.names: dict[int, str] = {}  # of arguments of the step and of nodes with an equation
        self.used = {"x", *genome.states, *RESERVED}
        self.attributes: dict[str, str] = {}
        for weights in genome.maps():
            self.attributes[weights] = self.free(weights)
        self.widths: dict[str, None] = {}  # names of operands of maps besides x and states

    def text(self, name: str, about: str) -> str:
        genome = self.genome
        lines = self.lines()
        functions = sorted({node.op for node in genome.nodes if node.op in UNARY and node.op != "neg"})
        states = ", ".join(f'"{one}"' for one in genome.states) + ("," if len(genome.states) == 1 else "")
        makes = [f"self.{self.attributes[w]} = {self.constructor(node)}" for w, node in genome.maps().items()]
        widths = "".join(f", {one}=hidden_size" for one in self.widths)
        parts = [
            f"from torch import {', '.join(['Tensor', *functions])}",
            "",
            "from conveyor import Cell",
            "",
            "",
            f"class {name}(Cell):",
            textwrap.indent(f'"""{about}"""', "    "),
            "",
            f"    state = ({states})",
            "",
            "    def __init__(self, input_size: int, hidden_size: int):",
            f"        super().__init__(input_size, hidden_size{widths})",
            *(f"        {line}" for line in makes),
            "",
            f"    def step(self, x: Tensor, {', '.join(f'{one}: Tensor' for one in genome.states)}):",
            *(f"        {line}" for line in lines),
        ]
        return "\n".join(parts) + "\n"

    def lines(self) -> list[str]:
        """The equations and the return statement."""
        nodes, updates = self.genome.nodes, self.genome.updates
        own = [i for i in range(len(nodes)) if self.has_line(i)]
        self.names = {i: node.name if node.op == "state" else "x" for i, node in enumerate(nodes) if node.op in GIVEN}
        found = []
        for position, i in enumerate(own):
            expression = self.expression(i)
            self.names[i] = self.name_of(i, own[position + 1 :])
            found.append(f"{self.names[i]} = {expression}")
        return [*found, f"return {', '.join(self.names[end] for end in updates)}"]

    def has_line(self, i: int) -> bool:
        """Whether a value has an equation of its own: it has a name, is used twice, or is a new state."""
        node = self.genome.nodes[i]
        if node.op in (*GIVEN, "const"):
            return False
        return bool(node.name) or len(self.genome.users(i)) > 1 or i in self.genome.updates

    def name_of(self, i: int, later: list[int]) -> str:
        """The name of a value. A new state takes the name of the old one, if no later equation reads that."""
        genome, node = self.genome, self.genome.nodes[i]
        for state, end in zip(genome.states, genome.updates, strict=True):
            if end == i and not any(self.reads_state(j, state) for j in later):
                if not any(
                    genome.nodes[one].name == state for one in genome.updates if genome.nodes[one].op == "state"
                ):
                    return state
                break
        return self.free(node.name if node.name not in genome.states else f"new_{node.name}")

    def reads_state(self, i: int, state: str) -> bool:
        """Whether the equation of node i reads the old state."""
        for j in self.genome.nodes[i].inputs:
            node = self.genome.nodes[j]
            if (node.op == "state" and node.name == state) or (not self.has_line(j) and self.reads_state(j, state)):
                return True
        return False

    def expression(self, i: int, least: int = 0) -> str:
        """The node as a formula, in parentheses if its precedence is below `least`."""
        node = self.genome.nodes[i]
        if i in self.names:
            return self.names[i]
        if node.op == "const":
            text = literal(node.value)
            return text if node.value >= 0 or not least else f"({text})"
        if node.op == "map":
            return f"self.{self.attributes[node.weights]}({', '.join(map(self.expression, node.inputs))})"
        precedence = PRECEDENCE.get(node.op, ATOM)
        if node.op == "neg":
            text = f"-{self.expression(node.inputs[0], precedence)}"
        elif node.op in OPERATORS:
            left, right = node.inputs
            text = f"{self.expression(left, precedence)} {OPERATORS[node.op]} "
            text += self.expression(right, precedence + 1)
        else:
            text = f"{node.op}({self.expression(node.inputs[0])})"
        return f"({text})" if precedence < least else text

    def constructor(self, node: Node) -> str:
        names = self.operand_names(node)
        arguments = [f'"{label}"' for label in names]
        arguments += [f'{label}="diagonal"' for label, diagonal in zip(names, node.diagonal, strict=True) if diagonal]
        return f"self.affine({', '.join(arguments + ['bias=False'] * (not node.bias))})"

    def operand_names(self, node: Node) -> list[str]:
        """Distinct names for the operands of a map: their own names where they have one."""
        found: list[str] = []
        for j in node.inputs:
            name = self.names.get(j, "v")
            if name in found:
                name = next(f"{name}{n}" for n in range(2, 99) if f"{name}{n}" not in found)
            if name not in ("x", *self.genome.states):
                self.widths[name] = None
            found.append(name)
        return found

    def free(self, wanted: str) -> str:
        """The name, followed by a number if it is already in use."""
        name, n = identifier(wanted) or "v", 1
        while name in self.used or keyword.iskeyword(name):
            n += 1
            name = f"{identifier(wanted) or 'v'}{n}"
        self.used.add(name)
        return name


GIVEN = ("x", "state")


def literal(value: float) -> str:
    """A constant as Python source."""
    return f"{value:g}" if value.is_integer() and abs(value) < 1e6 else repr(value)


def identifier(name: str) -> str:
    """The name with other characters replaced by underscores."""
    return re.sub(r"\W", "_", name)
