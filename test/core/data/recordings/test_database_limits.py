"""Databases that are programs: what they compute is never asked for, and the messages that lie in them are read."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from recorded import SECOND, START, record

from hrda_core.data.recordings.database_limits import check_tables
from hrda_core.data.recordings.recording_frames import open_bag
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.errors import DataError

_ENDLESS = """DROP TABLE schema; CREATE VIEW schema AS WITH RECURSIVE number(schema_version) AS
    (SELECT 1 UNION ALL SELECT schema_version + 1 FROM number) SELECT * FROM number WHERE schema_version < 0"""
_COMPUTED = """CREATE TABLE other(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,
    data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL);
    INSERT INTO other(id, topic_id, timestamp) SELECT id, topic_id, timestamp FROM messages;
    DROP TABLE messages; ALTER TABLE other RENAME TO messages"""
_ONE_VALUE = f"""CREATE TABLE other(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER);
    INSERT INTO other SELECT id, topic_id, timestamp FROM messages;
    DROP TABLE messages; ALTER TABLE other RENAME TO messages;
    ALTER TABLE messages ADD COLUMN data BLOB DEFAULT x'{"00" * 100_000}'"""
_MODULE = "DROP TABLE messages; CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, timestamp, data)"


def _changed(file: Path, script: str) -> Path:
    with closing(sqlite3.connect(file)) as database:
        database.executescript(script)
    return file


def _numbers(file: Path) -> list[int]:
    return [image.log_ns // SECOND - START for image in Recordings.open([file]).images()]


def test_f8_tables_that_are_computed_are_not_asked_for(tmp_path: Path) -> None:
    for name, script in {"one": _COMPUTED, "two": _ONE_VALUE, "three": _MODULE}.items():
        file = _changed(record(tmp_path / name, "db3", range(4)), script)
        with pytest.raises(ValueError, match="its table 'messages'"):
            check_tables(file)
        with pytest.raises(DataError, match="computed"):
            Recordings.open([file])


def test_f8_no_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.db3").touch()
    with pytest.raises((ValueError, sqlite3.Error)):
        check_tables(tmp_path / "missing.db3")
    check_tables(tmp_path / "empty.db3")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db3"]
    assert not (tmp_path / "empty.db3").stat().st_size


@pytest.mark.timeout(60)
def test_f8_a_query_without_an_end_in_the_place_of_a_table_is_not_run(tmp_path: Path) -> None:
    assert _numbers(_changed(record(tmp_path / "drive", "db3", range(4)), _ENDLESS)) == [0, 1, 2, 3]


@pytest.mark.timeout(60)
def test_f8_a_tree_whose_pages_name_each_other_is_not_walked_to_its_end(tmp_path: Path) -> None:
    file = record(tmp_path / "drive", "db3", range(4))
    with closing(sqlite3.connect(file)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    content = bytearray(file.read_bytes())
    content += content[(root - 1) * size : root * size]
    for _ in range(14):  # levels, each of which names all of the one below 201 times
        content += _page(size, below=len(content) // size)
    content[(root - 1) * size : root * size] = content[-size:]
    content[28:32] = struct.pack(">I", len(content) // size)
    file.write_bytes(content)
    check_tables(file)
    assert _numbers(file) == [0, 1, 2, 3]


def test_a_database_is_read_as_long_as_it_takes_once_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = record(tmp_path / "drive", "db3", range(50))
    monkeypatch.setattr("hrda_core.data.recordings.database_limits._STEPS", 10)
    monkeypatch.setattr("hrda_core.data.recordings.database_limits._FREE_STEPS", 5_000)
    monkeypatch.setattr("hrda_core.data.recordings.database_limits._STEPS_PER_BYTE", 0)
    frames = open_bag(file)  # whose reader stays open
    assert not frames.damage
    assert len({frames.load(number).tobytes() for number in [*range(50)] * 4}) == 50


def _page(size: int, below: int) -> bytes:
    """An inner page of a table's tree, all of whose children are one page."""
    cells = [struct.pack(">IB", below, min(index, 127)) for index in range(200)]
    begin = size - sum(map(len, cells))
    head = struct.pack(">BHHHBI", 5, 0, len(cells), begin, 0, below)
    pointers = b"".join(struct.pack(">H", begin + 5 * index) for index in range(len(cells)))
    return (head + pointers).ljust(begin, b"\0") + b"".join(cells)
