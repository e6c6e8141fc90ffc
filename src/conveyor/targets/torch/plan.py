"""Whether a step is that of `torch.nn`'s RNN, LSTM or GRU, and where the weights of theirs lie in the step's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from conveyor.compiler.distribute import distributed
from conveyor.compiler.gates import Found, Gate, find
from conveyor.compiler.graph import Graph, prune


class Block(NamedTuple):
    """A part of a weight of the step, as some rows of one of `torch.nn`'s: which elements, perhaps the opposite."""

    weight: str
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    negated: bool = False


@dataclass(frozen=True)
class Joined:
    """A weight of `torch.nn`'s: blocks one below the other, of these rows and columns; None for zeros."""

    blocks: tuple[Block | None, ...]
    dims: tuple[int, ...]  # of a block


@dataclass(frozen=True)
class Plan:
    """The function, its weights in its order (biases last but for the projection), and its states among the step's.

    `mode`: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU", as `torch.nn.RNNBase.mode`.
    """

    mode: str
    joined: tuple[Joined, ...]
    has_bias: bool
    states: tuple[int, ...]
    hidden: int
    projected: int = 0

    @property
    def weights(self) -> tuple[str, ...]:
        """The step's weights, each once, in the order of their blocks."""
        blocks = (block for one in self.joined for block in one.blocks if block is not None)
        return tuple(dict.fromkeys(block.weight for block in blocks))


class NotTheirs(Exception):
    """The step is not one of `torch.nn`'s: why."""


GATES = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}  # ONNX's order is i o f c, z r h


def plan(graph: Graph, output: str) -> Plan:
    """How `torch.nn`'s function computes the step and gives the state `output`. Raises NotTheirs."""
    ends = {o.name: o.node for o in graph.outputs if o.kind == "state"}
    if any(ends.get(o.name) != o.node for o in graph.outputs):
        raise NotTheirs("values besides the states")
    states = prune(Graph(graph.nodes, tuple(o for o in graph.outputs if o.kind == "state")))
    apart = distributed(states)
    found = find(apart, output)
    if found is None:
        raise NotTheirs("equations that are not those of torch.nn's RNN, LSTM or GRU")
    return _Planner(apart, found).plan(graph.states)


