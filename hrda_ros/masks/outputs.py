"""Chooses the outputs for a frame, draws them in place and publishes them. Needs no rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError
from hrda_core.inference import Prediction
from hrda_core.inference.overlay import blend, colorize
from hrda_core.resizing import resize_image
from hrda_ros.masks.codec import MessageBuffer
from hrda_ros.masks.derived_masks import DerivedMask

__all__ = ["OUTPUT_ENCODINGS", "MaskOutputs", "PublisherLike"]

UInt8Array = npt.NDArray[np.uint8]

OUTPUT_ENCODINGS = {"labels": "mono8", "color": "rgb8", "overlay": "rgb8", "confidence": "mono8"}
"""Output name (topic `~/NAME`) to the encoding of its images."""

_DRAWN = {"color", "overlay"}
"""Pictures for people: made only while somebody looks."""


class PublisherLike(Protocol):
    """The part of an rclpy publisher that is used here."""

    def publish(self, msg: Any) -> None:
        """Serialise and send; the message may be written again afterwards."""
        ...

    def get_subscription_count(self) -> int:
        """Return the number of subscriptions that are matched now."""
        ...


class MaskOutputs:
    """The mask topics of one node.

    Args:
        publishers: publishers by output name; `labels` at least.
        new_message: makes an empty `sensor_msgs/Image`.
        color_table: uint8 (256, 3) RGB, colour of each class id.
        derived: further outputs, made of the class ids and only while somebody subscribes.
        any_size: whether masks may have another size than the image; pictures then have that of the masks.
    """

    def __init__(
        self,
        publishers: Mapping[str, PublisherLike],
        new_message: Callable[[], Any],
        color_table: UInt8Array,
        derived: Sequence[DerivedMask] = (),
        *,
        any_size: bool = False,
    ) -> None:
        self._publishers = publishers
        self._buffers = {name: MessageBuffer(new_message, OUTPUT_ENCODINGS[name]) for name in publishers}
        self._color_table = color_table
        self._derived = derived
        self._any_size = any_size

    def wanted(self, lazy: bool) -> Set[str]:
        """Return the names of the outputs that are worth making now.

        Args:
            lazy: only what is subscribed to; otherwise also the masks that nobody subscribes to (but no pictures).
        """
        publishers = [*self._publishers.items(), *((mask.name, mask.publisher) for mask in self._derived)]
        subscribed = {name for name, publisher in publishers if publisher.get_subscription_count() > 0}
        return subscribed if lazy else subscribed | (self._publishers.keys() - _DRAWN)

    def publish(
        self, header: Any, rgb: UInt8Array, prediction: Prediction, wanted: Set[str], overlay_alpha: float
    ) -> None:
        """Make and publish the wanted outputs, masks before pictures.

        Args:
            header: header of the camera message, passed on as it is.
            rgb: uint8 (H, W, 3), the camera image.
            prediction: masks of that size, or with `any_size` of any.
            wanted: result of `wanted()`.
            overlay_alpha: weight of the colours in the overlay, 0 to 1.

        Raises:
            BackendError: the masks have another size than the image, and may not.
        """
        height, width = size = prediction.labels.shape[:2]
        labels, confidence = prediction.labels, prediction.confidence
        if any(part.shape != size or part.dtype != np.uint8 for part in (labels, confidence)):  # before one goes out
            raise BackendError(
                f"the back end gave masks of {labels.dtype} {labels.shape} and confidence of {confidence.dtype} "
                f"{confidence.shape}; expected uint8 of one height and width"
            )
        if size != rgb.shape[:2] and not self._any_size:
            raise BackendError(
                f"the back end gave a mask of shape {prediction.labels.shape} for an image of shape {rgb.shape[:2]}"
            )
        if "labels" in wanted:
            np.copyto(self._begin("labels", header, size), prediction.labels)
            self._send("labels")
        if "confidence" in wanted:
            np.copyto(self._begin("confidence", header, size), prediction.confidence)
            self._send("confidence")
        color: UInt8Array | None = None
        if "color" in wanted:
            color = colorize(prediction.labels, self._color_table, self._begin("color", header, size))
            self._send("color")
        if "overlay" in wanted:
            overlay = self._begin("overlay", header, size)
            if color is None:
                color = colorize(prediction.labels, self._color_table, overlay)
            blend(resize_image(rgb, height, width, "area"), color, overlay_alpha, overlay)
            self._send("overlay")
        for mask in self._derived:
            if mask.name in wanted:
                mask.publish(header, prediction.labels)

    def _begin(self, name: str, header: Any, size: tuple[int, int]) -> UInt8Array:
        return self._buffers[name].begin(header, *size)

    def _send(self, name: str) -> None:
        self._publishers[name].publish(self._buffers[name].message)
