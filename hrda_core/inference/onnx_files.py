"""Finds what an ONNX file refers to on disk and which versions it asks for, without the `onnx` package.

Robots do not have that package. Weights may lie outside the file ("external data"). A path that leaves the model's
folder would make a loader read any file of the machine, so it is refused before a loader sees the graph. So is a graph
that repeats a part of itself: it may never end, and loaders run what depends on no input already while they load. A
function repeats what it holds at each call, and thirty that call each other twice are a billion nodes to a loader; so
are thirty branches in each other. A location may also stand for an address in memory, which a loader would read, and a
division of whole numbers may end the process (`onnx_divisions.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hrda_core.errors import BundleError, shown
from hrda_core.inference.onnx_divisions import unsafe_divisions
from hrda_core.inference.protocol_buffers import all_fields, varint
from hrda_core.plain_files import is_file, open_file

__all__ = ["external_files", "onnx_sha256", "onnx_versions", "stays_inside"]

Result = TypeVar("Result")

# Field numbers of the protocol buffer messages on the way from a model to its tensors (onnx.proto3).
_CHILDREN = {
    "Model": {7: "Graph", 20: "Training"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {},
}
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_NODE_OPERATOR = 4
_ATTRIBUTE_GRAPHS = (6, 11)
_MODEL_IR_VERSION, _MODEL_OPSET, _OPSET_DOMAIN, _OPSET_VERSION = 1, 8, 1, 2
_MODEL_FUNCTION = 25
_MAX_DEPTH, _LARGEST = 100, (1 << 31) - 1  # as in protocol buffer parsers
_MAX_GRAPH_DEPTH = 16  # five branches in each other, each of which is three messages deep
_NEWEST_OPSET = 1000
"""OpenVINO goes through the versions up to the one that a graph asks for. There are fewer than 30."""


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside `path` that hold weights of this ONNX graph, sorted; none for a graph in one file.

    Raises:
        BundleError: it is no ONNX file, an external file is missing or outside the folder of `path`, or the graph
            repeats a part of itself, or asks for what would keep a loader busy for ever or end the process.
    """
    found = set()
    locations, refused = _read(path, _look)
    if refused:
        raise BundleError(
            f"ONNX graph '{path}' {refused[0]}, as no graph of hrda does; do not use this bundle, or export it again "
            f"with 'hrda export'"
        )
    for location in locations:
        target = path.parent / location
        if not stays_inside(location):
            raise BundleError(
                f"ONNX graph '{path}' keeps weights in '{shown(location)}', outside its own folder; do not use "
                f"this bundle, or export it again with 'hrda export'"
            )
        if not is_file(target):
            raise BundleError(
                f"ONNX graph '{path}' needs the file '{shown(location)}', which is missing; copy the bundle again"
            )
        found.add(target)
    return tuple(sorted(found))


def onnx_versions(path: Path) -> tuple[int, int]:
    """Return the version of the operator set `ai.onnx` and the IR version of an ONNX file; 0 where it does not say.

    Raises:
        BundleError: the file is not an ONNX file, or cannot be read.
    """
    return _read(path, _versions)


def stays_inside(name: str) -> bool:
    """Return whether a file name, relative to a folder, names something below that folder, judged by its text alone.

    Links are not resolved, because a build that links each installed file to its source is right.
    """
    return bool(name) and "\0" not in name and not name.startswith("/") and ".." not in PurePosixPath(name).parts


def onnx_sha256(path: Path) -> str:
    """Return the sha256 over an ONNX file and the files that hold its weights, in hex.

    Raises:
        BundleError: see `external_files`.
    """
    digest = hashlib.sha256()
    for part in (path, *external_files(path)):
        digest.update(f"{part.name}\0{part.stat().st_size}\0".encode())
        with open_file(part) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _look(data: bytes) -> tuple[list[str], list[str]]:
    """The values of all `location` entries, and clauses on what no loader must see."""
    refused: list[str] = []
    opset, _ = _versions(data)
    if opset > _NEWEST_OPSET:
        refused.append(f"asks for operator set {opset}")
    locations = list(_locations(data, 0, len(data), "Model", 0, refused))
    refused += [f"keeps weights at an address in memory ('{shown(name)}')" for name in locations if "*" in name][:1]
    return locations, refused or list(islice(unsafe_divisions(data), 1))


def _read(path: Path, reader: Callable[[bytes], Result]) -> Result:
    try:
        with open_file(path) as file:  # not mapped: a file that is cut off meanwhile would end the process by SIGBUS
            data = file.read(min(os.fstat(file.fileno()).st_size, _LARGEST + 1))  # it takes what it is told at once
        if not 0 < len(data) <= _LARGEST:
            raise ValueError("a protocol buffer has 1 byte to 2 GiB")
        return reader(data)
    except OSError as error:
        raise BundleError(f"cannot read ONNX graph '{path}' ({error.strerror}); copy the bundle again") from None
    except (IndexError, ValueError):
        raise BundleError(f"cannot load '{path}': it is not an ONNX graph; export the bundle again") from None


def _versions(data: bytes) -> tuple[int, int]:
    opset = ir_version = 0
    for number, kind, begin, stop in all_fields(data, 0, len(data)):
        if (number, kind) == (_MODEL_IR_VERSION, 0):
            ir_version, _ = varint(data, begin)
        elif (number, kind) == (_MODEL_OPSET, 2):
            entry = {field: (first, last) for field, _, first, last in all_fields(data, begin, stop)}
            first, last = entry.get(_OPSET_DOMAIN, (0, 0))
            if data[first:last] in (b"", b"ai.onnx") and _OPSET_VERSION in entry:
                opset = max(opset, varint(data, entry[_OPSET_VERSION][0])[0])  # which one counts, loaders differ in
    return opset, ir_version


def _locations(data: bytes, start: int, end: int, message: str, depth: int, refused: list[str]) -> Iterator[str]:
    """Values of all `location` entries below one message; appends to `refused`."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if message == "Entry":
        fields = {number: data[begin:stop] for number, begin, stop in _fields(data, start, end)}
        if fields.get(_ENTRY_KEY) == b"location":
            yield fields.get(_ENTRY_VALUE, b"").decode("utf-8")
        return
    if message == "Node":
        refused += [f"repeats a part of itself ({what}) and may never end" for what in _repeats(data, start, end)]
    if message == "Graph" and depth > _MAX_GRAPH_DEPTH:
        refused.append("has branches in branches")
        return
    for number, begin, stop in _fields(data, start, end):
        if (message, number) == ("Model", _MODEL_FUNCTION):
            refused.append("repeats a part of itself (a function) and may never end")
        if child := _CHILDREN[message].get(number):
            yield from _locations(data, begin, stop, child, depth + 1, refused)


def _repeats(data: bytes, start: int, end: int) -> Iterator[str]:
    """The node's operator, if the node has graphs of its own and is not `If`, which runs one of them once."""
    operator, graphs = "", False
    for number, begin, stop in _fields(data, start, end):
        if number == _NODE_OPERATOR:  # where it stands twice, the last counts, as for loaders
            operator = data[begin:stop].decode("utf-8")
        elif _CHILDREN["Node"].get(number) == "Attribute":
            graphs = graphs or any(inner in _ATTRIBUTE_GRAPHS for inner, _, _ in _fields(data, begin, stop))
    if graphs and operator != "If":
        yield f"operator '{operator}'"


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, begin, end) of the fields of a message that have a length: strings and messages."""
    return ((number, begin, stop) for number, kind, begin, stop in all_fields(data, start, end) if kind == 2)
