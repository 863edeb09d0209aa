"""Reads the wire format of protocol buffers, without the package of that name, which robots need not have."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Field", "all_fields", "varint"]

Field = tuple[int, int, int, int]
"""Number and wire type of a field, begin and end of its value; wire type 0 = a number, 2 = with a length."""


def all_fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message that lies between two positions.

    Raises:
        IndexError, ValueError: it is no such message.
    """
    position = start
    while position < end:
        tag, begin = varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, position = varint(data, begin)
        elif kind == 1:
            position = begin + 8
        elif kind == 5:
            position = begin + 4
        elif kind == 2:
            length, begin = varint(data, begin)
            position = begin + length
        else:
            raise ValueError(f"wire type {kind}")
        if position > end:
            raise ValueError("a field is longer than its message")
        yield number, kind, begin, position


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a base-128 number and the position after it.

    Raises:
        IndexError, ValueError: there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
