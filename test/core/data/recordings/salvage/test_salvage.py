"""Damaged recordings: nothing that is readable is lost, nothing that is damaged comes out where a checksum tells."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.records import ChunkIndex
from recorded import START, TOPIC, byte_ranges, noise, record, serialised

from hrda_core.data.recordings.recording_frames import open_bag
from hrda_core.data.recordings.recordings import RecordedImage, Recordings
from hrda_core.data.recordings.salvage.findings import Findings
from hrda_core.data.recordings.salvage.sqlite_walk import walk
from hrda_core.errors import DataError

COUNT = 150
KINDS = ("mcap", "chunks", "flat", "db3", "bag")
UNCHECKED = ("mcap", "flat", "bag")
CHECKED = ("chunks", "zstd", "lz4")

Ranges = Callable[[str], list[list[tuple[int, int]]]]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recording of each kind; copy it, never write to it."""
    folder = tmp_path_factory.mktemp("originals")
    return {kind: record(folder / kind, kind, range(COUNT)) for kind in (*KINDS, "zstd", "lz4")}


@pytest.fixture(scope="module")
def ranges(originals: dict[str, Path]) -> Ranges:
    """Where the bytes of each image lie, by searching the intact file."""

    @cache
    def find(kind: str) -> list[list[tuple[int, int]]]:
        content = originals[kind].read_bytes()
        return [byte_ranges(content, serialised(number, kind)) for number in range(COUNT)]

    return find


def chunks_of(path: Path) -> list[ChunkIndex]:
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return summary.chunk_indexes


