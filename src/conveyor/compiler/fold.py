"""What depends on weights alone, taken out of the graph of a step: it is computed once for the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from conveyor.compiler.graph import Builder, Graph, needed
from conveyor.compiler.ops import OPS


@dataclass(frozen=True)
class Folded:
    """A step whose weights are values that are computed before it: `graph` reads them by the names in `values`.

    folded = fold(graph)
    folded.compute({"forget.weight_h": tensor, ...})        # {"%15": tensor, ...}, as folded.graph takes them
    """

    graph: Graph
    source: Graph
    values: Mapping[str, int]  # the node of the source that each is

    def compute(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values for some weights."""
        nodes, known = self.source.nodes, dict[int, Tensor]()
        for i in needed(nodes, self.values.values()):
            node = nodes[i]
            if node.op == "input":
                known[i] = weights[node.key.name][None]
            else:
                value = OPS[node.op].value
                assert value is not None, node.op
                known[i] = value(node, [known[j] for j in node.inputs])
        return {name: known[i][0] for name, i in self.values.items()}


def fold(graph: Graph) -> Folded:
    """The step without what depends on weights alone."""
    shared = {i for i, node in enumerate(graph.nodes) if node.shared and node.op != "const"}
    read = {j for i, node in enumerate(graph.nodes) if i not in shared for j in node.inputs if j in shared}
    read |= {output.node for output in graph.outputs} & shared
    b, new, values = Builder(), dict[int, int](), dict[str, int]()
    for i, node in enumerate(graph.nodes):
        if i in read:
            name = f"%{i}"
            values[name] = i
            new[i] = b.input("weight", name, node.dims, rows=False, time=False)
        elif i not in shared:
            b.origin = node.origin
            new[i] = b.node(node.op, *(new[j] for j in node.inputs), attrs=node.attrs, dims=node.dims, like=node)
        if node.name and i in new:
            b.name(new[i], node.name)
    return Folded(b.graph([replace(output, node=new[output.node]) for output in graph.outputs]), graph, values)
