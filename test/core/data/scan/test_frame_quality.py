"""The numbers of a frame tell what they are there to tell, whatever the camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_scan import street

from hrda_core.data.scan.frame_filters import FilterLimits
from hrda_core.data.scan.frame_quality import FrameQuality, measure, motion_between, thumbnail, view_of

GENERATOR = np.random.default_rng(0)
NAN = float("nan")


def _quality(rgb: np.ndarray) -> FrameQuality:
    return measure(rgb, thumbnail(rgb), NAN)


def _motion(before: np.ndarray, after: np.ndarray) -> float:
    return motion_between(view_of(thumbnail(before)), view_of(thumbnail(after)))


@pytest.mark.parametrize(("height", "width"), [(90, 160), (375, 1242), (721, 1281), (1080, 1920), (2000, 700), (8, 8)])
def test_frames_are_shrunk_to_one_width(height: int, width: int) -> None:
    small = thumbnail(GENERATOR.integers(0, 256, (height, width, 3), np.uint8))

    assert small.dtype == np.uint8
    assert small.shape == (max(16, round(height * 320 / width)), 320, 3)


def test_light_is_counted_in_shares_of_the_frame() -> None:
    rgb = np.full((240, 320, 3), 100, np.uint8)
    rgb[:60], rgb[60:120] = 3, 255

    quality = _quality(rgb)

    assert quality.dark == pytest.approx(0.25)
    assert quality.blown == pytest.approx(0.25)
    assert quality.luminance == pytest.approx((3 + 255 + 2 * 100) / 4)


def test_sharpness_falls_with_blur_and_hardly_with_contrast() -> None:
    sharp = street(0, height=360, width=480)
    dusk = (sharp // 3).astype(np.uint8)

    assert _quality(cv2.GaussianBlur(sharp, (0, 0), 3)).sharpness < 0.4 * _quality(sharp).sharpness
    assert _quality(dusk).sharpness == pytest.approx(_quality(sharp).sharpness, rel=0.15)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (360, 480), (1080, 1920)])
@pytest.mark.parametrize("strength", [6, 60])
def test_noise_and_plain_surfaces_have_no_structure_at_any_size(height: int, width: int, strength: int) -> None:
    noise = np.clip(100 + strength * GENERATOR.standard_normal((height, width, 3)), 0, 255).astype(np.uint8)

    assert _quality(noise).structure < FilterLimits().structure
    assert _quality(np.full((height, width, 3), 120, np.uint8)).structure < FilterLimits().structure


def test_noise_that_went_through_a_jpeg_or_a_lens_has_no_structure_either() -> None:
    noise = GENERATOR.integers(0, 256, (360, 480, 3), np.uint8)
    coded = cv2.imdecode(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)

    for frame in (coded, cv2.GaussianBlur(noise, (0, 0), 1.5)):
        assert _quality(frame).structure < FilterLimits().structure


def test_a_scene_has_structure_also_in_the_dark_and_with_noise() -> None:
    night = np.clip(street(0) / 8 + 4 * GENERATOR.standard_normal((120, 160, 3)), 0, 255).astype(np.uint8)

    assert _quality(street(0)).structure > 2 * FilterLimits().structure
    assert _quality(night).structure > 2 * FilterLimits().structure


def test_motion_sees_a_shift_and_neither_noise_nor_exposure() -> None:
    frame = street(0, height=360, width=480)
    noisy = np.clip(frame + 10 * GENERATOR.standard_normal(frame.shape), 0, 255).astype(np.uint8)
    still = FilterLimits().still

    assert _motion(frame, noisy) < still
    assert _motion(frame, (frame - 20).astype(np.uint8)) < still
    assert _motion(frame, street(8, height=360, width=480)) > still


def test_descriptors_do_not_depend_on_the_size_of_the_frame() -> None:
    small = street(0, height=120, width=160)
    large = cv2.resize(small, (1280, 960), interpolation=cv2.INTER_LINEAR)

    np.testing.assert_allclose(_quality(small).descriptor, _quality(large).descriptor, atol=0.01)
