"""Recordings as real writers leave them: whole is read whole without a word, and a loss is said."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from backports import zstd
from mcap.writer import CompressionType, IndexType, Writer
from recorded import IMAGE, SECOND, START, TOPIC, record, serialised, storage_file

from hrda_core.data.recordings import recording_storage
from hrda_core.data.recordings.recording_frames import open_bag
from hrda_core.data.recordings.recording_storage import list_storage
from hrda_core.data.recordings.recordings import Recordings, Salvage
from hrda_core.data.recordings.salvage import mcap_walk
from hrda_core.errors import DataError

COUNT = 12
_TABLES = """CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
        serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
    CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB);
    CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
    INSERT INTO schema VALUES(3, 'humble');"""


def read(path: Path) -> tuple[list[int], tuple[Salvage, ...]]:
    """Numbers of the images in the order of reading, and what was lost; reading by index gives as many."""
    recordings = Recordings.open([path])
    numbers = [image.log_ns // SECOND - START for image in recordings.images()]
    frames = open_bag(path)
    assert len(frames) == len(numbers)
    assert frames.load(len(frames) - 1).shape == (60, 60, 3)
    return numbers, recordings.salvage()


def write_mcap(path: Path, *, extra: bool = False, **options: Any) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=30_000, compression=CompressionType.ZSTD, **options)
        writer.start(profile="ros2", library="test")
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b"uint8 x"))
        if extra:
            status = writer.register_channel("/status", "json", writer.register_schema("S", "jsonschema", b"{}"))
        for number in range(COUNT):
            time = (START + number) * SECOND
            writer.add_message(channel, time, serialised(number, "mcap"), time)
            if extra:
                writer.add_message(status, time, b"{}", time)
        writer.finish()
    return path


@pytest.mark.parametrize("lie", ["twice", "at once"])
def test_f8_f9_an_index_by_which_too_much_is_unpacked_at_once_is_not_read_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    from rosbags.rosbag2 import storage_mcap

    opened = storage_mcap.McapReader.read_index

    def with_lies(self: Any) -> None:
        opened(self)
        if lie == "twice":
            self.chunks += self.chunks
        else:
            self.chunks[:] = [chunk._replace(message_start_time=0) for chunk in self.chunks]

    path = write_mcap(tmp_path / "one.mcap")
    assert list_storage(path).opens
    monkeypatch.setattr(storage_mcap.McapReader, "read_index", with_lies)
    monkeypatch.setattr(recording_storage, "MAX_UNPACKED", 40_000)
    assert not list_storage(path).opens
    assert read(path) == (list(range(COUNT)), ())


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.CHUNK},
        {"index_types": IndexType.CHUNK, "use_statistics": False},
        {"index_types": IndexType.NONE, "use_statistics": False},
        {"repeat_channels": False},
        {"repeat_channels": False, "use_statistics": False},
        {"repeat_channels": False, "repeat_schemas": False, "index_types": IndexType.NONE, "use_statistics": False},
        {"use_summary_offsets": False},
        {"use_chunking": False, "use_statistics": False},
        {"extra": True},
    ],
    ids=str,
)
def test_optional_parts_of_mcap_may_be_left_out(tmp_path: Path, options: dict[str, Any]) -> None:
    assert read(write_mcap(tmp_path / "drive.mcap", **options)) == (list(range(COUNT)), ())


def test_f8_a_message_whose_time_no_clock_shows_is_lost_and_said(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b"uint8 x"))
        for number, time in enumerate((START * SECOND, (START + 1) * SECOND, 2**64 - 1)):
            writer.add_message(channel, time, serialised(number, "mcap"), time)
        writer.finish()
    numbers, lost = read(path)
    assert numbers == [0, 1]
    assert [(entry.kept, entry.lost) for entry in lost] == [(2, 1)]
    assert "a message has the time 18446744073709551615 ns, which no clock shows" in lost[0].reason


def _record(op: int, body: bytes) -> bytes:
    return bytes([op]) + struct.pack("<Q", len(body)) + body


def _chunk(records: bytes, first: int, last: int) -> bytes:
    size = struct.pack("<Q", len(records))
    return _record(6, struct.pack("<QQQII", first, last, len(records), 0, 0) + size + records)


@pytest.mark.parametrize("times", [(2**64 - 1, 0), (0, 0)])
@pytest.mark.parametrize("private", [b"", _record(0x90, b"of an application")])
def test_a_cut_file_begins_with_a_chunk_without_messages(
    tmp_path: Path, times: tuple[int, int], private: bytes
) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    described = _record(3, struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + text("uint8 x"))
    described += _record(4, struct.pack("<HH", 1, 1) + text(TOPIC) + text("cdr") + struct.pack("<I", 0))
    content = b"\x89MCAP0\r\n" + _record(1, text("ros2") + text("test")) + _chunk(described, *times)
    for number in range(COUNT):
        time = (START + number) * SECOND
        message = _record(5, struct.pack("<HIQQ", 1, number, time, time) + serialised(number, "mcap"))
        content += private + _chunk(message, time, time)
    path = tmp_path / "drive.mcap"
    path.write_bytes(content[:-3000])

    numbers, (salvage,) = read(path)

    assert numbers == list(range(COUNT - 1))
    assert "lost the name" not in salvage.reason
    assert "are no records" not in salvage.reason


def _power_failure(folder: Path, finished: int) -> Path:
    """A database of 4 images, and a log of the others; those from `finished` on are in a transaction without end."""
    live, kept = folder / "live.db3", folder / "drive_0.db3"
    with closing(sqlite3.connect(live, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.executescript(_TABLES)
        database.execute("INSERT INTO topics VALUES(1, ?, ?, 'cdr', '')", (TOPIC, IMAGE))
        for number in range(COUNT):
            row = (START + number) * SECOND, serialised(number, "db3")
            if number == finished:
                database.execute("PRAGMA cache_size=1")  # pages go to the log before the end
                database.execute("BEGIN")
            database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)", row)
            if number == 3:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(live, kept)
        shutil.copy(f"{live}-wal", f"{kept}-wal")
    for rest in folder.glob("live*"):
        rest.unlink()
    return kept


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_messages_in_the_log_of_a_database_are_read_and_the_files_stay(tmp_path: Path) -> None:
    path = _power_failure(tmp_path, COUNT)
    before = _contents(tmp_path)

    assert read(path) == (list(range(COUNT)), ())
    assert _contents(tmp_path) == before


def test_messages_of_a_log_that_were_not_finished_are_said(tmp_path: Path) -> None:
    numbers, (salvage,) = read(_power_failure(tmp_path, 8))
    assert numbers == list(range(8))
    assert "pages at the end of 'drive_0.db3-wal'" in salvage.reason


def test_a_garbled_log_is_said(tmp_path: Path) -> None:
    path = _power_failure(tmp_path, COUNT)
    log = Path(f"{path}-wal")
    content = bytearray(log.read_bytes())
    content[24:32] = bytes(8)  # checksum of its head
    log.write_bytes(content)

    numbers, (salvage,) = read(path)

    assert numbers == list(range(4))
    assert "-wal" in salvage.reason


@pytest.mark.parametrize("name", ["drive #3", "drive?", "drive%20", "drive%23#"])
def test_f7_a_name_means_nothing_but_itself(tmp_path: Path, name: str) -> None:
    made = record(tmp_path / "made", "db3", range(COUNT)).parent
    assert read(made.rename(tmp_path / name)) == (list(range(COUNT)), ())


def _split(folder: Path, on_disk: tuple[str, ...], listed: tuple[str, ...]) -> Path:
    """Files of 4 images each, and metadata that list them under other names."""
    folder.mkdir()
    for part, name in enumerate(on_disk):
        made = record(folder / "made", "db3", range(4 * part, 4 * part + 4)).parent
        plain = storage_file(made).read_bytes()
        (folder / name).write_bytes(zstd.compress(plain) if name.endswith("zstd") else plain)
        metadata = yaml.safe_load((made / "metadata.yaml").read_text())
        shutil.rmtree(made)
    information = metadata["rosbag2_bagfile_information"]
    information["relative_file_paths"] = list(listed)
    for topic in information["topics_with_message_count"]:
        topic["message_count"] = 4 * len(listed)
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        (("a_0.db3.zstd", "a_1.db3.zstd", "a_2.db3"), ("a_0.db3", "a_1.db3", "a_2.db3")),
        (("a_0.db3", "a_1.db3", "a_2.db3"), ("a_0.db3.zstd", "a_1.db3.zstd", "a_2.db3")),
        (("b_0.db3", "b_1.db3", "b_2.db3"), ("a_0.db3", "a_1.db3", "a_2.db3")),
        (("a_0.db3", "a_1.db3", "a_2.db3"), ("a_0.db3",)),
    ],
)
def test_what_lies_on_disk_counts_more_than_the_metadata(
    tmp_path: Path, on_disk: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    assert read(_split(tmp_path / "drive", on_disk, listed)) == (list(range(COUNT)), ())


def test_a_file_in_two_forms_is_read_once(tmp_path: Path) -> None:
    folder = _split(tmp_path / "drive", ("a_0.db3", "a_1.db3", "a_2.db3"), ("a_0.db3", "a_1.db3", "a_2.db3"))
    (folder / "a_0.db3.zstd").write_bytes(zstd.compress((folder / "a_0.db3").read_bytes()))
    assert read(folder) == (list(range(COUNT)), ())


def test_a_file_that_is_nowhere_is_missing(tmp_path: Path) -> None:
    numbers, (salvage,) = read(_split(tmp_path / "drive", ("a_0.db3", "a_2.db3"), ("a_0.db3", "a_1.db3", "a_2.db3")))
    assert len(numbers) == 8
    assert salvage.lost == 4
    assert "'a_1.db3' is missing" in salvage.reason


@pytest.mark.parametrize("kind", ["mcap", "db3", "bag"])
def test_f8_a_recording_that_goes_while_others_are_read_is_said_and_costs_no_other(tmp_path: Path, kind: str) -> None:
    files = [record(tmp_path / f"drive_{first}", kind, range(first, first + 4)) for first in (0, 10)]
    recordings = Recordings.open(files)
    files[0].unlink()
    assert [image.log_ns // SECOND - START for image in recordings.images()] == [10, 11, 12, 13]
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (0, 4)
    assert salvage.reason == f"'{files[0].name}' cannot be read to its end (No such file or directory)"


@pytest.mark.parametrize("kind", ["chunks", "db3", "bag"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_takes_the_place_of_a_recording_while_others_are_read_is_no_file_and_nothing_waits_for_it(
    tmp_path: Path, kind: str, make: Callable[[Path], None]
) -> None:
    files = [record(tmp_path / f"drive_{first}", kind, range(first, first + 4)) for first in (0, 10)]
    recordings = Recordings.open(files)
    files[0].unlink()
    make(files[0])
    assert [image.log_ns // SECOND - START for image in recordings.images()] == [10, 11, 12, 13]
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (0, 4)
    assert salvage.reason == f"'{files[0].name}' cannot be read to its end (it is not a file)"


def test_f8_a_disk_that_fails_below_one_recording_costs_no_other(tmp_path: Path) -> None:
    whole, failing = record(tmp_path / "whole", "chunks", range(4)), tmp_path / "failing.mcap.zstd"
    failing.symlink_to("/proc/self/mem")  # the kernel says EIO of its first byte
    recordings = Recordings.open([whole, failing])
    assert len(list(recordings.images())) == 4
    assert [part.recording for part in recordings.salvage()] == [failing]
    with pytest.raises(DataError, match=r"\('failing.mcap.zstd' cannot be read to its end \(Input/output error\)\)"):
        Recordings.open([failing])


def test_f8_a_disk_that_fails_in_the_middle_of_a_recording_leaves_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = record(tmp_path / "drive", "chunks", range(60))
    recordings = Recordings.open([file])
    place = file.stat().st_size // 2
    monkeypatch.setattr(Path, "open", lambda path, *_: _FailingFile(path, place))
    monkeypatch.setattr(mcap_walk, "open_file", lambda path: _FailingFile(path, place))
    found = [image.log_ns // SECOND - START for image in recordings.images()]
    assert found[0] == 0
    assert found == sorted(found)
    assert 30 < len(found) < 60
    assert (recordings.salvage()[0].kept, recordings.salvage()[0].lost) == (len(found), 60 - len(found))


class _FailingFile(io.FileIO):
    """A file on a disk that cannot read the bytes at a place."""

    def __init__(self, path: Path, place: int) -> None:
        super().__init__(path)
        self._place = place

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() <= self._place < self.tell() + (size or 0):
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size) or b""
