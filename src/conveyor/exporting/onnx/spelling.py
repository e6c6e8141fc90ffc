"""How each operation of a step is written in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from conveyor.compiler.graph import Graph, Key, Node
from conveyor.errors import BadInput

if TYPE_CHECKING:  # formats are listed without the packages that they need
    from conveyor.exporting.onnx.writer import Writer


def _as_number(kind: str) -> Callable[..., str]:
    def compared(writer: Writer, *values: str) -> str:
        return writer.op("Cast", writer.op(kind, *values), to=writer.type)

    return compared


def _differs(writer: Writer, x: str, y: str) -> str:
    return writer.op("Cast", writer.op("Not", writer.op("Equal", x, y)), to=writer.type)


def _where(writer: Writer, condition: str, yes: str, no: str) -> str:
    return writer.op("Where", writer.op("Cast", condition, to=BOOL), yes, no)


def _expm1(writer: Writer, x: str) -> str:
    """tanh(x / 2) * (exp(x) + 1), which loses no digits at small x."""
    half = writer.op("Tanh", writer.op("Mul", x, writer.numbers(0.5)))
    return writer.op("Mul", half, writer.op("Add", writer.op("Exp", x), writer.numbers(1)))


def _log1p(writer: Writer, x: str) -> str:
    """log(u) * x / (u - 1) with u = 1 + x as it is rounded, which loses no digits at small x (Kahan)."""
    one = writer.numbers(1)
    u = writer.op("Add", x, one)
    log = writer.op("Log", u)
    near = writer.op("Mul", log, writer.op("Div", x, writer.op("Sub", u, one)))
    small = writer.op("Less", writer.op("Abs", x), one)
    return writer.op("Where", writer.op("Equal", u, one), x, writer.op("Where", small, near, log))


def _mod(writer: Writer, x: str, y: str) -> str:
    """The remainder with the sign of y, where ONNX has that with the sign of x."""
    rest = writer.op("Mod", x, y, fmod=1)
    signs = writer.op("Mul", writer.op("Sign", rest), writer.op("Sign", y))
    return writer.op("Where", writer.op("Less", signs, writer.numbers(0)), writer.op("Add", rest, y), rest)


BOOL = 9  # onnx.TensorProto.BOOL

# Pointwise operations: ONNX's name, or what writes it of others.
SPELLING: dict[str, str | Callable[..., str]] = {
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "exp": "Exp",
    "log": "Log",
    "log1p": _log1p,
    "sin": "Sin",
    "cos": "Cos",
    "erf": "Erf",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "sqrt": "Sqrt",
    "root": "Sqrt",
    "expm1": _expm1,
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "mod": _mod,
    "maximum": "Max",
    "minimum": "Min",
    "lt": _as_number("Less"),
    "le": _as_number("LessOrEqual"),
    "eq": _as_number("Equal"),
    "ne": _differs,
    "where": _where,
    "stop_gradient": "Identity",
}


class Values:
    """The values of a graph's nodes in ONNX: [B, *dims] of a node that has rows, else [*dims].

    `given`: the values of its inputs; `batch`: the number of rows, [1]. They are written when they are first read, in
    the body of the loop or outside it, wherever the writer is then.
    """

    def __init__(self, writer: Writer, graph: Graph, given: Mapping[Key, str], batch: str):
        self.writer, self.nodes, self.batch = writer, graph.nodes, batch
        self.given = given
        self._values: dict[int, str] = {}

    def __getitem__(self, i: int) -> str:
        if i not in self._values:
            self._values[i] = self._write(self.nodes[i])
        return self._values[i]

    def of_rows(self, i: int) -> str:
        """The value of a node for each row, [B, *dims], also where all rows have the same."""
        if self.nodes[i].rows:
            return self[i]
        shape = self.writer.op("Concat", self.batch, self.writer.whole(*self.nodes[i].dims), axis=0)
        return self.writer.op("Expand", self[i], shape)

    def _write(self, node: Node) -> str:
        if node.op == "input":
            return self.given[node.key]
        if node.op in SPELLING:
            spelling, operands = SPELLING[node.op], [self._aligned(j, node) for j in node.inputs]
            name = node.name or node.op
            if isinstance(spelling, str):
                return self.writer.op(spelling, *operands, name=name)
            return spelling(self.writer, *operands)
        if node.op not in WRITTEN:
            raise BadInput(f"ONNX has no {node.op}, which this step computes: write it with other operations")
        return WRITTEN[node.op](self, node)

    def _aligned(self, j: int, to: Node) -> str:
        """An operand, with its dimensions where those of the result are."""
        value, missing = self[j], len(to.dims) - len(self.nodes[j].dims)
        if not self.nodes[j].rows or not missing:
            return value
        return self.writer.op("Unsqueeze", value, self.writer.whole(*range(1, 1 + missing)))

    # --- one method per operation ---

    def const(self, node: Node) -> str:
        """A number."""
        return self.writer.numbers(node.attrs[0])

    def expand(self, node: Node) -> str:
        """A value, broadcast."""
        (j,) = node.inputs
        if node.rows and not self.nodes[j].rows:
            shape = self.writer.op("Concat", self.batch, self.writer.whole(*node.dims), axis=0)
        else:
            shape = self.writer.whole(*[1] * node.rows, *node.dims)
        return self.writer.op("Expand", self._aligned(j, node), shape)

    def matmul(self, node: Node) -> str:
        """A value times a matrix."""
        return self.writer.op("MatMul", *(self[j] for j in node.inputs), name=node.name)

    def contract(self, node: Node) -> str:
        """A sum of products within each row."""
        first, second, out = node.attrs
        sides = zip((*node.inputs, None), (first, second, out), strict=True)
        a, b, c = (f"{'Z' if (node if j is None else self.nodes[j]).rows else ''}{labels}" for j, labels in sides)
        return self.writer.op("Einsum", *(self[j] for j in node.inputs), equation=f"{a},{b}->{c}", name=node.name)

    def reduce(self, node: Node) -> str:
        """A sum or a maximum over dimensions."""
        kind = {"sum": "ReduceSum", "max": "ReduceMax"}[node.op]
        axes = self.writer.whole(*(k + node.rows for k in node.attrs[0]))
        return self.writer.op(kind, self[node.inputs[0]], axes, keepdims=0, name=node.name)

    def cat(self, node: Node) -> str:
        """Pieces, one after the other."""
        pieces = [self.of_rows(j) if node.rows else self[j] for j in node.inputs]
        return self.writer.op("Concat", *pieces, axis=node.attrs[0] + node.rows, name=node.name)

    def slice(self, node: Node) -> str:
        """A part of a value."""
        dim, start, step = node.attrs
        value, axis, size = self[node.inputs[0]], dim + node.rows, node.dims[dim]
        if step < 1 or size == 0:
            indices = self.writer.whole(*(start + step * k for k in range(size)))
            return self.writer.op("Gather", value, indices, axis=axis, name=node.name)
        bounds = (start,), (start + step * (size - 1) + 1,), (axis,), (step,)
        return self.writer.op("Slice", value, *(self.writer.whole(*one) for one in bounds), name=node.name)

    def pad(self, node: Node) -> str:
        """A value among zeros."""
        dim, start, step = node.attrs
        (j,), axis = node.inputs, dim + node.rows
        size = self.nodes[j].dims[dim]
        before = [0] * (len(node.dims) + node.rows)
        after = [int(k == axis) for k in range(len(before))]
        longer = self.writer.op("Pad", self[j], self.writer.whole(*before, *after))  # by a zero, which fills the gaps
        at = {start + step * k: k for k in range(size)}
        indices = self.writer.whole(*(at.get(k, size) for k in range(node.dims[dim])))
        return self.writer.op("Gather", longer, indices, axis=axis)

    def permute(self, node: Node) -> str:
        """The dimensions in another order."""
        order = [*[0] * node.rows, *(k + node.rows for k in node.attrs[0])]
        return self.writer.op("Transpose", self[node.inputs[0]], perm=order, name=node.name)

    def reshape(self, node: Node) -> str:
        """The same elements in another shape."""
        if 0 in node.dims:
            raise BadInput(
                f"ONNX cannot reshape to the empty shape {list(node.dims)}: leave this value out of the step"
            )
        shape = self.writer.whole(*[0] * node.rows, *node.dims)  # 0: that dimension as it is
        return self.writer.op("Reshape", self[node.inputs[0]], shape, name=node.name)


# All other operations.
WRITTEN: dict[str, Callable[[Values, Node], Any]] = {
    "const": Values.const,
    "matmul": Values.matmul,
    "contract": Values.contract,
    "sum": Values.reduce,
    "max": Values.reduce,
    "cat": Values.cat,
    "pad": Values.pad,
    "slice": Values.slice,
    "permute": Values.permute,
    "reshape": Values.reshape,
    "expand": Values.expand,
}
