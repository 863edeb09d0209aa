"""How much a pickle holds, told from its opcodes, before anything is made of them.

A few bytes can name a tuple of two equal tuples of two equal tuples and so on. It takes no memory, but whoever asks for
its hash, as a dictionary does with a key, goes through all of its 2^n values and does not come back.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hrda_core.errors import CheckpointError
from hrda_core.plain_files import open_file

__all__ = ["check_extent"]

_MOST_VALUES = 100_000_000
"""Hashing so many takes seconds; a checkpoint of a thousand tensors has some hundred thousand."""

_OLD_STYLE_PICKLES = 5  # magic number, version, machine, content, names of the storages
_IN_PLACE = frozenset(["APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"])


@dataclass
class _Value:
    """A value on the stack: `extent` is the number of values in it, each as often as it is reached."""

    extent: int = 1


def check_extent(file: Path, *, zipped: bool) -> None:
    """Refuse a PyTorch file whose values, each counted as often as it is reached, are too many to go through.

    Args:
        file: a file that `torch.save` wrote, or that claims to be one.
        zipped: whether it is a zip archive, as PyTorch writes since 1.6.

    Raises:
        CheckpointError: they are too many.
        Exception: the file is damaged; `pickletools` and `zipfile` raise whatever the damage provokes.
    """
    for stream in _pickles(file, zipped):
        if _extent(stream) > _MOST_VALUES:
            raise CheckpointError(
                f"checkpoint '{file}' holds values within one another that come to more than {_MOST_VALUES:,}, which "
                f"no training code writes; nothing was read, do not use this file"
            )


def _pickles(file: Path, zipped: bool) -> Iterator[IO[bytes]]:
    if not zipped:
        with open_file(file) as stream:
            for _ in range(_OLD_STYLE_PICKLES):
                yield stream
        return
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():  # not by name, of which there may be two
            if entry.filename.lower().endswith(".pkl"):
                with archive.open(entry) as stream:
                    yield stream


def _extent(stream: IO[bytes]) -> int:
    """Number of values that one pickle puts on its stack, until they are too many; reads up to its end."""
    total, stack, marks = 0, list[_Value](), list[int]()
    memo: dict[int, _Value] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name, place = opcode.name, argument if isinstance(argument, int) else -1
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else place] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[place])
            total += stack[-1].extent
        elif name == "DUP":
            stack.append(stack[-1])
            total += stack[-1].extent
        else:
            taken = _taken(opcode, stack, marks)
            if name in _IN_PLACE:
                value, added = taken[0], sum(other.extent for other in taken[1:])
                value.extent += added
                stack.append(value)
                total += added
            elif opcode.stack_after:
                stack.append(_Value(1 + sum(other.extent for other in taken)))
                total += stack[-1].extent
        if total > _MOST_VALUES:
            break
    return total


def _taken(opcode: pickletools.OpcodeInfo, stack: list[_Value], marks: list[int]) -> list[_Value]:
    """Take from the stack what the opcode takes: so many values, or all above the last mark and so many below it."""
    before = opcode.stack_before
    if opcode.name == "POP" and marks and marks[-1] == len(stack):
        marks.pop()
        return []
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    else:
        start = len(stack) - len(before)
    if start < 0:
        raise ValueError("a value is missing")
    taken = stack[start:]
    del stack[start:]
    return taken
