"""Reads messages of a rosbag2 .db3 file that SQLite refuses, page by page: https://www.sqlite.org/fileformat2.html.

SQLite finds rows from a tree whose upper pages may be lost. Here every page that is a leaf of a table is read by
itself, wherever it lies; rows of the tables `topics` and `messages` are recognised by their columns. A long message
continues in a chain of further pages, and is left out if its chain is broken. SQLite has no checksums, so bytes that
were overwritten inside a page, and leave the chain whole, come out as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hrda_core.data.recordings.salvage.findings import Connection, Findings, Found
from hrda_core.plain_files import open_file

__all__ = ["walk"]

_MAGIC = b"SQLite format 3\0"
_LEAF = 0x0D
_PAGE_SIZE = 4096  # where the head of the file is lost: what rosbag2 and rosbags write
_PAGES_AT_ONCE = 1024
_MOST_READ = 4
"""Times that the bytes of a page, and of all chains of pages, are read. Each belongs to one row; where rows share them,
10 MB would be read as 25 TB."""
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_TYPE = re.compile(r"\w+/msg/\w+")


class _Cell(NamedTuple):
    """A row: length of its record, the part of it that lies in the leaf, first page of the rest (0 = none)."""

    row: int
    size: int
    local: bytes
    overflow: int


def walk(
    path: Path, findings: Findings, wanted: Collection[int] | None = None, place: int | None = None
) -> Iterator[Found]:
    """Yield the messages that are whole, in the order of the file, which is that of recording.

    Args:
        path: .db3 file.
        findings: is kept up to date.
        wanted: numbers of topics; None = all.
        place: read only the message that lies there (`Found.place`).
    """
    with open_file(path) as file:
        pages, broken = _Pages(file), 0
        if place is None:
            findings.damage += pages.damage
        for found in pages.cells() if place is None else pages.cells_at(place):
            cell, where = found
            topic = _topic(cell)
            if topic is not None:
                findings.connections[cell.row] = topic
                continue
            message = _message_head(cell)
            if message is None or (wanted is not None and message[0] not in wanted):
                continue
            number, log_ns, start = message
            record = pages.record(cell)
            if record is None:
                broken += 1
            else:
                yield Found(number, log_ns, record[start:], where)
        if broken:
            findings.damage.append(f"{broken} messages are cut off or overwritten")


class _Pages:
    """The pages of a file. A page's number begins at 1."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._unread = _MOST_READ * self._size
        self.damage: list[str] = []
        head = file.read(100)
        self._page_size, reserved = _PAGE_SIZE, 0
        if len(head) == 100 and head.startswith(_MAGIC):
            size = int.from_bytes(head[16:18], "big")
            self._page_size, reserved = 65536 if size == 1 else size, head[20]
            whole = int.from_bytes(head[28:32], "big") * self._page_size
            if self._size < whole:
                self.damage.append(f"the file ends at byte {self._size} of {whole}")
        else:
            self.damage.append("the file does not begin as SQLite does")
        if self._page_size < 512 or self._page_size & (self._page_size - 1):
            self._page_size = _PAGE_SIZE
        self._usable = self._page_size - reserved

    def cells(self) -> Iterator[tuple[_Cell, int]]:
        """All rows of all tables, each with its place."""
        for first in range(0, -(-self._size // self._page_size), _PAGES_AT_ONCE):
            block = self._read(first * self._page_size, _PAGES_AT_ONCE * self._page_size)
            kinds = bytearray(block[:: self._page_size])
            if first == 0 and len(block) > 100:
                kinds[0] = block[100]  # behind the head of the file
            # A page of a chain begins with the number of the next one: 0x0D would be beyond 890 GB.
            for index in (index for index, kind in enumerate(kinds) if kind == _LEAF):
                page = block[index * self._page_size : (index + 1) * self._page_size]
                yield from self._cells_of(first + index + 1, page)

    def cells_at(self, place: int) -> Iterator[tuple[_Cell, int]]:
        number = place >> 16
        page = self._read((number - 1) * self._page_size, self._page_size)
        return (found for found in self._cells_of(number, page) if found[1] == place)

    def _cells_of(self, number: int, page: bytes) -> Iterator[tuple[_Cell, int]]:
        head = 100 if number == 1 else 0
        count = int.from_bytes(page[head + 3 : head + 5], "big")
        unread = _MOST_READ * self._page_size
        for index in range(min(count, self._page_size // 4)):
            at = head + 8 + 2 * index
            cell = self._cell(page, int.from_bytes(page[at : at + 2], "big"))
            unread -= 0 if cell is None else len(cell.local)
            if cell is not None and unread >= 0:
                yield cell, number << 16 | index

    def _cell(self, page: bytes, at: int) -> _Cell | None:
        try:
            size, at = _varint(page, at)
            row, at = _varint(page, at)
        except IndexError:
            return None
        local = self._local_size(size)
        behind = at + local
        overflow = int.from_bytes(page[behind : behind + 4], "big") if local < size else 0
        whole = len(page) >= behind + (4 if local < size else 0)
        return _Cell(row, size, page[at:behind], overflow) if whole else None

    def _local_size(self, size: int) -> int:
        """Bytes of a record that lie in the leaf itself."""
        if size <= self._usable - 35:
            return size
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self._usable - 4)
        return local if local <= self._usable - 35 else least

    def record(self, cell: _Cell) -> bytes | None:
        """A whole record; None where its chain of pages is broken, or where the chains of all have become too long."""
        if cell.size > self._size:
            return None
        parts, missing, number = [cell.local], cell.size - len(cell.local), cell.overflow
        while missing:
            length = min(missing, self._usable - 4)
            page = self._read((number - 1) * self._page_size, 4 + length) if number else b""
            self._unread -= len(page)
            if len(page) < 4 + length or self._unread < 0:
                return None
            parts.append(page[4:])
            missing -= length
            number = int.from_bytes(page[:4], "big")
        return None if number else b"".join(parts)

    def _read(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        return self._file.read(length)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Number of one to nine bytes, and the position behind it."""
    value = 0
    for index in range(at, at + 8):
        value = value << 7 | data[index] & 0x7F
        if data[index] < 0x80:
            return value, index + 1
    return value << 8 | data[at + 8], at + 9


def _columns(cell: _Cell) -> tuple[list[int], int] | None:
    """Codes of the columns' types and where the first value begins; None where the record is not one."""
    try:
        start, at = _varint(cell.local, 0)
        codes = []
        while at < start:
            code, at = _varint(cell.local, at)
            codes.append(code)
    except IndexError:
        return None
    return (codes, start) if at == start else None


def _message_head(cell: _Cell) -> tuple[int, int, int] | None:
    """Number of the topic, time in ns, and where the data begins; None where the row is of another table."""
    columns = _columns(cell)
    if columns is None or len(columns[0]) != 4:
        return None
    (_, topic, time, data), start = columns
    if columns[0][0] or topic not in _INTEGER_SIZES or time not in _INTEGER_SIZES or data < 12 or data % 2:
        return None
    middle = start + _INTEGER_SIZES[topic]
    end = middle + _INTEGER_SIZES[time]
    if end + (data - 12) // 2 != cell.size or end > len(cell.local):
        return None
    return _integer(topic, cell.local[start:middle]), _integer(time, cell.local[middle:end]), end


def _integer(code: int, data: bytes) -> int:
    return code - 8 if code in (8, 9) else int.from_bytes(data, "big", signed=True)


def _topic(cell: _Cell) -> Connection | None:
    """A row of `topics`: its number, name, type, serialisation format, and more; None where it is of another table."""
    columns = _columns(cell)
    if columns is None or len(columns[0]) < 4 or columns[0][0]:
        return None
    texts, at = [], columns[1]
    for code in columns[0][1:4]:
        if code < 13 or code % 2 == 0:
            return None
        texts.append(cell.local[at : at + (code - 13) // 2].decode("utf-8", "replace"))
        at += (code - 13) // 2
    return Connection(texts[0], texts[1], False) if _TYPE.fullmatch(texts[1]) and texts[2] == "cdr" else None
