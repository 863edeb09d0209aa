"""Frames for calibration: from anywhere, evenly spread, as the predictor would hand them to the graph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hrda_core.errors import DataError, RecipeError
from hrda_core.inference import Predictor
from hrda_training.calibration_images import MIN_IMAGES, calibration_images, spread_frames


def _frame(number: int, height: int = 30, width: int = 40) -> np.ndarray:
    """The first pixel tells which one it is, the others are noise."""
    rgb = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    rgb[:4, :4] = 2 * number
    return rgb


def _folder(path: Path, count: int, **size: int) -> Path:
    path.mkdir(exist_ok=True)
    for number in range(count):
        rgb = _frame(number, **size)
        cv2.imwrite(str(path / f"{number:04d}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


def _numbers(frames: object) -> list[int]:
    return [int(rgb.reshape(-1)[0]) // 2 for rgb in frames]  # type: ignore[attr-defined]


def test_frames_are_spread_evenly_and_those_between_are_others(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 40)
    frames, between = (_numbers(spread_frames(folder, 10, between=between)) for between in (False, True))
    assert frames == list(range(1, 40, 4))
    assert between == list(range(3, 40, 4))


def test_footage_with_fewer_frames_gives_all_of_them(tmp_path: Path) -> None:
    assert _numbers(spread_frames(_folder(tmp_path / "images", 9), 32)) == list(range(9))


@pytest.mark.parametrize("size", [(50, 70), (64, 64), (128, 192)])
def test_images_are_padded_as_the_predictor_pads_them(tmp_path: Path, tiny_bundle: Path, size: tuple[int, int]) -> None:
    height, width = size
    folder = _folder(tmp_path / "images", 8, height=height, width=width)
    predictor, given = Predictor(tiny_bundle), []
    predictor(_frame(0, height, width))
    backend = predictor._opened[-1].backend
    predictor._opened[-1].backend = _Spy(backend, given)  # type: ignore[assignment]
    for number in range(8):
        predictor(_frame(number, height, width))
    images = list(calibration_images(folder, given[0].shape[1:3], 8))
    assert len(images) == 8
    for image, expected in zip(images, given, strict=True):
        np.testing.assert_array_equal(image, expected)


class _Spy:
    """A back end that writes down what it is given."""

    def __init__(self, backend: object, given: list[np.ndarray]) -> None:
        self._backend, self._given = backend, given

    def __call__(self, image: np.ndarray) -> object:
        self._given.append(image.copy())
        return self._backend(image)  # type: ignore[operator]

    def close(self) -> None:
        self._backend.close()  # type: ignore[attr-defined]


def test_larger_frames_are_shrunk_to_fit_and_keep_their_ratio(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 8, height=200, width=100)
    image = next(calibration_images(folder, (64, 64), 8))
    assert image.shape == (1, 64, 64, 3)
    expected = cv2.resize(_frame(0, 200, 100), (32, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(image[0, :, :32], expected)
    np.testing.assert_array_equal(image[0, :, 32:], np.repeat(expected[:, -1:], 32, axis=1))


def test_frames_of_a_recording(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from made_bag import TOPIC, write_made_bag

    bag = write_made_bag(tmp_path / "drive", (_frame(number) for number in range(20)))
    assert _numbers(spread_frames(bag, 10)) == list(range(0, 20, 2))
    assert _numbers(spread_frames(bag, 10, topic=TOPIC)) == list(range(0, 20, 2))
    with pytest.raises(DataError, match="/rear"):
        spread_frames(bag, 10, topic="/rear")


def test_damaged_images_are_left_out(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 10)
    (folder / "0003.png").write_bytes(b"no picture")
    assert _numbers(spread_frames(folder, 10)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    for number in (4, 5):
        (folder / f"{number:04d}.png").write_bytes(b"")
    frames = spread_frames(folder, 10)
    with pytest.raises(DataError, match=r"has 7 frames that can be read, of 10 that were tried; .* at least 8"):
        list(frames)


def test_too_few_frames_are_refused_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 7 frames; calibration takes at least 8.* give more footage"):
        spread_frames(_folder(tmp_path / "images", MIN_IMAGES - 1))
    with pytest.raises(RecipeError, match="at least 8 images, asked for are 3"):
        spread_frames(tmp_path / "images", 3)
    with pytest.raises(DataError, match="does not exist"):
        calibration_images(tmp_path / "nowhere", (64, 64))
