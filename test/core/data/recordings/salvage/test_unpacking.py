"""Packed data (F8, F9): what they yield is limited before it is made, and is whole or what could be read."""

from __future__ import annotations

import bz2
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from recorded import record

from hrda_core.data.recordings.recording_storage import list_storage, open_reader
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.recordings.salvage import mcap_walk, unpacking
from hrda_core.data.recordings.salvage.unpacking import UnpackedTooLargeError, unpack
from hrda_core.errors import require

zstd = require(unpacking._ZSTD, "bag")
PACK: dict[str, Callable[[bytes], bytes]] = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress}
MEGABYTE = 1 << 20


def peak_of(call: Callable[[], object]) -> int:
    """Bytes that a call takes at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", PACK)
def test_what_was_packed_comes_back_in_one_frame_or_several_and_as_far_as_it_goes(compression: str) -> None:
    first, second = random.Random(0).randbytes(3000) * 300, b"second" * 1000
    packed = PACK[compression](first)
    assert unpack(compression, packed) == first
    assert unpack(compression, packed + PACK[compression](second)) == first + second
    assert first.startswith(unpack(compression, packed[: len(packed) // 2]))
    assert unpack("none", packed) == unpack("", packed) == packed


@pytest.mark.parametrize("compression", PACK)
def test_f8_what_lies_beyond_the_limit_is_never_made(compression: str) -> None:
    packed = PACK[compression](bytes(40 * MEGABYTE))
    assert len(unpack(compression, packed, 40 * MEGABYTE)) == 40 * MEGABYTE

    def refused() -> None:
        with pytest.raises(UnpackedTooLargeError, match="more than 1000 bytes"):
            unpack(compression, packed, 1000)

    assert peak_of(refused) < 20 * MEGABYTE


@pytest.mark.parametrize("compression", ["zstd", "bz2"])
def test_f9_a_chunk_out_of_all_proportion_is_refused_far_below_the_limit(compression: str) -> None:
    packed = PACK[compression](bytes(65 * MEGABYTE))
    with pytest.raises(UnpackedTooLargeError, match="more than 67108864 bytes"):
        unpack(compression, packed)


def _bomb(path: Path, compression: str, declared: int) -> Path:
    """An mcap file of one chunk of 64 MB of zeros, which says that it has `declared` bytes."""
    packed = PACK[compression](bytes(64 * MEGABYTE))
    name = compression.encode()
    body = struct.pack("<QQQII", 1, 2, declared, 0, len(name)) + name + struct.pack("<Q", len(packed)) + packed
    magic, header = b"\x89MCAP0\r\n", struct.pack("<II", 0, 0)
    records = [(1, header), (6, body), (15, struct.pack("<I", 0)), (2, struct.pack("<QQI", 0, 0, 0))]
    path.write_bytes(magic + b"".join(struct.pack("<BQ", op, len(data)) + data for op, data in records) + magic)
    return path


@pytest.mark.parametrize("declared", [64 * MEGABYTE, 100, 2**62], ids=["honest", "too_little", "absurd"])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_f9_a_chunk_that_unpacks_to_more_than_it_may_is_damage_and_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, declared: int
) -> None:
    for module in (unpacking, mcap_walk):
        monkeypatch.setattr(module, "MAX_UNPACKED", MEGABYTE)
    path = _bomb(tmp_path / "a.mcap", compression, declared)
    assert path.stat().st_size < 400_000
    damage: list[tuple[str, ...]] = []
    assert peak_of(lambda: damage.append(list_storage(path).damage)) < 20 * MEGABYTE
    assert "unpacks to more than" in " ".join(damage[0])


def test_f9_the_library_unpacks_within_the_limits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 1000)
    for kind in ("zstd", "lz4"):
        path = record(tmp_path / kind, kind, range(3))
        reader = open_reader(path)
        with pytest.raises(UnpackedTooLargeError):
            list(reader.messages())
        reader.close()


def test_f9_a_packed_file_out_of_all_proportion_is_unpacked_in_part_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = record(tmp_path / "drive", "mcap", range(3))
    content = plain.read_bytes() + bytes(64 * MEGABYTE)
    packed = tmp_path / "a.mcap.zstd"
    packed.write_bytes(zstd.compress(content))
    monkeypatch.setattr(unpacking, "_FREE_BYTES", 8 * MEGABYTE)
    listed = []
    assert peak_of(lambda: listed.append(list_storage(packed))) < 30 * MEGABYTE
    assert "a.mcap.zstd' unpacks only in part (it unpacks to more than" in " ".join(listed[0].damage)
    assert len(list(Recordings.open([packed]).images())) == 3, "what lies before the limit is read"
