"""Publishes the calibration of the camera beside the masks: `~/camera_info`, with the stamp of the mask.

Masks of another size than the image have a calibration of their own. Pixels are squares whose centres have whole
coordinates, so a coordinate x of the image is (x + 1/2) s - 1/2 in a mask that is s times as wide.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from hrda_ros.frames.stamp_sets import StampSets, stamp_of

__all__ = ["CameraInfoRelay", "Size", "camera_info_topic", "scaled_info"]

Size = tuple[int, int]
"""Height and width, pixels."""

_KEPT = 30
"""Messages that wait for the other half, at most: the calibration comes before the mask by the time of inference."""


def camera_info_topic(image: str) -> str:
    """Return the topic of a camera's calibration, as image_transport names it.

    Args:
        image: full name of the camera's image topic, with or without the suffix `/compressed`.

    Returns:
        the topic `camera_info` beside it: `/front/camera_info` for `/front/image_raw`.
    """
    return f"{image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"


class CameraInfoRelay:
    """Passes a camera's calibration on for every frame whose mask was published: as it came, or scaled to the mask.

    Args:
        node: node that subscribes.
        topic: full name of the camera's topic.
        publisher: publishes `sensor_msgs/CameraInfo`.
    """

    def __init__(self, node: LifecycleNode, topic: str, publisher: Any) -> None:
        self._node = node
        self._publisher = publisher
        self._sets = StampSets(("mask", "camera_info"), _KEPT)
        self._subscription = node.create_subscription(CameraInfo, topic, self._on_info, qos_profile_sensor_data)

    def masks_published(self, header: Any, image: Size, mask: Size) -> None:
        """Worker thread: the masks with this `std_msgs/Header` have gone out, made of an image of that size."""
        self._offer("mask", header, (image, mask))

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _on_info(self, message: CameraInfo) -> None:
        self._offer("camera_info", message.header, message)

    def _offer(self, name: str, header: Any, item: Any) -> None:
        complete = self._sets.offer(name, stamp_of(header), item)
        if complete and self._publisher.get_subscription_count():
            self._publisher.publish(scaled_info(complete["camera_info"], *complete["mask"]))


def scaled_info(info: CameraInfo, image: Size, mask: Size) -> CameraInfo:
    """Return the calibration of masks that are resized from an image.

    Args:
        info: calibration of the image. It is not changed.
        image: size of the image.
        mask: size of the masks.

    Returns:
        the message itself where the sizes are equal; else a copy with K, P, size and region of interest scaled. The
        distortion is in tangents of rays and stays. The region is rounded to whole pixels.
    """
    if image == mask:
        return info
    x, y = mask[1] / image[1], mask[0] / image[0]
    scale = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    scaled = copy.deepcopy(info)
    scaled.k = (scale @ np.reshape(info.k, (3, 3))).ravel()
    scaled.p = (scale @ np.reshape(info.p, (3, 4))).ravel()
    scaled.width, scaled.height = round(info.width * x), round(info.height * y)
    region = scaled.roi
    region.x_offset, region.width = round(region.x_offset * x), round(region.width * x)
    region.y_offset, region.height = round(region.y_offset * y), round(region.height * y)
    return scaled
