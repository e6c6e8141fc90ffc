"""Sums rewritten so that fewer and larger operations remain."""

from __future__ import annotations

from collections import defaultdict

from conveyor.compiler.graph import Builder, Graph, Node, Output


def simplify(graph: Graph) -> Graph:
    """Sums of padded pieces become one `cat`, and sums of matrix products become one `gemm`.

    The first are what backward makes of a `chunk`; the second, what it makes of a value that several gates read.
    """
    users = graph.users()
    ends = {output.node for output in graph.outputs}
    state = depends_on_state(graph)
    b = Builder()
    new: dict[int, int] = {}

    def inner(i: int) -> bool:
        """An addition that only another addition reads: part of a longer sum."""
        return (
            graph.nodes[i].op == "add"
            and i not in ends
            and len(users[i]) == 1
            and graph.nodes[users[i][0]].op == "add"
            and graph.nodes[users[i][0]].dims == graph.nodes[i].dims
        )

    def terms(i: int) -> list[int]:
        return [t for j in graph.nodes[i].inputs for t in (terms(j) if inner(j) else [j])]

    for i, node in enumerate(graph.nodes):
        if inner(i):
            continue
        if node.op == "add":
            new[i] = _sum(b, graph, node, terms(i), new, users, ends, state)
        elif node.op == "matmul":
            new[i] = b.node("gemm", *(new[j] for j in node.inputs), dims=node.dims, like=node)
        else:
            new[i] = b.node(node.op, *(new[j] for j in node.inputs), attrs=node.attrs, dims=node.dims, like=node)
        if node.name:
            b.name(new[i], node.name)
    return b.graph([Output(o.kind, o.name, new[o.node]) for o in graph.outputs])


def depends_on_state(graph: Graph) -> list[bool]:
    found: list[bool] = []
    for node in graph.nodes:
        own = node.op == "input" and node.attrs[0] == "state"
        found.append(own or any(found[j] for j in node.inputs))
    return found


def _sum(
    b: Builder,
    graph: Graph,
    node: Node,
    terms: list[int],
    new: dict[int, int],
    users: list[list[int]],
    ends: set[int],
    state: list[bool],
) -> int:
    """The sum of `terms`: products in one, padded pieces in one, then the rest in order."""
    products: dict[tuple[object, ...], list[int]] = defaultdict(list)
    pads: dict[tuple[object, ...], list[int]] = defaultdict(list)
    rest: list[int] = []
    for t in terms:
        term = graph.nodes[t]
        if term.op == "matmul" and len(users[t]) == 1 and t not in ends:
            # What is known before the loop is not held up by what is not.
            products[term.dims, term.rows, term.time, state[term.inputs[0]]].append(t)
        elif term.op == "pad" and term.attrs[2] == 1:
            pads[term.dims, term.attrs[0], term.rows, term.time].append(t)
        else:
            rest.append(new[t])
    for group in products.values():
        pairs = sorted((new[v], new[w]) for v, w in (graph.nodes[t].inputs for t in group))
        like = graph.nodes[group[0]]
        rest.append(b.node("gemm", *(i for pair in pairs for i in pair), dims=like.dims, like=like))
    for group in pads.values():
        rest.extend(_joined(b, [(graph.nodes[t], new[graph.nodes[t].inputs[0]]) for t in group]))
    total = rest[0]
    for term_ in rest[1:]:
        total = b.add(total, term_)
    return total


def _joined(b: Builder, pieces: list[tuple[Node, int]]) -> list[int]:
    """The sum of padded pieces: one `cat` with zeros in the gaps; those that overlap stay as they are."""
    dim, size = pieces[0][0].attrs[0], pieces[0][0].dims[pieces[0][0].attrs[0]]
    row: list[int] = []
    left: list[int] = []
    at = 0
    for node, value in sorted(pieces, key=lambda piece: (piece[0].attrs[1], piece[1])):
        start, width = node.attrs[1], b.nodes[value].dims[dim]
        if start < at:
            left.append(b.pad(value, dim, start, 1, size))
            continue
        row += [*_gap(b, node, dim, start - at), value]
        at = start + width
    row += _gap(b, pieces[0][0], dim, size - at)
    return [b.cat(row, dim), *left]


def _gap(b: Builder, like: Node, dim: int, size: int) -> list[int]:
    dims = (*like.dims[:dim], size, *like.dims[dim + 1 :])
    return [b.expand(b.const(0.0), dims)] if size else []
