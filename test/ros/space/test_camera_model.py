"""Pixels to rays and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from space_messages import camera_info

from hrda_core.errors import ImageError
from hrda_ros.space.camera_model import CameraModel

DISTORTIONS = {
    "none": {},
    "plumb_bob": {"d": [-0.28, 0.07, 2e-4, 1e-5, 0.0]},
    "rational_polynomial": {
        "distortion_model": "rational_polynomial",
        "d": [0.3, -0.1, 0.001, 0.0, 0.01, 0.6, 0.0, 0.0],
    },
    "equidistant": {"distortion_model": "equidistant", "d": [-0.01, 0.02, -0.005, 0.001]},
}


def model(width: int = 64, height: int = 48, **fields: Any) -> CameraModel:
    return CameraModel.from_info(camera_info(width, height, **fields), width, height)


def test_the_ray_of_a_pixel_is_its_offset_from_the_centre_over_the_focal_length() -> None:
    rays = model(focal=50.0, center=(30.0, 20.0)).rays()
    assert rays.shape == (48, 64, 2)
    np.testing.assert_allclose(rays[20, 30], (0, 0))
    np.testing.assert_allclose(rays[45, 40], (10 / 50, 25 / 50))


def test_each_axis_has_a_focal_length_of_its_own() -> None:
    camera = CameraModel(64, 48, focal=(50.0, 40.0), center=(30.0, 20.0))
    np.testing.assert_allclose(camera.rays()[45, 40], (10 / 50, 25 / 40))
    np.testing.assert_allclose(camera.pixels(np.array([[10 / 50, 25 / 40]])), [(40, 45)])


def test_a_stride_takes_every_nth_ray_from_the_first_on() -> None:
    camera = model(65, 49, **DISTORTIONS["plumb_bob"])
    np.testing.assert_array_equal(camera.rays(4), camera.rays()[::4, ::4])


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_ray_leads_back_to_its_pixel(name: str) -> None:
    camera = model(**DISTORTIONS[name])
    columns, rows = np.meshgrid(np.arange(64), np.arange(48))
    back = camera.pixels(camera.rays().reshape(-1, 2))
    np.testing.assert_allclose(back, np.stack([columns, rows], -1).reshape(-1, 2), atol=1e-3)


def test_pixels_outside_the_field_of_a_fisheye_have_no_ray_and_never_a_wrong_one() -> None:
    camera = model(640, 480, focal=200.0, **DISTORTIONS["equidistant"] | {"d": [0.0, 0.0, 0.0, 0.0]})
    rays = camera.rays()
    seen = np.isfinite(rays).all(axis=-1)
    assert 0.5 < seen.mean() < 1
    assert not seen[0, 0]
    columns, rows = np.meshgrid(np.arange(640) - camera.center[0], np.arange(480) - camera.center[1])
    assert (rays[seen][:, 0] * columns[seen] >= 0).all(), "a ray to the other side"
    assert (rays[seen][:, 1] * rows[seen] >= 0).all(), "a ray to the other side"


def test_distortion_follows_the_published_formula() -> None:
    k1, k2, p1, p2, _ = DISTORTIONS["plumb_bob"]["d"]
    x, y = 0.2, -0.15
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    expected_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    expected_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    (pixel,) = model(**DISTORTIONS["plumb_bob"]).pixels(np.array([[x, y]]))
    np.testing.assert_allclose(pixel, (100 * expected_x + 31.5, 100 * expected_y + 23.5), atol=1e-6)


def test_rays_beside_the_image_have_no_pixel() -> None:
    pixels = model().pixels(np.array([[0.0, 0.0], [0.33, 0.0], [0.0, -0.25], [5.0, 0.0]]))
    assert np.isfinite(pixels).all(axis=1).tolist() == [True, False, False, False]


def test_rays_so_far_out_that_the_distortion_folds_back_have_no_pixel() -> None:
    # x (1 - 0.28 r2) has its summit near 1.09; what is further out would come back into the image.
    camera = model(640, 480, d=[-0.28, 0.0, 0.0, 0.0, 0.0])
    pixels = camera.pixels(np.array([[0.8, 0.0], [1.6, 0.0], [1.8, 0.0]]))
    assert np.isfinite(pixels).all(axis=1).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"k": np.zeros(9)}, "the camera is not calibrated: fx = 0 and fy = 0"),
        ({"k": np.array([np.nan, 0, 1, 0, 9, 1, 0, 0, 1])}, "the camera is not calibrated"),
        ({"k": np.array([9, 0.5, 1, 0, 9, 1, 0, 0, 1])}, "skew of 0.5"),
        ({"k": np.array([1e-300, 0, 1, 0, 9, 1, 0, 0, 1])}, "fx = 1e-300 and fy = 9 in camera_info must be positive"),
        ({"k": np.array([9, 0, 1, 0, 1e300, 1, 0, 0, 1])}, "fx = 9 and fy = 1e+300 in camera_info must be positive"),
        (
            {"k": np.array([9, 0, np.nan, 0, 9, 1, 0, 0, 1])},
            "cx = nan and cy = 1 in camera_info must be about the middle",
        ),
        ({"k": np.array([9, 0, 1, 0, 9, -1e9, 0, 0, 1])}, "cx = 1 and cy = -1e+09 in camera_info must be about the"),
        ({"distortion_model": "magic", "d": [0.1]}, "the distortion of camera_info is 'magic'"),
        ({"d": [0.1, np.inf, 0, 0, 0]}, "the distortion of camera_info is 'plumb_bob'"),
        ({"distortion_model": 1_000_000 * "x", "d": 1_000_000 * [0.1]}, "with 1000000 coefficients"),
        ({"distortion_model": 1_000_000 * "x", "d": 1_000_000 * [np.nan]}, "the distortion of camera_info is 'xxx"),
        ({"d": [0.1, 0.2, 0.3]}, "camera_info has 3 coefficients of 'plumb_bob'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ImageError) as caught:
        CameraModel.from_info(camera_info(64, 48, **fields), 64, 48)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert caught.value.cause == "camera_info"


def test_the_calibration_of_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ImageError, match="describes images of 1280 x 720 pixels, but the mask has 64 x 48"):
        CameraModel.from_info(camera_info(1280, 720), 64, 48)


def test_models_of_equal_messages_are_equal() -> None:
    assert model(**DISTORTIONS["plumb_bob"]) == model(**DISTORTIONS["plumb_bob"])
    assert model() != model(focal=101.0)
