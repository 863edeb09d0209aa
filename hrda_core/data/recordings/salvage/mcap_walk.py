"""Reads messages of an MCAP file that is cut off, overwritten, or never got its index.

A chunk that fails its checksum is left out as a whole. If the file ends inside a chunk, that chunk cannot be checked,
and its whole messages are read. Where the recorder wrote no checksums, or no chunks, an overwritten message comes out
as it is. Where no record begins where one should, the next chunk (or message, in a file without chunks) is searched.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hrda_core.data.recordings.salvage.findings import Connection, Findings, Found, normal_type
from hrda_core.data.recordings.salvage.unpacking import MAX_UNPACKED, unpack
from hrda_core.plain_files import open_file

__all__ = ["walk"]

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _ATTACHMENT, _STATISTICS, _DATA_END = 2, 3, 4, 5, 6, 9, 11, 15
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_FOOTER_LENGTH = _HEAD.size + 20 + len(_MAGIC)
_PRIVATE = 0x80
"""Kinds of record from here on are left to applications by the format."""
_NO_MESSAGE = (2**64 - 1, 0)
"""First and last time of a chunk without messages, as the C++ writers say them."""

# A record begins with its kind and a length of 8 bytes, whose upper three are 0 in any file that exists.
_CHUNK_START = re.compile(rb"\x06(?=.{5}\x00{3})", re.DOTALL)
_MESSAGE_START = re.compile(rb"\x05(?=.{5}\x00{3})", re.DOTALL)
_CHUNK_OR_MESSAGE_START = re.compile(rb"[\x05\x06](?=.{5}\x00{3})", re.DOTALL)
_FIRST_BLOCK, _BLOCK = 1 << 12, 1 << 22
_LONGEST_OTHER = 1 << 26
"""Bytes of a record that is neither chunk, message nor attachment; a longer one is taken for noise."""


class _Chunk(NamedTuple):
    """Head of a chunk: times of its messages, and `start` and `length` of its packed records."""

    first_ns: int
    last_ns: int
    start: int
    length: int
    unpacked_length: int
    checksum: int
    compression: str


def walk(
    path: Path, findings: Findings, wanted: Collection[int] | None = None, place: int | None = None
) -> Iterator[Found]:
    """Yield the messages that are whole, in the order of the file; those of a chunk by time.

    Args:
        path: .mcap file.
        findings: is kept up to date. Fill in `connections` to read at a place.
        wanted: numbers of connections; None = all.
        place: read only the chunk or message that lies there (`Found.place`).
    """
    with open_file(path) as file:
        for found in _Walk(file, findings).messages(place):
            if wanted is None or found.connection in wanted:
                yield found


class _Walk:
    def __init__(self, file: BinaryIO, findings: Findings) -> None:
        self._file, self._findings = file, findings
        self._size = os.fstat(file.fileno()).st_size
        self._schemas: dict[int, str] = {}
        self._has_chunks = False

    def messages(self, place: int | None) -> Iterator[Found]:
        if place is not None:
            op, end = self._head(place)
            return self._read_record(op, place, end) if end <= self._size else self._read_cut_chunk(place)
        self._read_summary()
        return self._all_messages()

    def _all_messages(self) -> Iterator[Found]:
        position = len(_MAGIC)
        if self._read(0, position) != _MAGIC:
            self._findings.damage.append("the file does not begin as MCAP does")
            position = 0
        while position < self._size:
            op, end = self._head(position)
            if self._is_record(op, position, end):
                if op == _FOOTER:
                    return
                yield from self._read_record(op, position, end)
                position = end
                continue
            self._has_chunks |= self._chunk_at(position) is not None
            following = self._find_record(position + 1)
            if following is None:
                yield from self._read_cut_chunk(position)
                self._findings.damage.append(f"nothing follows byte {position} of {self._size}")
                return
            self._findings.damage.append(f"bytes {position} to {following} are no records")
            position = following
        self._findings.damage.append("the index at the end of the file is missing")

    def _read_summary(self) -> None:
        """Channels and counts are repeated behind the messages, where the recorder got that far."""
        tail = self._read(max(0, self._size - _FOOTER_LENGTH), _FOOTER_LENGTH)
        if len(tail) < _FOOTER_LENGTH or tail[0] != _FOOTER or not tail.endswith(_MAGIC):
            return
        (position,) = struct.unpack_from("<Q", tail, _HEAD.size)
        op, end = self._head(position)
        while position and self._is_record(op, position, end) and op not in (_FOOTER, _CHUNK, _MESSAGE):
            self._learn(op, self._read(position + _HEAD.size, end - position - _HEAD.size))
            position = end
            op, end = self._head(position)
        if position and op != _FOOTER:
            self._findings.damage.append("the index at the end of the file is damaged")

    def _head(self, position: int) -> tuple[int, int]:
        """Kind of the record at a position, and where it ends."""
        data = self._read(position, _HEAD.size)
        if len(data) < _HEAD.size:
            return 0, self._size + 1
        op, length = _HEAD.unpack(data)
        return op, position + _HEAD.size + length

    def _is_record(self, op: int, position: int, end: int) -> bool:
        length = end - position - _HEAD.size
        if end > self._size or not _is_kind(op):
            return False
        if op >= _PRIVATE:  # any byte of noise may be one: what follows has to be a record too
            return length <= _LONGEST_OTHER and _is_kind(self._head(end)[0])
        if op == _CHUNK:
            return self._chunk_at(position) is not None
        if op == _MESSAGE:
            return length >= _MESSAGE_HEAD.size
        return op == _ATTACHMENT or length <= _LONGEST_OTHER

    def _chunk_at(self, position: int) -> _Chunk | None:
        """Head of the chunk at a position; None where its numbers contradict each other."""
        data = self._read(position, _HEAD.size + _CHUNK_HEAD.size + 4 + 4 + 8)
        if len(data) < _HEAD.size + _CHUNK_HEAD.size + 4 + 8:
            return None
        op, length = _HEAD.unpack_from(data)
        first, last, unpacked_length, checksum = _CHUNK_HEAD.unpack_from(data, _HEAD.size)
        at = _HEAD.size + _CHUNK_HEAD.size
        (name_length,) = struct.unpack_from("<I", data, at)
        name = data[at + 4 : at + 4 + name_length]
        if op != _CHUNK or name not in (b"", b"lz4", b"zstd") or (first > last and (first, last) != _NO_MESSAGE):
            return None
        at += 4 + name_length
        (packed_length,) = struct.unpack_from("<Q", data, at)
        start = at + 8
        if start + packed_length != _HEAD.size + length or (not name and packed_length != unpacked_length):
            return None
        return _Chunk(first, last, position + start, packed_length, unpacked_length, checksum, name.decode())

    def _find_record(self, position: int) -> int | None:
        """The next position where a chunk begins (or a message, before any chunk was seen); None = nowhere."""
        pattern = _CHUNK_START if self._has_chunks else _CHUNK_OR_MESSAGE_START
        size = _FIRST_BLOCK  # where noise and records take turns, the next one is near
        while position < self._size:
            block = self._read(position, size + _HEAD.size)
            for match in pattern.finditer(block, 0, len(block)):
                candidate = position + match.start()
                if self._is_start(candidate):
                    return candidate
            position += size
            size = min(2 * size, _BLOCK)
        return None

    def _is_start(self, position: int) -> bool:
        op, end = self._head(position)
        if op == _CHUNK:
            return self._chunk_at(position) is not None
        connection = int.from_bytes(self._read(position + _HEAD.size, 2), "little")
        follows = end == self._size or 1 <= self._head(end)[0] <= _DATA_END
        return self._is_record(op, position, end) and connection in self._findings.connections and follows

    def _read_record(self, op: int, position: int, end: int) -> Iterator[Found]:
        start = position + _HEAD.size
        if op == _CHUNK:
            yield from self._read_chunk(position)
        elif op == _MESSAGE:
            yield from self._split(self._read(position, end - position), position, None)
        elif op in (_SCHEMA, _CHANNEL, _STATISTICS):
            self._learn(op, self._read(start, end - start))

    def _read_chunk(self, position: int) -> Iterator[Found]:
        chunk = self._chunk_at(position)
        if chunk is None:
            return
        self._has_chunks = True
        try:
            records = self._unpack(chunk)
        except Exception as error:  # each compression library has errors of its own
            self._findings.damage.append(f"the chunk at byte {position} does not unpack ({error})")
            return
        if len(records) != chunk.unpacked_length or (chunk.checksum and zlib.crc32(records) != chunk.checksum):
            self._findings.damage.append(f"the chunk at byte {position} fails its checksum")
            return
        yield from sorted(self._split(records, position, chunk), key=_log_time)

    def _unpack(self, chunk: _Chunk) -> bytes:
        limit = min(chunk.unpacked_length, MAX_UNPACKED)
        return unpack(chunk.compression, self._read(chunk.start, chunk.length), limit)

    def _read_cut_chunk(self, position: int) -> Iterator[Found]:
        """Messages of the chunk that the file ends in, if a chunk it is."""
        chunk = self._chunk_at(position)
        if chunk is None:
            return
        try:
            records = self._unpack(chunk)
        except Exception:  # damaged as well as cut; said by the caller
            return
        yield from sorted(self._split(records, position, chunk, whole=False), key=_log_time)

    def _split(self, records: bytes, place: int, chunk: _Chunk | None, *, whole: bool = True) -> Iterator[Found]:
        """Messages of a row of records; unless it is `whole` it may end within one."""
        position = 0
        while position < len(records):
            op, end = _record_in(records, position)
            if not _is_kind(op) or end > len(records):
                following = _message_in(records, position + 1, chunk, self._findings.connections) if chunk else None
                if whole or following is not None:
                    self._findings.damage.append(f"the chunk at byte {place} is damaged inside")
                if following is None:
                    return
                position = following
                continue
            start = position + _HEAD.size
            if op == _MESSAGE and end - start >= _MESSAGE_HEAD.size:
                connection, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(records, start)
                yield Found(connection, log_ns, records[start + _MESSAGE_HEAD.size : end], place)
            else:
                self._learn(op, records[start:end])
            position = end

    def _learn(self, op: int, record: bytes) -> None:
        try:
            if op == _SCHEMA:
                self._schemas[int.from_bytes(record[:2], "little")] = _text(record, 2)[0]
            elif op == _CHANNEL:
                number, schema = struct.unpack_from("<HH", record)
                topic, at = _text(record, 4)
                kind = normal_type(self._schemas.get(schema, ""))
                self._findings.connections[number] = Connection(topic, kind, _text(record, at)[0] == "ros1")
            elif op == _STATISTICS:
                self._findings.written = dict(struct.iter_unpack("<HQ", record[46:]))
                self._has_chunks |= struct.unpack_from("<I", record, 22)[0] > 0
        except (struct.error, UnicodeDecodeError):
            self._findings.damage.append("a description of a topic is damaged")

    def _read(self, position: int, length: int) -> bytes:
        if position >= self._size:  # a damaged length leads anywhere
            return b""
        self._file.seek(position)
        return self._file.read(min(length, self._size - position))


def _record_in(records: bytes, position: int) -> tuple[int, int]:
    """Kind of the record at a position of a chunk, and where it ends."""
    if position + _HEAD.size > len(records):
        return 0, len(records) + 1
    op, length = _HEAD.unpack_from(records, position)
    return op, position + _HEAD.size + length


def _message_in(records: bytes, position: int, chunk: _Chunk, connections: Collection[int]) -> int | None:
    """The next position where a message of the chunk begins, by a known connection and the times of the chunk."""
    for match in _MESSAGE_START.finditer(records, position):
        at = match.start()
        _, end = _record_in(records, at)
        if at + _HEAD.size + _MESSAGE_HEAD.size <= end <= len(records):
            connection, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(records, at + _HEAD.size)
            if connection in connections and chunk.first_ns <= log_ns <= chunk.last_ns:
                return at
    return None


def _is_kind(op: int) -> bool:
    return 1 <= op <= _DATA_END or op >= _PRIVATE


def _log_time(message: Found) -> int:
    return message.log_ns


def _text(record: bytes, at: int) -> tuple[str, int]:
    """Text with its length in front, and the position behind it."""
    (length,) = struct.unpack_from("<I", record, at)
    return record[at + 4 : at + 4 + length].decode(), at + 4 + length
