"""Where the calibration of a camera is published, and how it describes masks of another size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")


@pytest.mark.parametrize(
    ("image", "topic"),
    [
        ("/front/image_raw", "/front/camera_info"),
        ("/image", "/camera_info"),
        ("/front/image_raw/compressed", "/front/camera_info"),
    ],
)
def test_it_lies_beside_the_image_as_image_transport_has_it(image: str, topic: str) -> None:
    from hrda_ros.masks.camera_info import camera_info_topic

    assert camera_info_topic(image) == topic


def calibration(**fields: Any) -> Any:
    from sensor_msgs.msg import CameraInfo

    k = [400.0, 0.0, 319.5, 0.0, 410.0, 200.0, 0.0, 0.0, 1.0]
    p = [300.0, 0.0, 310.0, -30.0, 0.0, 305.0, 210.0, 0.5, 0.0, 0.0, 1.0, 0.0]
    return CameraInfo(width=640, height=480, k=k, p=p, d=[0.1, 0.2], distortion_model="plumb_bob", **fields)


@pytest.mark.parametrize("mask", [(240, 320), (120, 480), (960, 1281)])
def test_a_point_lies_in_the_mask_where_the_resized_image_has_it(mask: tuple[int, int]) -> None:
    from hrda_ros.masks.camera_info import scaled_info

    info = calibration()
    scaled = scaled_info(info, (480, 640), mask)
    assert (scaled.height, scaled.width) == mask
    point = np.array([0.3, -0.2, 1.7, 1.0])

    def pixel(matrix: Any, columns: int) -> np.ndarray:
        projected = np.reshape(matrix, (3, columns)) @ point[:columns]
        return projected[:2] / projected[2]

    for before, after, columns in ((info.k, scaled.k, 3), (info.p, scaled.p, 4)):
        factors = np.array([mask[1] / 640, mask[0] / 480])
        # The corner of the image is half a pixel before the centre of its first pixel, in the mask too.
        np.testing.assert_allclose(pixel(after, columns), (pixel(before, columns) + 0.5) * factors - 0.5)
    assert (list(scaled.d), scaled.distortion_model) == ([0.1, 0.2], "plumb_bob")
    assert (info.width, info.k[0]) == (640, 400.0), "the camera's message is not changed"


def test_a_region_of_interest_is_scaled_and_a_whole_image_stays_whole() -> None:
    from sensor_msgs.msg import RegionOfInterest

    from hrda_ros.masks.camera_info import scaled_info

    region = RegionOfInterest(x_offset=100, y_offset=40, width=200, height=80)
    scaled = scaled_info(calibration(roi=region), (480, 640), (240, 320)).roi
    assert (scaled.x_offset, scaled.y_offset, scaled.width, scaled.height) == (50, 20, 100, 40)
    assert scaled_info(calibration(), (480, 640), (240, 320)).roi == RegionOfInterest()


def test_the_relay_scales_for_masks_of_another_size_and_passes_on_what_fits() -> None:
    from hrda_ros.masks.camera_info import CameraInfoRelay

    sent: list[Any] = []
    node: Any = SimpleNamespace(create_subscription=lambda *_: None)
    relay = CameraInfoRelay(node, "x", SimpleNamespace(publish=sent.append, get_subscription_count=lambda: 1))
    infos = [calibration(), calibration()]
    infos[1].header.stamp.sec = 1
    for info, mask in zip(infos, [(480, 640), (240, 320)], strict=True):
        relay._on_info(info)
        relay.masks_published(info.header, (480, 640), mask)
    assert sent[0] is infos[0]
    assert (sent[1].header, sent[1].width, sent[1].height) == (infos[1].header, 320, 240)
