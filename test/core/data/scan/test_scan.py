"""One pass over real recordings: what it counts, what it measures, what it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_bag import START_NS, TOPIC, write_made_bag
from made_scan import street

from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.recordings.recorded_image import RecordedImage
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.scan.camera_scan import CameraPass
from hrda_core.data.scan.scan import Scan, scan
from hrda_core.errors import ImageError, RecipeError


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames at 10 Hz."""
    return write_made_bag(tmp_path_factory.mktemp("bag") / "drive", (street(8 * n) for n in range(60)), hz=10)


def _scan(*paths: Path, **options) -> Scan:
    return scan(Recordings.open(paths, several=True), **options)


def test_all_stamps_are_noted_and_two_frames_a_second_measured(bag: Path) -> None:
    result = _scan(bag)

    (camera,) = result.cameras
    assert camera.topic == TOPIC
    np.testing.assert_array_equal(camera.stamps_ns, START_NS + 10**8 * np.arange(60))
    assert [frame.number for frame in camera.frames] == list(range(0, 60, 5))
    assert all(frame.quality is not None and frame.quality.structure > 0.4 for frame in camera.frames)
    assert camera.encodings == ("rgb8",)
    assert camera.sizes == ((160, 120),)
    assert result.recordings[0].images == 60
    assert result.span_s == pytest.approx(5.9)
    assert result.salvage == ()


@pytest.mark.parametrize(
    ("seconds", "turns"),
    [
        ([0, 0.46, 1.03, 1.48, 1.97], [True] * 5),  # a camera of that rate, with jitter
        ([0, 0.3, 0.6, 0.9, 1.2, 1.5], [True, False, True, False, True, True]),
        ([0, 0.1, 7.0, 7.1, 7.5], [True, False, True, False, True]),  # a gap
        ([9.0, 9.1, 2.0, 2.1, 2.5], [True, False, True, False, True]),  # the clock is set back
    ],
)
def test_a_frame_is_measured_when_its_turn_has_come(seconds: list[float], turns: list[bool]) -> None:
    camera = CameraPass("/camera", "sensor_msgs/msg/Image", period_s=0.5, pictures=0)

    images = (RecordedImage("/camera", round(1e9 * s), 0, Path("bag"), 0, "", b"") for s in seconds)

    assert [camera.note(image, 0) for image in images] == turns


def test_motion_tells_a_stop_from_driving(tmp_path: Path) -> None:
    places = [0, 40, 80, 80, 80, 120]
    path = write_made_bag(tmp_path / "stop", (street(place, height=240, width=320) for place in places))

    motion = [frame.quality.motion for frame in _scan(path).cameras[0].frames if frame.quality is not None]

    assert np.isnan(motion[0])
    assert [value < 0.03 for value in motion[1:]] == [False, False, True, True, False]


def test_compressed_images_name_their_format(tmp_path: Path) -> None:
    path = write_made_bag(tmp_path / "jpeg", (street(8 * n) for n in range(4)), jpeg=True)

    (camera,) = _scan(path).cameras
    assert camera.encodings == ("jpeg",)
    assert camera.message_type == "sensor_msgs/msg/CompressedImage"


def test_several_recordings_go_on_numbering_and_keep_their_own_place(tmp_path: Path) -> None:
    first = write_made_bag(tmp_path / "first", (street(8 * n) for n in range(4)))
    second = write_made_bag(tmp_path / "second", (street(8 * n) for n in range(3)), topic="/rear")

    result = _scan(second, first)

    assert sorted(camera.topic for camera in result.cameras) == ["/camera/image_raw", "/rear"]
    assert {span.path: span.images for span in result.recordings} == {first: 4, second: 3}
    assert len(result.frames) == 7


def test_frames_that_do_not_decode_are_counted_with_their_cause(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RecordedImage.decode

    def decode(image: RecordedImage) -> np.ndarray:
        if image.number == 10:
            raise ImageError("too few bytes", "short")
        return whole(image)

    monkeypatch.setattr(RecordedImage, "decode", decode)
    frames = _scan(bag).cameras[0].frames

    assert [(frame.number, frame.cause) for frame in frames if frame.quality is None] == [(10, "short")]
    assert len(frames) == 12


def test_a_mistake_in_the_analysis_is_not_swallowed(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(RecordedImage, "decode", lambda image: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        _scan(bag)


def test_pictures_are_evenly_spaced_and_bounded(bag: Path) -> None:
    pictures = _scan(bag, analyse_hz=10, pictures=5).cameras[0].pictures

    assert 5 <= len(pictures) < 10
    assert len(set(np.diff([picture.number for picture in pictures]))) == 1
    assert pictures[0].jpeg.startswith(b"\xff\xd8")
    assert _scan(bag).cameras[0].pictures == ()


def test_progress_ends_at_the_total(bag: Path) -> None:
    calls: list[tuple[int, int]] = []
    _scan(bag, progress=lambda done, total: calls.append((done, total)))

    assert calls[-1] == (60, 60)
    assert all(done < total for done, total in calls[:-1])


def test_a_rate_of_nothing_is_refused(bag: Path) -> None:
    with pytest.raises(RecipeError, match="above 0"):
        _scan(bag, analyse_hz=0)


def test_a_ros1_recording_names_its_format(shared_dir: Path) -> None:
    (camera,) = _scan(shared_dir / "data" / "rosbags" / "camvid_day_ros1.bag").cameras

    assert camera.encodings == ("jpeg",)
    assert camera.sizes == ((480, 360),)
    assert len(camera.frames) == 25


def test_frames_by_day_and_at_dusk_all_pass_the_filters(shared_dir: Path) -> None:
    for name in ("camvid_day_0006R0_mcap", "camvid_dusk_0001TP_mcap"):
        counts = select_frames(_scan(shared_dir / "data" / "rosbags" / name), SelectionConfig()).counts
        assert counts["kept"] + counts["held_out"] + counts["gap"] == sum(counts.values())
