"""The ROS 2 node `cloud_node`: masks and aligned depth in, points with classes out. See docs/robot/space.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from hrda_core.errors import HrdaError
from hrda_core.labels import LabelSpace
from hrda_core.messages import decode_plane
from hrda_ros.settings.class_names import names_of, unknown_names
from hrda_ros.space.camera_model import CameraModel
from hrda_ros.space.classes import check_ids
from hrda_ros.space.cloud_message import CloudMessage
from hrda_ros.space.cloud_settings import CLOUD_PARAMETERS, CloudSettings
from hrda_ros.space.made_aside import MadeAside
from hrda_ros.space.mask_inputs import MaskInputs
from hrda_ros.space.point_cloud import CloudMaker, Selection

__all__ = ["CloudNode"]

_MASK = {"mono8": "u1", "8UC1": "u1"}
_DEPTH = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}


class CloudNode(Node):
    """The node `cloud_node`.

    Args:
        node_options: passed on to `rclpy.node.Node`.

    Raises:
        rclpy.exceptions.ParameterException: a parameter value from outside is refused.
        HrdaError: no depth lies between the nearest and the farthest one that counts.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("cloud_node", **node_options)
        CLOUD_PARAMETERS.declare(self)
        settings = CLOUD_PARAMETERS.read(self)
        _check_depths(settings)
        # Reliable, so that every subscriber connects; depth 1, so that nothing queues behind a slow one.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._points, self._obstacles = (
            self.create_publisher(
                PointCloud2, name, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
            )
            for name in ("~/points", "~/obstacles")
        )
        self._cloud = CloudMessage(PointCloud2(), PointField)
        self._obstacle_cloud = CloudMessage(PointCloud2(), PointField)
        self._makers = MadeAside[CloudMaker]("the table of rays")
        self._names: Any = None
        types = {"labels": Image, "depth": Image, "camera_info": CameraInfo}
        if settings.use_confidence:
            types["confidence"] = Image
        self._inputs = MaskInputs(self, types, self._on_set, [self._points, self._obstacles], settings.keep)

    def close(self) -> None:
        """Nothing is left to free before `destroy_node`."""

    def _on_set(self, messages: Mapping[str, Any], space: LabelSpace) -> str:
        settings = CLOUD_PARAMETERS.read(self)
        _check_depths(settings)
        labels = decode_plane(messages["labels"], _MASK)
        check_ids(labels, space)
        depth = decode_plane(messages["depth"], _DEPTH)
        confidence = decode_plane(messages["confidence"], _MASK) if "confidence" in messages else None
        camera = CameraModel.from_info(messages["camera_info"], labels.shape[1], labels.shape[0])
        maker = self._maker_for(camera, space, settings)
        obstacles = maker.fill(self._cloud.points(*maker.shape), labels, depth, confidence)
        header = messages["labels"].header
        if self._obstacles.get_subscription_count():
            self._obstacle_cloud.copy(obstacles)
            self._send(self._obstacles, self._obstacle_cloud, header)
        if self._points.get_subscription_count():
            self._send(self._points, self._cloud, header)
        return "" if maker.has_depth else _without_depth(settings)

    def _send(self, publisher: Any, cloud: CloudMessage, header: Any) -> None:
        cloud.message.header = header
        publisher.publish(cloud.message)

    def _maker_for(self, camera: CameraModel, space: LabelSpace, settings: CloudSettings) -> CloudMaker:
        """The maker of before, or another one where the camera, the classes or the parameters have changed."""
        shown, free = names_of(settings.classes), names_of(settings.no_obstacle)
        if self._names != (space, shown, free):
            self._names = (space, shown, free)
            for names, parameter in ((shown, "classes"), (free, "no_obstacle")):
                if problem := unknown_names(names, space, parameter):
                    self.get_logger().warning(problem)

        def make() -> CloudMaker:
            selection = Selection.of(space, shown, free)
            return CloudMaker(camera, settings.stride, selection, settings.min_depth_m, settings.max_depth_m)

        return self._makers.get((camera, space, settings), make)


def _check_depths(settings: CloudSettings) -> None:
    if settings.min_depth_m >= settings.max_depth_m:
        raise HrdaError(
            f"min_depth_m is {settings.min_depth_m:g} and max_depth_m {settings.max_depth_m:g}, so that no depth "
            f"counts; min_depth_m must be the smaller one"
        )


def _without_depth(settings: CloudSettings) -> str:
    return (
        f"the last one without a point: no depth of it is between {settings.min_depth_m:g} m and "
        f"{settings.max_depth_m:g} m (min_depth_m, max_depth_m); 32FC1 is read as metres, 16UC1 as millimetres"
    )