def span(chunk: ChunkIndex) -> range:
    """The images of a chunk."""
    return range(chunk.message_start_time // 10**9 - START, chunk.message_end_time // 10**9 - START + 1)


@pytest.fixture
def damaged(originals: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copy a recording and change its bytes; gives the file."""

    def change(kind: str, edit: Callable[[bytearray], None]) -> Path:
        content = bytearray(originals[kind].read_bytes())
        edit(content)
        path = tmp_path / f"damaged{originals[kind].suffix}"
        path.write_bytes(content)
        return path

    return change


def number_of(image: RecordedImage) -> int:
    return image.log_ns // 10**9 - START


def read(path: Path) -> tuple[Recordings, list[int]]:
    """The numbers of the images; each is checked to be what was recorded."""
    recordings = Recordings.open([path])
    numbers = []
    for place, image in enumerate(recordings.images()):
        numbers.append(number_of(image))
        assert image.raw == serialised(numbers[-1], "bag" if image.schema_is_ros1 else "mcap")
        assert (image.number, image.topic, image.recording) == (place, TOPIC, path)
    return recordings, numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_cut_file_gives_every_image_that_is_wholly_on_disk(
    originals: dict[str, Path], ranges: Ranges, damaged: Callable[..., Path], kind: str, share: float
) -> None:
    end = int(share * originals[kind].stat().st_size)
    recordings, numbers = read(damaged(kind, lambda content: content.__delitem__(slice(end, None))))
    expected = [number for number, pieces in enumerate(ranges(kind)) if all(piece[1] <= end for piece in pieces)]
    assert abs(len(expected) - share * COUNT) < 10
    assert numbers == expected
    assert recordings.cameras[0].count == len(expected)
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (len(expected), None)
    assert "it does not open" in salvage.reason


def test_a_cut_file_beside_its_metadata_tells_how_many_are_lost(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(originals["mcap"].parent, tmp_path / "bag")
    file = folder / originals["mcap"].name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    recordings = Recordings.open([folder])
    kept = len(list(recordings.images()))
    (salvage,) = recordings.salvage()
    assert (salvage.recording, salvage.kept, salvage.lost) == (folder, kept, COUNT - kept)
    assert 0 < kept < COUNT


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_cut_compressed_mcap_gives_what_unpacks(
    originals: dict[str, Path], damaged: Callable[..., Path], kind: str, share: float
) -> None:
    end = int(share * originals[kind].stat().st_size)
    _, numbers = read(damaged(kind, lambda content: content.__delitem__(slice(end, None))))
    whole = [chunk for chunk in chunks_of(originals[kind]) if chunk.chunk_start_offset + chunk.chunk_length <= end]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > whole[-1].message_end_time // 10**9 - START + 1


def zeros(begin: int, end: int) -> Callable[[bytearray], None]:
    return lambda content: content.__setitem__(slice(begin, end), bytes(end - begin))


def overwrite(begin: int, end: int) -> Callable[[bytearray], None]:
    """Noise in place of some bytes."""
    return lambda content: content.__setitem__(slice(begin, end), np.random.default_rng(7).bytes(end - begin))


@pytest.mark.parametrize("kind", CHECKED)
@pytest.mark.parametrize("where", ["inside", "head", "between"])
def test_f8_of_an_overwritten_mcap_only_the_touched_chunks_are_lost(
    originals: dict[str, Path], damaged: Callable[..., Path], kind: str, where: str
) -> None:
    first, second = chunks_of(originals[kind])[2:4]
    end = first.chunk_start_offset + first.chunk_length
    begin, stop, touched = {
        "inside": (end - 50_000, end - 49_000, [first]),
        "head": (second.chunk_start_offset, second.chunk_start_offset + 40, [second]),
        "between": (end - 20, second.chunk_start_offset + 20, [first, second]),
    }[where]
    recordings, numbers = read(damaged(kind, overwrite(begin, stop)))
    lost = {number for chunk in touched for number in span(chunk)}
    assert numbers == [number for number in range(COUNT) if number not in lost]
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (COUNT - len(lost), len(lost))


def test_f8_a_failed_checksum_is_the_reason(originals: dict[str, Path], damaged: Callable[..., Path]) -> None:
    chunk = chunks_of(originals["chunks"])[2]
    begin = chunk.chunk_start_offset + chunk.chunk_length // 2
    recordings, _ = read(damaged("chunks", overwrite(begin, begin + 1)))
    assert f"the chunk at byte {chunk.chunk_start_offset} fails its checksum" in recordings.salvage()[0].reason


def test_an_overwritten_database_gives_every_row_whose_pages_are_whole(
    originals: dict[str, Path], ranges: Ranges, damaged: Callable[..., Path]
) -> None:
    begin = originals["db3"].stat().st_size // 2 // 4096 * 4096
    end = begin + 16 * 4096
    _, numbers = read(damaged("db3", overwrite(begin, end)))
    expected = [
        number
        for number, pieces in enumerate(ranges("db3"))
        if all(piece[1] <= begin or piece[0] >= end for piece in pieces)
    ]
    assert COUNT - 60 < len(expected) < COUNT - 5
    assert sorted(numbers) == expected


def test_f8_rows_of_a_database_that_share_a_chain_of_pages_do_not_make_more_of_it(tmp_path: Path) -> None:
    page, leaves, rows, chained = 512, 30, 100, 33
    local = (page - 12) * 32 // 255 - 23
    size = local + chained * (page - 4)
    head = bytes([7, 0, 1, 1, *varint(2 * (size - 9) + 12), 1, 5])  # topic 1, time 5, and a blob
    cell = bytes([*varint(size), 1]) + head.ljust(local, b"\0") + struct.pack(">I", leaves + 2)
    at = page - len(cell)
    leaf = (b"\x0d\0\0" + struct.pack(">HHB", rows, at, 0) + struct.pack(">H", at) * rows).ljust(at, b"\0") + cell
    first = (b"SQLite format 3\0" + struct.pack(">H", page)).ljust(page, b"\0")
    chain = [struct.pack(">I", number).ljust(page, b"\0") for number in (*range(leaves + 3, leaves + chained + 2), 0)]
    path = tmp_path / "rows.db3"
    path.write_bytes(b"".join([first, *[leaf] * leaves, *chain]))
    findings = Findings()
    found = [len(message.raw) for message in walk(path, findings)]
    assert found
    assert sum(found) <= 4 * path.stat().st_size
    assert "messages are cut off or overwritten" in findings.damage[-1]


def varint(number: int) -> bytes:
    """A number of 15 to 21 bits, as SQLite writes it."""
    return bytes([0x80 | number >> 14, 0x80 | number >> 7 & 0x7F, number & 0x7F])


def test_without_its_table_of_topics_a_database_is_refused(damaged: Callable[..., Path]) -> None:
    path = damaged("db3", overwrite(0, 6 * 4096))
    with pytest.raises(DataError, match="300 messages lost the name of their topic"):
        Recordings.open([path])


@pytest.mark.parametrize("kind", UNCHECKED)
@pytest.mark.parametrize("filling", ["noise", "zeros"])
def test_without_checksums_images_beside_the_damage_are_all_read(
    originals: dict[str, Path], ranges: Ranges, damaged: Callable[..., Path], kind: str, filling: str
) -> None:
    begin = originals[kind].stat().st_size // 2
    end = begin + 50_000
    change = overwrite(begin, end) if filling == "noise" else zeros(begin, end)
    recordings = Recordings.open([damaged(kind, change)])
    images = {number_of(image): image for image in recordings.images()}
    untouched = [
        number
        for number, pieces in enumerate(ranges(kind))
        if all(piece[1] <= begin or piece[0] - 60 >= end for piece in pieces)
    ]
    assert COUNT - 8 < len(untouched) < COUNT - 3
    assert set(untouched) <= set(images)
    assert all(images[number].raw == serialised(number, kind) for number in untouched)
    assert len(images) - len(untouched) <= 1, "the one whose head is whole"
    assert recordings.salvage()[0].kept == len(images)


@pytest.mark.parametrize("kind", ["mcap", "chunks", "flat", "bag"])
def test_a_file_that_lost_its_beginning_is_read_from_its_first_whole_part(
    damaged: Callable[..., Path], kind: str
) -> None:
    recordings, numbers = read(damaged(kind, zeros(0, 12)))
    assert numbers == list(range(COUNT))
    assert "does not begin as" in recordings.salvage()[0].reason


@pytest.mark.parametrize("kind", ["chunks", "flat", "db3", "bag"])
def test_a_file_whose_end_became_zeros_is_read_up_to_them(
    originals: dict[str, Path], ranges: Ranges, damaged: Callable[..., Path], kind: str
) -> None:
    size = originals[kind].stat().st_size
    end = size // 2
    recordings = Recordings.open([damaged(kind, zeros(end, size))])
    images = {number_of(image): image for image in recordings.images()}
    expected = [number for number, pieces in enumerate(ranges(kind)) if all(piece[1] <= end for piece in pieces)]
    if kind == "chunks":  # the chunk that became zeros fails its checksum
        expected = [
            number
            for chunk in chunks_of(originals[kind])
            for number in span(chunk)
            if chunk.chunk_start_offset + chunk.chunk_length <= end
        ]
    assert set(expected) <= set(images)
    assert all(images[number].raw == serialised(number, kind) for number in expected)
    assert len(images) - len(expected) <= (kind != "chunks"), "the one whose head is whole"


def test_f8_an_index_that_points_to_nowhere_loses_nothing(damaged: Callable[..., Path]) -> None:
    def spoil(content: bytearray) -> None:
        content[-28:-20] = struct.pack("<Q", 77)  # where the summary begins

    recordings, numbers = read(damaged("chunks", spoil))
    assert numbers == list(range(COUNT))
    assert recordings.salvage()[0].kept == COUNT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_images_of_a_damaged_recording_come_in_any_order(
    originals: dict[str, Path], damaged: Callable[..., Path], kind: str, damage: str
) -> None:
    size = originals[kind].stat().st_size
    begin = size // 3 // 4096 * 4096
    cut = lambda content: content.__delitem__(slice(2 * size // 3, None))  # noqa: E731
    path = damaged(kind, cut if damage == "cut" else overwrite(begin, begin + 4096))
    frames, recordings = open_bag(path), Recordings.open([path])
    numbers = [number_of(image) for image in recordings.images()]
    assert len(frames) == len(numbers)
    assert "damaged: " in frames.describe() or kind in UNCHECKED
    for index in (len(frames) - 1, 0, len(frames) // 2, len(frames) - 2):
        np.testing.assert_array_equal(frames.load(index), noise(numbers[index]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.integers(1, 300_000), st.sampled_from([b"\0", b"\5", b"\6", b"\xff", b""]))
def test_f8_whatever_is_overwritten_no_wrong_image_comes_out_of_an_mcap(
    originals: dict[str, Path], tmp_path: Path, share: float, length: int, filling: bytes
) -> None:
    content = bytearray(originals["chunks"].read_bytes())
    begin = int(share * (len(content) - 1))
    end = min(begin + length, len(content))
    content[begin:end] = filling * (end - begin) or np.random.default_rng(length).bytes(end - begin)
    path = tmp_path / "hit.mcap"
    path.write_bytes(content)
    _, numbers = read(path)
    chunks = chunks_of(originals["chunks"])
    ends = [0, *(chunk.chunk_start_offset + chunk.chunk_length + chunk.message_index_length for chunk in chunks)]
    for chunk, (start, stop) in zip(chunks, pairwise(ends), strict=True):
        if end <= start or begin >= stop:
            assert set(span(chunk)) <= set(numbers)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("kind", ["bag", "chunks", "flat"])
def test_f8_where_a_topic_is_described_twice_and_differently_the_listed_one_holds(
    damaged: Callable[..., Path], kind: str
) -> None:
    def misspell(content: bytearray) -> None:
        middle, first = len(content) // 2, content.index(TOPIC.encode())
        content[middle : middle + 5000] = bytes(5000)
        content[first + 1] ^= 1

    recordings = Recordings.open([damaged(kind, misspell)])
    assert {image.topic for image in recordings.images()} == {camera.topic for camera in recordings.cameras}
