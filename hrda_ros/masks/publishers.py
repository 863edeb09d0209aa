"""The output topics of a camera as rclpy publishers, made in configure and withdrawn in cleanup.

The topics stay while the models behind them change; `outputs_of` connects a model to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from hrda_core.labels import LabelSpace
from hrda_ros.masks.derived_masks import ClassMask, CompressedLabels, DerivedMask
from hrda_ros.masks.label_info import fill_vision_label_info, served_label_info
from hrda_ros.masks.outputs import OUTPUT_ENCODINGS, MaskOutputs
from hrda_ros.masks.served_model import CameraOutputs, Stamp
from hrda_ros.model.segmenter import Segmenter

__all__ = ["Publishers", "picture_topics"]


def picture_topics(node: LifecycleNode, camera: str = "") -> list[str]:
    """Return the full names, as they are remapped, of all topics on which the outputs of a camera may be pictures."""
    names = (*OUTPUT_ENCODINGS, ClassMask.name, CompressedLabels.name)
    return [node.resolve_topic_name(_prefix(camera) + name) for name in names]


def _prefix(camera: str) -> str:
    return f"~/{camera}/" if camera else "~/"


class Publishers:
    """All output topics of one camera of a configured node.

    Args:
        node: node that owns these private topics.
        camera: name of the camera, under which its topics are: `~/front/labels`; empty = right under the node's.
        confidence: whether `~/confidence` is one of them.
        mask_classes: classes of `~/mask`, which is one of them if there are any.

    Attributes:
        camera_info: publisher of `~/camera_info`.
    """

    def __init__(self, node: LifecycleNode, camera: str = "", *, confidence: bool, mask_classes: list[str]) -> None:
        self._node = node
        self._prefix = _prefix(camera)
        self._made: list[Any] = []
        self._images = {
            name: self._advertise(Image, name, latched=False)
            for name in OUTPUT_ENCODINGS
            if confidence or name != "confidence"
        }
        self._compressed = self._advertise(CompressedImage, CompressedLabels.name, latched=False)
        self._mask_classes = mask_classes
        self._mask = self._advertise(Image, ClassMask.name, latched=False) if mask_classes else None
        self.camera_info = self._advertise(CameraInfo, "camera_info", latched=False)
        self._info = self._advertise(String, "label_info", latched=True)
        self._publish_vision_info = self._vision_info()

    def outputs_of(self, segmenter: Segmenter, identity: str, *, any_size: bool = False) -> CameraOutputs:
        """Return these topics for a model with this id; nothing is published yet.

        Args:
            segmenter: the model.
            identity: its id.
            any_size: whether its masks may have another size than the image.

        Raises:
            LabelSpaceError: the model does not have the classes of `~/mask`.
        """
        space = segmenter.bundle.label_space
        derived: list[DerivedMask] = [CompressedLabels(self._compressed, CompressedImage)]
        if self._mask is not None:
            derived.append(ClassMask(self._mask, Image, space, self._mask_classes))
        masks = MaskOutputs(self._images, Image, space.color_table(), derived, any_size=any_size)
        return CameraOutputs(segmenter, identity, masks, self._publish)

    def close(self) -> None:
        """Withdraw all topics."""
        while self._made:
            self._node.destroy_lifecycle_publisher(self._made.pop())

    def _advertise(self, message_type: Any, name: str, *, latched: bool) -> Any:
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        # Reliable, so that every subscriber connects; depth 1, so that nothing queues behind a slow one.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        overrides = None if latched else QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_lifecycle_publisher(
            message_type, self._prefix + name, qos, qos_overriding_options=overrides
        )
        self._made.append(publisher)
        return publisher

    def _publish(self, segmenter: Segmenter, identity: str, first_stamp: Stamp | None) -> None:
        self._info.publish(String(data=served_label_info(segmenter, identity, first_stamp)))
        self._publish_vision_info(segmenter.bundle.label_space)

    def _vision_info(self) -> Callable[[LabelSpace], None]:
        """Publishes the class names as `vision_msgs/LabelInfo`; does nothing where that package is absent."""
        try:
            from vision_msgs.msg import LabelInfo, VisionClass
        except ImportError:
            return lambda space: None
        publisher = self._advertise(LabelInfo, "label_info_vision", latched=True)

        def publish(space: LabelSpace) -> None:
            message = LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            fill_vision_label_info(message, VisionClass, space)
            publisher.publish(message)

        return publish
