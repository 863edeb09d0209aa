"""Finds who makes and who reads each tensor of a static ONNX graph, looking through nodes that only change its view.

Needs onnx.
"""

from __future__ import annotations

from collections import defaultdict

from onnx import NodeProto

from hrda_core.bench.graph_shapes import StaticGraph

__all__ = ["ELEMENTWISE", "REDUCTIONS", "VIEWS", "Readers"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names("""
    Abs Add And BatchNormalization Cast CastLike Ceil Clip Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear
    Reciprocal Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Sub Sum Swish Tanh Where Xor
""")
"""Each value of the result comes from one value of each operand (broadcasting apart)."""

REDUCTIONS = _names("""
    ArgMax ArgMin GlobalAveragePool ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""")
"""Each value of the operand is looked at once."""

VIEWS = _names("""
    DepthToSpace DequantizeLinear Dropout Expand Flatten Identity Reshape Slice SpaceToDepth Split Squeeze Transpose
    Unsqueeze
""")
"""The same values in other places, or in another format while they are read."""


class Readers:
    """Makers and readers of tensors. Nodes are named by their number in `graph.nodes`.

    Attributes:
        maker: tensor -> node that makes it; inputs of the graph have none.
        views: nodes that only change the view of their first input. `Resize` is one where every reader interpolates
            on the way; users may add to it.
    """

    def __init__(self, graph: StaticGraph) -> None:
        self._graph, self._nodes = graph, graph.nodes
        self.maker = {name: number for number, node in enumerate(self._nodes) for name in node.output if name}
        self.views: set[int] = set()
        self._direct: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(self._nodes):
            for name in self.data(node):
                self._direct[name].append(number)
        for number in range(len(self._nodes) - 1, -1, -1):  # backwards: a resize needs to know its readers
            node = self._nodes[number]
            if node.op_type in VIEWS or (node.op_type == "Resize" and self._read_on_the_way(node)):
                self.views.add(number)

    def data(self, node: NodeProto) -> list[str]:
        """Return the inputs of a node that are not constant."""
        return [name for name in node.input if name and name not in self._graph.constants]

    def root(self, name: str) -> str:
        """Return the tensor behind a view."""
        while (number := self.maker.get(name)) is not None and number in self.views:
            name = self._nodes[number].input[0]
        return name

    def final_readers(self, name: str) -> list[int]:
        """Return the nodes that read a tensor, itself or as a view; a node that reads it twice is listed twice."""
        found: list[int] = []
        for number in self._direct[name]:
            node = self._nodes[number]
            if number in self.views and node.input[0] == name:
                found += [reader for out in node.output for reader in self.final_readers(out)]
            else:
                found.append(number)
        return found

    def is_output(self, name: str) -> bool:
        """Return whether the graph outputs a tensor, itself or as a view."""
        views = [self._nodes[number] for number in self._direct[name] if number in self.views]
        return name in self._graph.outputs or any(self.is_output(out) for node in views for out in node.output)

    def leaves(self, name: str, members: list[int]) -> bool:
        """Return whether a tensor is needed outside a group of nodes."""
        return self.is_output(name) or any(reader not in members for reader in self.final_readers(name))

    def reads(self, name: str) -> int:
        """Return how often a tensor is read, itself or as a view; being an output of the graph counts as one."""
        return len(self.final_readers(name)) + self.is_output(name)

    def _read_on_the_way(self, node: NodeProto) -> bool:
        kinds = [self._nodes[number].op_type for number in self.final_readers(node.output[0])]
        return not self.is_output(node.output[0]) and all(kind in ELEMENTWISE | REDUCTIONS for kind in kinds)
