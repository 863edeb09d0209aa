"""The bundled recording: small, readable, honest about its origin."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from street_demo.paths import BAG
from street_demo.recording import Recording, open_recording

from hrda_core.data.recordings.mask_recording import RecordingWriter
from hrda_core.errors import HrdaError


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
    shapes = {image.decode().shape for image in recording.images()}
    assert shapes == {(360, 480, 3)}


def test_stamps_rise_strictly(recording: Recording) -> None:
    assert all(later > earlier for earlier, later in pairwise(recording.stamps))
    assert [image.stamp_ns for image in recording.images()] == list(recording.stamps)


def test_stretches_cover_every_frame_with_day_and_dusk(recording: Recording) -> None:
    lights = [recording.light_at(stamp) for stamp in recording.stamps]
    assert set(lights) == {"day", "dusk"}
    assert lights.count("day") >= 50
    assert lights.count("dusk") >= 25


def test_dusk_frames_are_darker_than_day_frames(recording: Recording) -> None:
    brightness: dict[str, list[float]] = {"day": [], "dusk": []}
    for image in recording.images():
        # The lower half: road and buildings, no sky.
        brightness[recording.light_at(image.stamp_ns)].append(float(image.decode()[180:].mean()))
    assert np.max(brightness["dusk"]) < np.min(brightness["day"])


@pytest.mark.parametrize(("asked", "given"), [(None, 101), (6, 6), (101, 101), (500, 101), (1, 1)])
def test_a_limit_picks_that_many_frames_in_order(recording: Recording, asked: int | None, given: int) -> None:
    stamps = recording.evenly_spaced(asked)
    assert len(set(stamps)) == given
    assert list(stamps) == sorted(stamps)


def test_a_few_frames_still_show_day_and_dusk(recording: Recording) -> None:
    assert {recording.light_at(stamp) for stamp in recording.evenly_spaced(6)} == {"day", "dusk"}


def test_a_bag_that_cannot_be_read_or_has_no_compressed_images_is_one_sentence(tmp_path: Path) -> None:
    copy = shutil.copytree(BAG, tmp_path / BAG.name)
    (copy / f"{BAG.name}.mcap").write_bytes(b"")
    with RecordingWriter(tmp_path / "no camera") as writer:
        writer.write("/depth", "sensor_msgs/msg/Image", 1, b"\0\1\0\0")
    for path, sentence in ((copy, "cannot be read"), (tmp_path / "no camera", "give a bag of a camera")):
        with pytest.raises(HrdaError, match=sentence) as caught:
            open_recording(path)
        assert "\n" not in str(caught.value)
