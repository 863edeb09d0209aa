"""Reads messages of a ROS 1 .bag file (format 2.0) that is cut off, overwritten, or has no index (.bag.active).

The format has no checksums: a message that was overwritten, and whose neighbours are whole, comes out as it is. Where
no record begins where one should, the next chunk is searched for, or the next message inside a chunk.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hrda_core.data.recordings.salvage.findings import Connection, Findings, Found, normal_type
from hrda_core.data.recordings.salvage.unpacking import unpack
from hrda_core.plain_files import open_file

__all__ = ["walk"]

_MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _BAG_HEADER, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 5, 6, 7
_LONGEST_HEADER = 1 << 16
_CHUNK_SIGN = re.compile(rb"compression=(none|bz2|lz4)")
# The header of a message has fields of fixed length: conn, op and time.
_MESSAGE_SIGN = re.compile(rb"\x26\x00\x00\x00(?=[\x04\x09\x0d]\x00\x00\x00)")
_LONGEST_CHUNK_HEADER = 128  # three fields; it is looked for where anything may lie
_FIRST_BLOCK, _BLOCK, _OVERLAP = 1 << 12, 1 << 22, 64

Read = Callable[[int, int], bytes]
"""Position, length -> bytes, fewer at the end."""


class _Record(NamedTuple):
    """A record: its fields, and where its data lies. The data may be cut off."""

    op: int
    fields: dict[bytes, bytes]
    start: int
    end: int


def walk(
    path: Path, findings: Findings, wanted: Collection[int] | None = None, place: int | None = None
) -> Iterator[Found]:
    """Yield the messages that are whole, in the order of the file; those of a chunk by time.

    Args:
        path: .bag file.
        findings: is kept up to date. Fill in `connections` to read at a place.
        wanted: numbers of connections; None = all.
        place: read only the chunk that lies there (`Found.place`).
    """
    with open_file(path) as file:
        bag = _Walk(file, findings)
        for found in bag.all_messages() if place is None else bag.chunk_messages(place):
            if wanted is None or found.connection in wanted:
                yield found


class _Walk:
    def __init__(self, file: BinaryIO, findings: Findings) -> None:
        self._file, self._findings = file, findings
        self._size = os.fstat(file.fileno()).st_size

    def all_messages(self) -> Iterator[Found]:
        position = len(_MAGIC)
        if self._read(0, position) != _MAGIC:
            self._findings.damage.append("the file does not begin as a ROS 1 recording does")
        self._read_index(position)
        while position < self._size:
            record = _parse(self._read, position)
            if record is not None and record.op == _CHUNK:
                yield from self.chunk_messages(position)
            if record is not None and record.end <= self._size:
                if record.op == _CONNECTION:
                    self._learn(record, self._read)
                position = record.end
                continue
            following = self._find_chunk(position + 1)
            if following is None:
                self._findings.damage.append(f"nothing follows byte {position} of {self._size}")
                return
            self._findings.damage.append(f"bytes {position} to {following} are no records")
            position = following
        if self._findings.written is None:
            self._findings.damage.append("the index at the end of the file is missing")

    def chunk_messages(self, position: int) -> Iterator[Found]:
        """Whole messages of the chunk at a position, by time."""
        record = _parse(self._read, position)
        if record is None:
            return
        packed = self._read(record.start, self._end_of_data(record) - record.start)
        try:
            records = unpack(record.fields[b"compression"].decode(), packed)
        except Exception as error:  # each compression library has errors of its own
            self._findings.damage.append(f"the chunk at byte {position} does not unpack ({error})")
            return
        yield from sorted(self._split(records, position), key=lambda message: message.log_ns)

    def _end_of_data(self, record: _Record) -> int:
        """Where the data of a chunk ends: at the next chunk, if it states more than the file has.

        Else each of thousands of such chunks would be all that follows, once more.
        """
        if record.end <= self._size:
            return record.end
        following = self._find_chunk(record.start)
        return self._size if following is None else following

    def _split(self, records: bytes, place: int) -> Iterator[Found]:
        def read(position: int, length: int) -> bytes:
            return records[position : position + length]

        position = 0
        while position < len(records):
            record = _parse(read, position)
            if record is None or record.end > len(records) or record.op not in (_MESSAGE, _CONNECTION):
                following = self._find_message(records, position + 1)
                if following is None:
                    return
                self._findings.damage.append(
                    f"{following - position} bytes of the chunk at byte {place} are no records"
                )
                position = following
                continue
            if record.op == _CONNECTION:
                self._learn(record, read)
            else:
                number, seconds, rest = _numbers(record.fields)
                yield Found(number, seconds * 10**9 + rest, records[record.start : record.end], place)
            position = record.end

    def _read_index(self, position: int) -> None:
        """Connections and counts are repeated behind the chunks, where the recorder got that far."""
        header = _parse(self._read, position)
        if header is None or header.op != _BAG_HEADER or len(header.fields.get(b"index_pos", b"")) != 8:
            return
        (position,) = struct.unpack("<Q", header.fields[b"index_pos"])
        written: Counter[int] = Counter()
        while position:
            record = _parse(self._read, position)
            if record is None or record.end > self._size:
                break
            if record.op == _CONNECTION:
                self._learn(record, self._read)
            elif record.op == _CHUNK_INFO:
                data = self._read(record.start, (record.end - record.start) // 8 * 8)
                written.update(dict(struct.iter_unpack("<II", data)))
            position = record.end
        if position == self._size:
            self._findings.written = written

    def _learn(self, record: _Record, read: Read) -> None:
        described = _fields(read(record.start, record.end - record.start)) or {}
        number, topic, kind = record.fields.get(b"conn", b""), record.fields.get(b"topic"), described.get(b"type")
        if len(number) != 4 or topic is None or kind is None:
            self._findings.damage.append("a description of a topic is damaged")
            return
        name, absolute = topic.decode("utf-8", "replace"), topic.startswith(b"/")
        name = "/" * absolute + "/".join(part for part in name.split("/") if part)
        message_type = normal_type(kind.decode("utf-8", "replace"))
        self._findings.connections[int.from_bytes(number, "little")] = Connection(name, message_type, True)

    def _find_chunk(self, position: int) -> int | None:
        """The next position where a chunk begins; None = nowhere."""
        size = _FIRST_BLOCK  # where noise and chunks take turns, the next one is near
        while position < self._size:
            block = self._read(position, size + _OVERLAP)
            for match in _CHUNK_SIGN.finditer(block):
                field = match.start()
                for at in range(max(0, field - 48), field):
                    end = at + 4 + int.from_bytes(block[at : at + 4], "little")
                    if not field < end <= at + 4 + _LONGEST_CHUNK_HEADER:
                        continue
                    record = _parse(self._read, position + at)
                    if record is not None and record.op == _CHUNK:
                        return position + at
            position += size
            size = min(2 * size, _BLOCK)
        return None

    def _find_message(self, records: bytes, position: int) -> int | None:
        for match in _MESSAGE_SIGN.finditer(records, position):
            record = _parse(lambda at, length: records[at : at + length], match.start())
            if record is not None and record.op == _MESSAGE and record.end <= len(records):
                return match.start()
        return None

    def _read(self, position: int, length: int) -> bytes:
        if position >= self._size:  # a damaged length leads anywhere
            return b""
        self._file.seek(position)
        return self._file.read(min(length, self._size - position))


def _parse(read: Read, position: int) -> _Record | None:
    """The record at a position; None where there is none."""
    length = int.from_bytes(read(position, 4), "little")
    if not 0 < length <= _LONGEST_HEADER:
        return None
    header = read(position + 4, length)
    fields = _fields(header) if len(header) == length else None
    data_length = read(position + 4 + length, 4)
    if fields is None or len(data_length) < 4 or len(fields.get(b"op", b"")) != 1:
        return None
    op, start = fields[b"op"][0], position + 8 + length
    if op == _MESSAGE and (len(fields.get(b"conn", b"")), len(fields.get(b"time", b""))) != (4, 8):
        return None
    if op == _CHUNK and b"compression" not in fields:
        return None
    return _Record(op, fields, start, start + int.from_bytes(data_length, "little"))


def _fields(data: bytes) -> dict[bytes, bytes] | None:
    """Fields `name=value`, each with its length in front; None where the lengths do not fit."""
    fields, at = {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        name, equals, value = data[at + 4 : at + 4 + length].partition(b"=")
        at += 4 + length
        if not equals or at > len(data):
            return None
        fields[name] = value
    return fields


def _numbers(fields: dict[bytes, bytes]) -> tuple[int, int, int]:
    """Connection, seconds and nanoseconds of a message."""
    number, seconds, rest = struct.unpack("<III", fields[b"conn"] + fields[b"time"])
    return number, seconds, rest
