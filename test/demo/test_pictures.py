"""Text, legend and video, drawn from made-up frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from street_demo import video
from street_demo.drawing import draw_text, legend_height, seen_classes
from street_demo.video import write_video

from hrda_core.labels import CITYSCAPES19

ROAD, SKY, CAR = 0, 10, 13


def test_text_outside_ascii_is_drawn_without_failing() -> None:
    picture = np.zeros((30, 200, 3), np.uint8)
    draw_text(picture, "título, тест", (0, 20), 0.5)
    assert picture.any()


def test_legend_leaves_out_classes_that_hardly_occur() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[0, 0] = CAR
    labels[50:] = SKY
    assert seen_classes([labels], CITYSCAPES19) == [ROAD, SKY]


def test_legend_names_a_class_of_a_thousandth_of_the_pictures() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[50, :10] = CAR
    assert seen_classes([labels], CITYSCAPES19) == [ROAD, CAR]


def test_legend_leaves_out_unlabelled_pixels() -> None:
    assert seen_classes([np.full((4, 4), 255, np.uint8)], CITYSCAPES19) == []


def test_legend_grows_by_rows() -> None:
    assert legend_height(0, 1000) == 0
    assert legend_height(19, 1000) > legend_height(5, 1000) > 0


def made_pictures() -> list[np.ndarray]:
    return [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(6)]


def test_video_reads_back_with_its_colours(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    path = write_video([red] * 4, tmp_path, 8.0)
    assert path.name == "overlay.mp4"
    good, frame = cv2.VideoCapture(str(path)).read()
    assert good
    np.testing.assert_allclose(frame.mean(axis=(0, 1)), (0, 0, 200), atol=12)  # OpenCV reads BGR


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="OpenCV before 4.11 writes no animated pictures")
def test_without_the_codec_an_animated_picture_is_written(tmp_path: Path) -> None:
    path = write_video(made_pictures(), tmp_path, 8.0, codec="none")
    assert path.suffix in {".webp", ".png"}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    good, animation = cv2.imreadanimation(str(path))
    assert good
    assert len(animation.frames) == len(made_pictures())


def test_no_format_at_all_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_write_mp4", lambda *_: False)
    monkeypatch.setattr(video, "_write_animation", lambda *_: False)
    with pytest.raises(video.DemoError, match="neither mp4 nor animated"):
        write_video(made_pictures(), tmp_path, 8.0)
    assert not list(tmp_path.iterdir())