class _Planner:
    def __init__(self, graph: Graph, found: Found):
        self.nodes, self.found = graph.nodes, found
        self.end = graph.outputs[0].node  # of a single state
        gates = [found.gates[k] for k in GATES[found.op]]
        self.gates = [gate for gate in gates if gate is not None]
        other = found.attributes.get("input_forget") or found.attributes.get("linear_before_reset") == 0
        if other or any(gate.C for gate in self.gates):
            raise NotTheirs("an LSTM or GRU that torch.nn has not (peepholes, coupled gates, reset before the product)")
        if any(len(gate.x) != 1 or len(gate.h) != 1 for gate in self.gates):
            raise NotTheirs("a gate without x or h, or with several matrices for one of them")

    def plan(self, states: Sequence[str]) -> Plan:
        found = self.found
        of_x, of_h = [self.biases(gate) for gate in self.gates], [self.recalled(gate) for gate in self.gates]
        joined = [self.matrix([gate.x[0] for gate in self.gates]), self.matrix([gate.h[0] for gate in self.gates])]
        has_bias = any(block is not None for block in (*of_x, *of_h))
        if has_bias:
            joined += [Joined(tuple(blocks), (found.hidden,)) for blocks in (of_x, of_h)]
        projected = 0
        if found.projection is not None:
            block = self.block(found.projection)
            projected = block.dims[1]
            joined.append(Joined((_transposed(block),), (projected, found.hidden)))
        mode = found.op
        if mode == "RNN":
            self.check_slope_at_zero()
            mode = f"RNN_{found.attributes['activations'][0].upper()}"
        order = tuple(states.index(name) for name in found.states)
        return Plan(mode, tuple(joined), has_bias, order, found.hidden, projected)

    def check_slope_at_zero(self) -> None:
        """A rectifier's is 0, as relu's; that of a maximum or of clamp is not."""
        end = self.nodes[self.end]
        if end.op != "tanh" and (end.op != "where" or self.nodes[end.inputs[0]].op != "le"):
            raise NotTheirs("a rectifier whose slope at 0 is not 0, as that of torch.relu is")

    def matrix(self, nodes: Sequence[int]) -> Joined:
        signed = zip(nodes, self.gates, strict=True)
        blocks = tuple(_signed(_transposed(self.block(i)), gate.negated) for i, gate in signed)
        return Joined(blocks, blocks[0].dims)

    def biases(self, gate: Gate) -> Block | None:
        """The one in bias_ih."""
        return self.bias(gate, gate.bias[:1])

    def recalled(self, gate: Gate) -> Block | None:
        """The one in bias_hh: a GRU's candidate has it within the product with the reset gate."""
        behind = self.found.op == "GRU" and gate is self.gates[2]
        if len(gate.bias) > (1 if behind else 2) or len(gate.recalled) > 1:
            raise NotTheirs("more biases than torch.nn has")
        return self.bias(gate, gate.recalled if behind else gate.bias[1:])

    def bias(self, gate: Gate, nodes: Sequence[int]) -> Block | None:
        if not nodes:
            return None
        block = self.block(nodes[0])
        if block.dims != (self.found.hidden,):
            raise NotTheirs("a bias that is one number for all units")
        return _signed(block, gate.negated)

    def block(self, i: int) -> Block:
        """A node that is some elements of one weight."""
        node = self.nodes[i]
        if node.op == "input" and node.key.kind == "weight":
            return Block(node.key.name, 0, node.dims, _strides(node.dims))
        if node.op not in ("permute", "slice", "reshape"):
            raise NotTheirs(f"a weight that the step computes ({node.op})")
        inner = self.block(node.inputs[0])
        if node.op == "permute":
            dims, strides = (tuple(each[k] for k in node.attrs[0]) for each in (inner.dims, inner.strides))
            return inner._replace(dims=dims, strides=strides)
        if node.op == "slice":
            dim, start, step = node.attrs
            strides = tuple(s * step if k == dim else s for k, s in enumerate(inner.strides))
            return inner._replace(offset=inner.offset + start * inner.strides[dim], dims=node.dims, strides=strides)
        return _reshaped(inner, node.dims)


def _signed(block: Block, negated: bool) -> Block:
    """The block, or its opposite."""
    return block._replace(negated=negated)


def _strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(dims[k + 1 :]) for k in range(len(dims)))


def _transposed(block: Block) -> Block:
    return block._replace(dims=block.dims[::-1], strides=block.strides[::-1])


def _reshaped(block: Block, dims: tuple[int, ...]) -> Block:
    """With dimensions of size 1 taken out or put in; or of elements that lie as the dimensions are."""
    kept = [(d, s) for d, s in zip(block.dims, block.strides, strict=True) if d != 1]
    if [d for d, _ in kept] == [d for d in dims if d != 1]:
        rest = iter(kept)
        return block._replace(dims=dims, strides=tuple(0 if d == 1 else next(rest)[1] for d in dims))
    if [s for _, s in kept] == [s for d, s in zip(block.dims, _strides(block.dims), strict=True) if d != 1]:
        return block._replace(dims=dims, strides=_strides(dims))
    raise NotTheirs("weights that lie in an order of their own")


def only(plans: Sequence[Plan]) -> Plan:
    """What all layers have in common, with a bias if one of them has one. Raises NotTheirs if they differ."""
    first = plans[0]
    for one in plans:
        if (one.mode, one.states, one.hidden, one.projected) != (
            first.mode,
            first.states,
            first.hidden,
            first.projected,
        ):
            raise NotTheirs("layers of different kinds")
    return replace(first, has_bias=any(one.has_bias for one in plans))


def with_bias(plan: Plan) -> Plan:
    """The same function with biases of zeros."""
    if plan.has_bias:
        return plan
    zeros = Joined((None,) * len(plan.joined[0].blocks), (plan.hidden,))
    return replace(plan, joined=(*plan.joined[:2], zeros, zeros, *plan.joined[2:]), has_bias=True)
