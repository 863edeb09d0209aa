"""The node with which ours is compared: the one that one writes first, with the same topics and the same back end.

It has a queue of depth 10 and infers in the callback, copies every image as cv_bridge does for a changed encoding,
sends masks as `bytes`, and always makes both mask and coloured overlay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from hrda_core.labels import CITYSCAPES19


class NaiveNode(Node):
    """Subscribes `image`, publishes `~/labels`.

    Args:
        segment: RGB image to class ids.
        options: options for `rclpy.node.Node`.
    """

    def __init__(self, segment: Callable[[np.ndarray], np.ndarray], **options: Any) -> None:
        super().__init__("segment_node", **options)
        self._segment = segment
        self._palette = CITYSCAPES19.color_table()
        self._labels = self.create_publisher(Image, "~/labels", 10)
        self._overlay = self.create_publisher(Image, "~/overlay", 10)
        self.create_subscription(Image, "image", self.on_image, 10)

    def on_image(self, message: Any) -> None:
        """Do the whole work, in the executor's thread."""
        pixels = np.array(message.data, np.uint8).reshape(message.height, message.width, 3)
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        labels = self._segment(rgb)
        color = self._palette[labels]
        overlay = (0.5 * rgb + 0.5 * color).astype(np.uint8)
        self._labels.publish(to_message(message.header, labels, "mono8"))
        self._overlay.publish(to_message(message.header, overlay, "rgb8"))


def to_message(header: Any, pixels: np.ndarray, encoding: str) -> Any:
    """Make an image message whose data is assigned as bytes."""
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.size // pixels.shape[0]
    message.data = pixels.tobytes()
    return message
