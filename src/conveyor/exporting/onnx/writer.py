"""Writes ONNX nodes. What is known beforehand is computed at once, and nothing that nobody reads is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 18  # the first with the axes of all reductions as inputs
IR_VERSION = 8  # that of the ONNX release which brought this opset

Array = np.ndarray[Any, np.dtype[Any]]


class Writer:
    """The nodes of a graph, and of the bodies of loops in it, each value under a name of its own.

        writer = Writer(np.float32)
        y = writer.op("Add", "x", writer.numbers(1.0), name="y")
        graph = writer.graph("increment", inputs, outputs)

    `real` is the type of its numbers. An operation on constants gives a constant, so that a matrix is kept as it is
    read; numbers are kept in the outermost graph, and shapes where they are read.
    """

    def __init__(self, real: type[np.floating[Any]]):
        self.real = real
        self.type = helper.np_dtype_to_tensor_dtype(np.dtype(real))
        self.nodes: list[NodeProto] = []
        self.known: dict[str, Array] = {}
        self.outer: list[list[NodeProto]] = []
        self._taken: set[str] = set()
        self._inverse: dict[tuple[str, int], str] = {}

    def name(self, hint: str) -> str:
        """A name that no other value has.

        PyTorch's exporter, which puts the layers of a model together, renames by _1, _2, ...: ours are told apart
        otherwise, so that its names are not those of values that it comes to later.
        """
        hint = hint or "value"
        name, number = hint, 1
        while name in self._taken:
            name, number = f"{hint}.{number}", number + 1
        self._taken.add(name)
        return name

    def reserve(self, *names: str) -> None:
        """Keeps names for `result`."""
        self._taken.update(names)

    def result(self, name: str, value: str) -> None:
        """The value under a name that was reserved."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def constant(self, value: Array, name: str = "constant") -> str:
        """An array."""
        name = self.name(name)
        self.known[name] = np.ascontiguousarray(value) if value.ndim else value
        return name

    def numbers(self, value: Any) -> str:
        """Numbers of the graph's type."""
        return self.constant(np.asarray(value, self.real))

    def whole(self, *value: int) -> str:
        """Whole numbers, such as a shape."""
        return self.constant(np.asarray(value, np.int64), "shape")

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """The result of an operation with one output."""
        (result,) = self.ops(kind, inputs, [name or kind], **attributes)
        return result

    def ops(self, kind: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any) -> list[str]:
        """The results of an operation; those that are not wanted have the name ""."""
        outputs = [name and self.name(name) for name in names]
        node = helper.make_node(kind, inputs, outputs, name=outputs[0] or None, **attributes)
        if inputs and all(name in self.known for name in inputs):
            values = ReferenceEvaluator(node).run(None, {name: self.known[name] for name in inputs})
            self.known |= {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}
        else:
            self.nodes.append(node)
        return outputs

    def squeeze(self, value: str, axis: int) -> str:
        """The value without a dimension of size 1."""
        return self._undone("Squeeze", value, axis)

    def unsqueeze(self, value: str, axis: int) -> str:
        """The value with a further dimension of size 1."""
        return self._undone("Unsqueeze", value, axis)

    def _undone(self, kind: str, value: str, axis: int) -> str:
        """The result, which is what it was before if the last operation was the inverse one."""
        if (value, axis) not in self._inverse:
            result = self.op(kind, value, self.whole(axis), name=value)
            self._inverse[result, axis] = value
            return result
        return self._inverse[value, axis]

    @contextmanager
    def body(self) -> Iterator[None]:
        """Inside, the nodes are those of a loop's body; `graph` gives it."""
        self.outer.append(self.nodes)
        self.nodes = []
        try:
            yield
        finally:
            self.nodes = self.outer.pop()

    def graph(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """The graph of the nodes so far that an output depends on, with the constants that they read."""
        wanted = {value.name for value in outputs}
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(reads(node))
        local = [n for n in self.known if n in wanted and (not self.outer or self.known[n].dtype.kind == "i")]
        tensors = [numpy_helper.from_array(self.known[n], n) for n in local]
        return helper.make_graph(kept[::-1], name, inputs, outputs, tensors)


def reads(node: NodeProto) -> set[str]:
    """The values that a node reads, those of the bodies in it included."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names.update(*map(reads, attribute.g.node), [value.name for value in attribute.g.output])
    return names
