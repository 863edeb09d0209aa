"""Finds divisions of whole numbers in an ONNX graph by what may be 0 or -1.

Processors have no answer to the first, nor to the smallest number divided by -1, and end the process (SIGFPE): loaders
do not look, and carry out what depends on no input while they load. Graphs of hrda divide whole numbers by constants
above 0 alone, so all else is refused: by a computed number, and where the kind of the numbers cannot be told.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from hrda_core.errors import shown
from hrda_core.inference.protocol_buffers import all_fields, varint

__all__ = ["unsafe_divisions"]

_FLOATS = frozenset({1, 10, 11, 16})
_WHOLE = {2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 12: "u4", 13: "u8"}
"""Kinds of tensors (TensorProto.DataType): floating point; whole numbers, as numpy spells them."""
_FLOAT, _UINT8, _INT32, _INT64, _BOOL = 1, 2, 6, 7, 9

_KIND_OF = {
    **dict.fromkeys(("Shape", "Size", "NonZero", "ArgMax", "ArgMin", "NonMaxSuppression", "SequenceLength"), _INT64),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"), _BOOL),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "Multinomial"), _INT32),
    "DynamicQuantizeLinear": _UINT8,
}
"""Operators that always give one kind."""
_KIND_OF_INPUT = {"CastLike": 1, "DequantizeLinear": 1, "Where": 1, "OneHot": 2, "QuantizeLinear": 2}
_KIND_OF_INPUT |= {"QLinearConv": 7, "QLinearMatMul": 7}
"""Operators that give the kind of another input than their first."""
_KIND_IN_ATTRIBUTE = (b"to", b"dtype", b"output_dtype", b"output_datatype")
_KIND_BY_ATTRIBUTE = {b"value_int": _INT64, b"value_ints": _INT64, b"value_float": _FLOAT, b"value_floats": _FLOAT}
_STANDARD = (b"", b"ai.onnx")
_SECOND_GIVES_PLACES = ("MaxPool", "TopK", "Unique")
_PASSES = 20
"""Nodes stand in the order of their computation; loaders take them in any, and a kind is then known a pass later."""
_LONGEST_CONSTANT = 1 << 12


@dataclass(frozen=True)
class _Value:
    """What is known of a value: its kind, 0 = nothing, and whether it is a constant above 0 in every place."""

    kind: int = 0
    above_zero: bool = False


@dataclass
class _Node:
    operator: str = ""
    domain: bytes = b""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    kind: int = 0
    tensor: _Value | None = None
    graphs: list[tuple[int, int]] = field(default_factory=list)


def unsafe_divisions(data: bytes) -> Iterator[str]:
    """Yield a clause on each division of whole numbers by what may be 0 or -1.

    Args:
        data: an ONNX file, whose branches are not too deep.

    Raises:
        IndexError, ValueError: it is no such file.
    """
    for number, kind, begin, stop in all_fields(data, 0, len(data)):
        if (number, kind) == (7, 2):
            yield from _in_graph(data, begin, stop, ChainMap())


def _in_graph(data: bytes, start: int, end: int, outer: ChainMap[bytes, _Value]) -> Iterator[str]:
    known, nodes, constants = outer.new_child(), list[_Node](), dict[bytes, _Value]()
    for number, kind, begin, stop in all_fields(data, start, end):
        if kind != 2:
            continue
        if number == 1:
            nodes.append(_node(data, begin, stop))
        elif number == 5:
            name, value = _tensor(data, begin, stop)
            known[name] = value if constants.setdefault(name, value) == value else _Value()  # which counts is not said
        elif number == 11:
            name, value = _input(data, begin, stop)
            known.setdefault(name, value)  # an initializer is one too, in older versions
    for _ in range(_PASSES):
        new = False
        for node in nodes:
            for name, value in _outputs(node, known).items():
                new |= known.get(name) != value
                known[name] = value
        if not new:
            break
    for node in nodes:
        if node.operator in ("Div", "Mod") and node.domain in _STANDARD:
            yield from _refusal(node, known)
        for begin, stop in node.graphs:
            yield from _in_graph(data, begin, stop, known)


def _refusal(node: _Node, known: Mapping[bytes, _Value]) -> Iterator[str]:
    values = [known.get(name, _Value()) for name in node.inputs]
    if len(values) == 2 and not values[1].above_zero and not any(value.kind in _FLOATS for value in values):
        name = shown(node.outputs[0].decode("utf-8", "replace") if node.outputs else "")
        yield f"divides whole numbers by what is no constant above 0 ('{name}')"


def _outputs(node: _Node, known: Mapping[bytes, _Value]) -> dict[bytes, _Value]:
    """What a node gives, as far as that is known."""
    values = [known.get(name, _Value()) for name in node.inputs]
    place = _KIND_OF_INPUT.get(node.operator, 0)
    value = _Value(values[place].kind if place < len(values) else 0)
    if node.domain not in _STANDARD or node.graphs:
        value = _Value()
    elif node.operator == "Identity" and values:
        value = values[0]
    elif node.operator == "Constant":
        value = node.tensor or _Value(node.kind)
    elif node.operator == "ConstantOfShape":
        value = _Value(node.tensor.kind if node.tensor else _FLOAT)
    elif node.operator in _KIND_OF:
        value = _Value(_KIND_OF[node.operator])
    elif node.kind:
        value = _Value(node.kind)
    elif node.operator == "QuantizeLinear" and len(values) < 3:
        value = _Value(_UINT8)
    given = dict.fromkeys(node.outputs, value)
    if node.operator in _SECOND_GIVES_PLACES:
        given |= dict.fromkeys(node.outputs[1:], _Value(_INT64))
    return given


def _node(data: bytes, start: int, end: int) -> _Node:
    node = _Node()
    for number, kind, begin, stop in all_fields(data, start, end):
        if kind != 2:
            continue
        if number == 1:
            node.inputs.append(data[begin:stop])
        elif number == 2:
            node.outputs.append(data[begin:stop])
        elif number == 4:
            node.operator = data[begin:stop].decode("utf-8")
        elif number == 7:
            node.domain = data[begin:stop]
        elif number == 5:
            _note_attribute(node, data, begin, stop)
    return node


def _note_attribute(node: _Node, data: bytes, start: int, end: int) -> None:
    name, whole = b"", 0
    for number, kind, begin, stop in all_fields(data, start, end):
        if (number, kind) == (1, 2):
            name = data[begin:stop]
        elif (number, kind) == (3, 0):
            whole, _ = varint(data, begin)
        elif (number, kind) == (5, 2):
            _, node.tensor = _tensor(data, begin, stop)
        elif (number, kind) in ((6, 2), (11, 2)):
            node.graphs.append((begin, stop))
    if name in _KIND_IN_ATTRIBUTE:
        node.kind = whole
    elif name in _KIND_BY_ATTRIBUTE:
        node.kind = _KIND_BY_ATTRIBUTE[name]


def _input(data: bytes, start: int, end: int) -> tuple[bytes, _Value]:
    """Name and kind of an input: ValueInfoProto, in it TypeProto, in it its tensor's."""
    name, value = b"", _Value()
    for number, kind, begin, stop in all_fields(data, start, end):
        if (number, kind) == (1, 2):
            name = data[begin:stop]
        elif (number, kind) == (2, 2):
            for inner, _, first, last in all_fields(data, begin, stop):
                if inner == 1:
                    whole = [varint(data, at)[0] for entry, _, at, _ in all_fields(data, first, last) if entry == 1]
                    value = _Value(whole[-1] if whole else 0)
    return name, value


