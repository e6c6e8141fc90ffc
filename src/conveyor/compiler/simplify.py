"""Rewrites sums into fewer and larger operations."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from conveyor.compiler.conditions import conditions_of, depends
from conveyor.compiler.graph import Builder, Graph, Node


def simplify(graph: Graph, over_time: bool = True) -> Graph:
    """Turns sums of padded pieces into one `cat`, and sums of matrix products into one `gemm`.

    `over_time`: products that need no state are kept apart, since they leave the loop over time.

    The backward pass produces the former for a `chunk`, and the latter for a value that several gates read.
    """
    s = _Simplifier(graph, over_time)
    for i in range(len(graph.nodes)):
        if not s.is_inner(i):
            s.add(i)
    return s.b.graph([replace(o, node=s.new[o.node]) for o in graph.outputs])


class _Simplifier:
    """Builds the new graph; `new` maps the nodes of the old graph to it."""

    def __init__(self, graph: Graph, over_time: bool):
        self.graph, self.users = graph, graph.users()
        self.waiting = depends(graph, "state") if over_time else [False] * len(graph.nodes)
        self.conditions = conditions_of(graph)
        self.ends = {output.node for output in graph.outputs}
        self.b = Builder()
        self.new: dict[int, int] = {}

    def is_inner(self, i: int) -> bool:
        """Whether node i is an addition that only another addition reads, and so part of a longer sum."""
        node = self.graph.nodes[i]
        if node.op != "add" or not self.is_read_once(i):
            return False
        user = self.graph.nodes[self.users[i][0]]
        return user.op == "add" and user.dims == node.dims

    def is_read_once(self, i: int) -> bool:
        return len(self.users[i]) == 1 and i not in self.ends

    def add(self, i: int) -> None:
        node = self.graph.nodes[i]
        self.b.origin = node.origin and node.origin.rewritten
        if node.op == "add":
            self.new[i] = self.sum(self.terms(i))
        else:
            op = "gemm" if node.op == "matmul" else node.op
            inputs = (self.new[j] for j in node.inputs)
            self.new[i] = self.b.node(op, *inputs, attrs=node.attrs, dims=node.dims, like=node)
        if node.name:
            self.b.name(self.new[i], node.name)

    def terms(self, i: int) -> list[int]:
        """The terms of the sum at node i, in order."""
        found, todo = [], [i]
        while todo:
            j = todo.pop()
            if j == i or self.is_inner(j):
                todo += reversed(self.graph.nodes[j].inputs)
            else:
                found.append(j)
        return found

    def sum(self, terms: list[int]) -> int:
        """Adds up the other terms in order, then the products as gemms, then the padded pieces as cats."""
        products: dict[tuple[object, ...], list[int]] = defaultdict(list)
        pads: dict[tuple[object, ...], list[int]] = defaultdict(list)
        found: list[int] = []
        for t in terms:
            term = self.graph.nodes[t]
            if term.op == "matmul" and self.is_read_once(t):
                # Group only products that run together: all before or all in the loop over time, under one condition.
                waiting, condition = self.waiting[term.inputs[0]], self.conditions.get(t)
                products[term.dims, term.rows, term.time, waiting, condition].append(t)
            elif term.op == "pad" and term.attrs[2] == 1:
                pads[term.dims, term.attrs[0], term.rows, term.time].append(t)
            else:
                found.append(self.new[t])
        found += [self.gemm(group) for group in products.values()]
        found += [piece for group in pads.values() for piece in self.joined(group)]
        total = found[0]
        for term_ in found[1:]:
            total = self.b.add(total, term_)
        return total

    def gemm(self, products: list[int]) -> int:
        pairs = sorted((self.new[v], self.new[w]) for v, w in (self.graph.nodes[t].inputs for t in products))
        like = self.graph.nodes[products[0]]
        return self.b.node("gemm", *(i for pair in pairs for i in pair), dims=like.dims, like=like)

    def joined(self, pads: list[int]) -> list[int]:
        """The sum of padded pieces as one `cat` with zeros in the gaps; overlapping pieces stay padded."""
        pieces = [(self.graph.nodes[t], self.new[self.graph.nodes[t].inputs[0]]) for t in pads]
        like = pieces[0][0]
        dim, size = like.attrs[0], like.dims[like.attrs[0]]
        row: list[int] = []
        left: list[int] = []
        at = 0
        for node, value in sorted(pieces, key=lambda piece: (piece[0].attrs[1], piece[1])):
            start, width = node.attrs[1], self.b.nodes[value].dims[dim]
            if start < at:
                left.append(self.b.pad(value, dim, start, 1, size))
                continue
            row += [*self.gap(like, dim, start - at), value]
            at = start + width
        row += self.gap(like, dim, size - at)
        return [self.b.cat(row, dim), *left]

    def gap(self, like: Node, dim: int, size: int) -> list[int]:
        dims = (*like.dims[:dim], size, *like.dims[dim + 1 :])
        return [self.b.expand(self.b.const(0.0), dims)] if size else []
