"""ROS 1 recordings that name the same bytes again and again: they are read once, and nothing of them is lost."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded import IMAGE, SECOND, START, STORE1, TOPIC, record, serialised
from rosbags.rosbag1 import Writer

from hrda_core.data.recordings import ros1_limits
from hrda_core.data.recordings.recording_frames import open_bag
from hrda_core.data.recordings.recording_storage import list_storage, open_reader
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.recordings.salvage import ros1_walk
from hrda_core.data.recordings.salvage.findings import Findings

_BEYOND = 0x7FFFFFFF
_SECONDS = 20  # all of these take one or two; what they are about takes hours


def _read(file: Path) -> list[int]:
    numbers = [image.log_ns // SECOND - START for image in Recordings.open([file]).images()]
    assert len(open_bag(file)) == len(numbers)
    return numbers


def _written(path: Path, numbers: Sequence[int], in_a_chunk: int) -> Path:
    writer = Writer(path)
    writer.chunk_threshold = int((in_a_chunk - 0.5) * len(serialised(0, "bag")))
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE1)
        for number in numbers:
            writer.write(connection, (START + number) * SECOND, serialised(number, "bag"))
    return path


def _record(fields: dict[str, bytes], data: bytes, length: int | None = None) -> bytes:
    parts = [f"{name}=".encode() + value for name, value in fields.items()]
    header = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data) if length is None else length) + data


def _records(content: bytes, position: int) -> Iterator[tuple[int, Any]]:
    """Records from a position on, each with where it begins."""
    while record := ros1_walk._parse(lambda at, length: bytes(content[at : at + length]), position):
        yield position, record
        position = record.end


@pytest.mark.timeout(120)
def test_f8_chunks_that_state_more_bytes_than_the_file_has_are_not_read_through_each_other(tmp_path: Path) -> None:
    chunk = _record({"op": b"\x05", "compression": b"none", "size": bytes(4)}, b"", _BEYOND)
    times = [struct.pack("<II", 5 + number, 0) for number in range(2000)]
    messages = [_record({"conn": bytes(4), "op": b"\x02", "time": time}, bytes(300)) for time in times]
    file = record(tmp_path / "drive", "bag", [0])
    file.write_bytes(file.read_bytes() + b"".join(chunk + message for message in messages))
    begin = time.monotonic()
    found = [message.log_ns // SECOND for message in ros1_walk.walk(file, Findings())]
    assert found == [START, *range(5, 2005)]
    assert time.monotonic() - begin < _SECONDS


def test_f8_a_chunk_that_states_too_many_bytes_costs_no_image_and_doubles_none(tmp_path: Path) -> None:
    file = _written(tmp_path / "drive.bag", range(12), 3)
    content = bytearray(file.read_bytes())
    chunks = [found for _, found in _records(content, 13) if found.op == ros1_walk._CHUNK]
    assert len(chunks) == 4
    content[chunks[1].start - 4 : chunks[1].start] = struct.pack("<I", _BEYOND)
    file.write_bytes(content)
    assert _read(file) == list(range(12))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("unit", [b"compression=none", b"\6\0\0\0a=\x50\xea\0\0\x10\0\0\0compression=none"])
def test_f8_a_file_full_of_signs_of_a_chunk_is_searched_in_seconds(tmp_path: Path, unit: bytes) -> None:
    file = tmp_path / "signs.bag"
    file.write_bytes(b"#ROSBAG V2.0\n" + unit * (300_000 // len(unit)))
    begin = time.monotonic()
    assert not list(ros1_walk.walk(file, Findings()))
    assert time.monotonic() - begin < _SECONDS


@pytest.mark.parametrize("times", [1, 2000])
def test_f8_chunks_that_share_their_index_are_read_in_the_order_of_the_file(tmp_path: Path, times: int) -> None:
    file = _written(tmp_path / "drive.bag", range(40), 40)
    content = bytearray(file.read_bytes())
    at = content.index(b"chunk_count=") + len(b"chunk_count=")
    content[at : at + 4] = struct.pack("<I", 1 + times)
    *_, (last, _) = _records(content, 13)
    file.write_bytes(content + content[last:] * times)
    with pytest.raises(ValueError, match="share their index" if times > 1 else "names a message twice"):
        open_reader(file)
    assert not list_storage(file).opens
    assert _read(file) == list(range(40))


def test_f8_chunks_that_take_turns_in_time_are_not_unpacked_at_every_turn(tmp_path: Path) -> None:
    file = _written(tmp_path / "drive.bag", [*range(0, 20, 2), *range(1, 20, 2)], 10)
    with pytest.raises(ValueError, match="take turns"):
        open_reader(file)
    assert _read(file) == [*range(0, 20, 2), *range(1, 20, 2)]


def test_a_clock_that_was_set_back_is_no_reason_to_leave_the_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _written(tmp_path / "drive.bag", [*range(10, 20), *range(12)], 4)
    assert list_storage(file).opens
    assert _read(file) == sorted([*range(10, 20), *range(12)])
    monkeypatch.setattr(ros1_limits, "_MOST_READ", 0)
    assert not list_storage(file).opens