def _tensor(data: bytes, start: int, end: int) -> tuple[bytes, _Value]:
    """Name of a constant, and what it is."""
    name, kind_of, content, listed = b"", 0, b"", list[int]()
    for number, kind, begin, stop in all_fields(data, start, end):
        if (number, kind) == (2, 0):
            kind_of, _ = varint(data, begin)
        elif (number, kind) == (8, 2):
            name = data[begin:stop]
        elif (number, kind) == (9, 2):
            content = data[begin : min(stop, begin + 8 * _LONGEST_CONSTANT + 1)]
        elif number in (5, 7, 11):
            listed += islice(_numbers(data, kind, begin, stop), max(0, _LONGEST_CONSTANT + 1 - len(listed)))
    return name, _Value(kind_of, _is_above_zero(kind_of, content, listed))


def _numbers(data: bytes, kind: int, begin: int, stop: int) -> Iterator[int]:
    """Numbers of a field, one or packed, as they are written: those below 0 from 2^63 on."""
    while begin < stop and kind in (0, 2):
        value, begin = varint(data, begin)
        yield value


def _is_above_zero(kind: int, content: bytes, listed: list[int]) -> bool:
    if kind not in _WHOLE or len(content) > 8 * _LONGEST_CONSTANT or len(listed) > _LONGEST_CONSTANT:
        return False
    if content:
        values = np.frombuffer(content, f"<{_WHOLE[kind]}")
        return bool((values > 0).all())
    return bool(listed) and all(0 < value <= np.iinfo(_WHOLE[kind]).max for value in listed)
