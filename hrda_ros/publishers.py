"""The node's output topics as rclpy publishers, made in configure and withdrawn in cleanup.

The topics stay while the models behind them change; `serve` connects a model to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from hrda_core.labels import LabelSpace
from hrda_ros.label_info import fill_vision_label_info, served_label_info
from hrda_ros.outputs import OUTPUT_ENCODINGS, MaskOutputs
from hrda_ros.segmenter import Segmenter
from hrda_ros.served_model import ServedModel, Stamp

__all__ = ["Publishers"]


class Publishers:
    """All output topics of one configured node.

    Args:
        node: node that owns these private topics.
        confidence: whether `~/confidence` is one of them.
    """

    def __init__(self, node: LifecycleNode, *, confidence: bool) -> None:
        self._node = node
        self._made: list[Any] = []
        self._images = {
            name: self._advertise(Image, name, latched=False)
            for name in OUTPUT_ENCODINGS
            if confidence or name != "confidence"
        }
        self._info = self._advertise(String, "label_info", latched=True)
        self._publish_vision_info = self._vision_info()

    def serve(self, segmenter: Segmenter) -> ServedModel:
        """Return a model connected to these topics; nothing is published yet."""
        masks = MaskOutputs(self._images, Image, segmenter.bundle.label_space.color_table())
        return ServedModel(segmenter, masks, self._publish)

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
            message_type, f"~/{name}", qos, qos_overriding_options=overrides
        )
        self._made.append(publisher)
        return publisher

    def _publish(self, served: ServedModel, first_stamp: Stamp | None) -> None:
        self._info.publish(String(data=served_label_info(served.segmenter, served.model_id, first_stamp)))
        self._publish_vision_info(served.segmenter.bundle.label_space)

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
