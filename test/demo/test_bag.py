"""The bundled recording: small, readable, honest about its origin."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from street_demo.errors import DemoError
from street_demo.paths import BAG
from street_demo.recording import Recording, decode_frame, header_stamp_ns, open_recording


@pytest.fixture(scope="module")
def recording() -> Recording:
    return open_recording(BAG)


def test_bag_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in BAG.iterdir()) <= 6_000_000


def test_bag_states_its_licence_inside_and_beside() -> None:
    for text in ((BAG / "metadata.yaml").read_text("utf-8"), (BAG / "NOTICE.md").read_text("utf-8")):
        assert "CC BY-NC 4.0" in text
        assert "Brostow" in text
    assert (BAG / "NOTICE.md").read_bytes() == (BAG.parent / "NOTICE.md").read_bytes()


def test_every_frame_decodes_to_one_size(recording: Recording) -> None:
    shapes = {decode_frame(raw).shape for _, raw in recording.messages()}
    assert shapes == {(360, 480, 3)}


def test_stamps_rise_strictly(recording: Recording) -> None:
    assert all(later > earlier for earlier, later in pairwise(recording.stamps))
    assert [stamp for stamp, _ in recording.messages()] == list(recording.stamps)


def test_stretches_cover_every_frame_with_day_and_dusk(recording: Recording) -> None:
    lights = [recording.light_at(stamp) for stamp in recording.stamps]
    assert set(lights) == {"day", "dusk"}
    assert lights.count("day") >= 50
    assert lights.count("dusk") >= 25


def test_dusk_frames_are_darker_than_day_frames(recording: Recording) -> None:
    brightness: dict[str, list[float]] = {"day": [], "dusk": []}
    for stamp, raw in recording.messages():
        # The lower half: road and buildings, no sky.
        brightness[recording.light_at(stamp)].append(float(decode_frame(raw)[180:].mean()))
    assert np.max(brightness["dusk"]) < np.min(brightness["day"])


@pytest.mark.parametrize(("asked", "given"), [(None, 101), (6, 6), (101, 101), (500, 101), (1, 1)])
def test_a_limit_picks_that_many_frames_in_order(recording: Recording, asked: int | None, given: int) -> None:
    stamps = recording.evenly_spaced(asked)
    assert len(set(stamps)) == given
    assert list(stamps) == sorted(stamps)


def test_a_few_frames_still_show_day_and_dusk(recording: Recording) -> None:
    assert {recording.light_at(stamp) for stamp in recording.evenly_spaced(6)} == {"day", "dusk"}


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_header_stamp_is_read_in_either_byte_order(byte_order: str) -> None:
    raw = bytes([0, byte_order == "little", 0, 0]) + (7).to_bytes(4, byte_order) + (5).to_bytes(4, byte_order)
    assert header_stamp_ns(raw) == 7_000_000_005


def test_missing_bag_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="is not a folder"):
        open_recording(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "no metadata", "empty"])
def test_damaged_bag_is_one_sentence(tmp_path: Path, damage: str) -> None:
    copy = shutil.copytree(BAG, tmp_path / BAG.name)
    storage = copy / f"{BAG.name}.mcap"
    if damage == "cut":
        storage.write_bytes(storage.read_bytes()[:1_000_000])
    elif damage == "empty":
        storage.write_bytes(b"")
    else:
        (copy / "metadata.yaml").unlink()
    with pytest.raises(DemoError, match="cannot be read") as caught:
        open_recording(copy)
    assert "\n" not in str(caught.value)
