"""Finds the nodes of an ONNX graph that an ideal engine runs as one op, by the rules of `graph_ops.py`. Needs onnx."""

from __future__ import annotations

from onnx import NodeProto, helper

from hrda_core.bench.graph_flops import MATH_OPS
from hrda_core.bench.graph_readers import ELEMENTWISE, Readers
from hrda_core.bench.graph_shapes import StaticGraph

__all__ = ["fused_groups"]


def fused_groups(graph: StaticGraph, readers: Readers) -> list[list[int]]:
    """Return the numbers of the nodes of each op, in the order in which ops begin.

    Views and concatenations are in no group. Casts that are no epilogue become views of `readers`.
    """
    return _Fusion(graph, readers).groups()


class _Fusion:
    def __init__(self, graph: StaticGraph, readers: Readers) -> None:
        self._nodes, self._tensors, self._readers = graph.nodes, graph.tensors, readers
        self._groups: list[list[int]] = []
        self._group_of: dict[int, int] = {}

    def groups(self) -> list[list[int]]:
        attention = self._find_attention()
        for number, node in enumerate(self._nodes):
            if number in attention:
                if number == attention[number][-1]:
                    self._begin(attention[number])
            elif node.op_type in ELEMENTWISE:
                self._take_elementwise(number)
            elif number not in self._readers.views and node.op_type != "Concat":
                self._take_other(number)
        return self._groups

    def _begin(self, members: list[int]) -> None:
        self._group_of.update(dict.fromkeys(members, len(self._groups)))
        self._groups.append(members)

    def _join(self, number: int, group: int) -> None:
        self._groups[group].append(number)
        self._group_of[number] = group

    def _take_elementwise(self, number: int) -> None:
        """Into the op that makes an operand of the same size and has no other reader, or on its own."""
        node = self._nodes[number]
        values = self._tensors[node.output[0]].values
        for name in self._readers.data(node):
            root = self._readers.root(name)
            if self._tensors[root].values == values and (group := self._only_read_here(root)) is not None:
                self._join(number, group)
                return
        if node.op_type in ("Cast", "CastLike"):
            self._readers.views.add(number)
        else:
            self._begin([number])

    def _take_other(self, number: int) -> None:
        """On its own, or together with elementwise nodes that feed it alone."""
        node = self._nodes[number]
        first = self._readers.data(node)[:1] if node.op_type not in MATH_OPS else []
        for name in first:
            group = self._only_read_here(self._readers.root(name))
            if group is not None and all(self._nodes[member].op_type in ELEMENTWISE for member in self._groups[group]):
                self._join(number, group)
                return
        self._begin([number])

    def _only_read_here(self, name: str) -> int | None:
        """The group that makes a tensor, if the tensor has one reader and the group gives nothing else.

        Then no other operand of that reader can depend on the group, and the reader can become part of it.
        """
        maker = self._readers.maker.get(name)
        group = None if maker is None else self._group_of.get(maker)
        if group is None or self._readers.reads(name) != 1:
            return None
        members = self._groups[group]
        outputs = [out for member in members for out in self._nodes[member].output if out]
        return group if sum(self._readers.leaves(out, members) for out in outputs) == 1 else None

    def _find_attention(self) -> dict[int, list[int]]:
        """Every node that belongs to a MatMul, Softmax, MatMul chain, with all members of the chain in order."""
        found: dict[int, list[int]] = {}
        for number, node in enumerate(self._nodes):
            if node.op_type == "Softmax" and self._over_last_axis(node):
                before, after = self._chain_up(number), self._chain_down(number)
                if before and after:
                    members = [*before, number, *after]
                    found.update(dict.fromkeys(members, members))
        return found

    def _chain_up(self, number: int) -> list[int]:
        """From the MatMul that makes the scores to the node before `number`; empty where it is no such chain."""
        chain: list[int] = []
        node = self._nodes[number]
        while True:
            values = self._tensors[node.output[0]].values
            names = [name for name in self._readers.data(node) if self._tensors[name].values == values]
            roots = [self._readers.root(name) for name in names]
            made = [root for root in roots if root in self._readers.maker and self._readers.reads(root) == 1]
            if not made:
                return []
            chain.insert(0, self._readers.maker[made[0]])
            node = self._nodes[chain[0]]
            if node.op_type not in ELEMENTWISE:
                return chain if node.op_type == "MatMul" else []

    def _chain_down(self, number: int) -> list[int]:
        """From the node after `number` to the MatMul that weights the values; empty where it is no such chain."""
        chain: list[int] = []
        node = self._nodes[number]
        while True:
            root = node.output[0]
            readers = self._readers.final_readers(root)
            if len(readers) != 1 or self._readers.is_output(root):
                return []
            chain.append(readers[0])
            node = self._nodes[readers[0]]
            if node.op_type not in ELEMENTWISE:
                fits = node.op_type == "MatMul" and self._readers.root(node.input[0]) == root
                return chain if fits else []

    def _over_last_axis(self, node: NodeProto) -> bool:
        axis = next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "axis"), -1)
        return axis in (-1, len(self._tensors[node.output[0]].shape) - 1)
