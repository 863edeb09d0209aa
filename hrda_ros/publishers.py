"""The node's output topics as rclpy publishers, made in configure and withdrawn in cleanup."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from hrda_ros.label_info import fill_vision_label_info, label_info_json
from hrda_ros.outputs import OUTPUT_ENCODINGS, MaskOutputs
from hrda_ros.segmenter import Segmenter

__all__ = ["Publishers"]


class Publishers:
    """All output topics of one configured node.

    Args:
        node: whose private topics they are.
        segmenter: whose classes they carry.
        confidence: whether `~/confidence` is one of them.

    Attributes:
        masks: the image topics.
    """

    def __init__(self, node: LifecycleNode, segmenter: Segmenter, *, confidence: bool) -> None:
        self._node = node
        self._made: list[Any] = []
        images = {
            name: self._advertise(Image, name, latched=False)
            for name in OUTPUT_ENCODINGS
            if confidence or name != "confidence"
        }
        self.masks = MaskOutputs(images, Image, segmenter.bundle.label_space.color_table())
        self._infos = self._label_infos(segmenter)

    def publish_label_info(self) -> None:
        """Publish the class names; late subscribers get them too."""
        for publisher, message in self._infos:
            publisher.publish(message)

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

    def _label_infos(self, segmenter: Segmenter) -> list[tuple[Any, Any]]:
        """(publisher, message) of every form of the class names that this machine has message types for."""
        space, bundle = segmenter.bundle.label_space, segmenter.bundle
        text = label_info_json(space, model=bundle.name, preset=bundle.preset, plan=segmenter.plan)
        infos = [(self._advertise(String, "label_info", latched=True), String(data=text))]
        try:
            from vision_msgs.msg import LabelInfo, VisionClass
        except ImportError:
            return infos
        message = LabelInfo()
        message.header.stamp = self._node.get_clock().now().to_msg()
        fill_vision_label_info(message, VisionClass, space)
        return [*infos, (self._advertise(LabelInfo, "label_info_vision", latched=True), message)]
