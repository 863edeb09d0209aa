"""The ROS 2 node `ground_node`: masks of one camera in, the ground ahead out. docs/robot/space.md describes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from hrda_core.errors import HrdaError, MissingPackageError
from hrda_core.labels import LabelSpace
from hrda_core.messages import decode_plane
from hrda_ros.settings.class_names import names_of, unknown_names
from hrda_ros.space.camera_model import CameraModel
from hrda_ros.space.classes import check_ids
from hrda_ros.space.ground import GroundView, Layout, ground_kinds
from hrda_ros.space.ground_settings import GROUND_PARAMETERS, GroundSettings
from hrda_ros.space.made_aside import MadeAside
from hrda_ros.space.mask_inputs import MaskInputs
from hrda_ros.space.pose import LOWEST_M, CameraPose

__all__ = ["GroundNode"]

_MASK = {"mono8": "u1", "8UC1": "u1"}


class GroundNode(Node):
    """The node `ground_node`.

    Args:
        node_options: passed on to `rclpy.node.Node`.

    Raises:
        rclpy.exceptions.ParameterException: a parameter value from outside is refused.
        HrdaError: the height of the camera is not given, or tf is wanted and not installed.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("ground_node", **node_options)
        GROUND_PARAMETERS.declare(self)
        settings = GROUND_PARAMETERS.read(self)
        self._pose = _pose_from_tf(self, settings.frame) if settings.use_tf else _pose_from_parameters
        if not settings.use_tf and settings.height_m < LOWEST_M:
            raise HrdaError(
                "the height of the camera is not given: set height_m (metres above the ground) and pitch_deg, or "
                "use_tf:=true"
            )
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._grid_publisher, self._scan_publisher = (
            self.create_publisher(kind, name, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies())
            for kind, name in ((OccupancyGrid, "~/grid"), (LaserScan, "~/scan"))
        )
        self._views = MadeAside[GroundView]("the view of the ground")
        self._kinds = np.zeros(256, np.int8)
        self._kinds_of: Any = None
        types = {"labels": Image, "camera_info": CameraInfo}
        self._inputs = MaskInputs(
            self, types, self._on_set, [self._grid_publisher, self._scan_publisher], settings.keep
        )

    def close(self) -> None:
        """Nothing is left to free before `destroy_node`."""

    def _on_set(self, messages: Mapping[str, Any], space: LabelSpace) -> str:
        settings = GROUND_PARAMETERS.read(self)
        header = messages["labels"].header
        labels = decode_plane(messages["labels"], _MASK)
        check_ids(labels, space)
        camera = CameraModel.from_info(messages["camera_info"], labels.shape[1], labels.shape[0])
        view = self._view_for(camera, self._pose(settings, header.frame_id), settings)
        grid, ranges = view.look(labels, self._kinds_for(space, settings.drivable))
        if self._scan_publisher.get_subscription_count():
            self._scan_publisher.publish(_scan_message(view, ranges, header.stamp, settings.frame))
        if self._grid_publisher.get_subscription_count():
            self._grid_publisher.publish(_grid_message(view, grid, header.stamp, settings))
        return ""

    def _view_for(self, camera: CameraModel, pose: CameraPose, settings: GroundSettings) -> GroundView:
        """The view of before, or another one where the camera, its pose or the layout have changed."""
        layout = Layout(settings.range_m, settings.resolution_m, settings.beams)
        return self._views.get((camera, pose, layout), lambda: GroundView(camera, pose, layout))

    def _kinds_for(self, space: LabelSpace, drivable: str) -> npt.NDArray[np.int8]:
        if self._kinds_of != (space, drivable):
            names = names_of(drivable)
            if problem := unknown_names(names, space, "drivable"):
                self.get_logger().warning(problem)
            self._kinds, self._kinds_of = ground_kinds(space, names), (space, drivable)
        return self._kinds


def _pose_from_parameters(settings: GroundSettings, frame_id: str) -> CameraPose:
    if settings.height_m < LOWEST_M:
        raise HrdaError(f"height_m must be at least {LOWEST_M:g}, not {settings.height_m:g}")
    return CameraPose.of_mount(settings.height_m, math.radians(settings.pitch_deg), settings.ahead_m)


def _pose_from_tf(node: Node, frame: str) -> Callable[[GroundSettings, str], CameraPose]:
    try:
        from tf2_ros import Buffer, TransformListener
    except ImportError as error:
        raise MissingPackageError(
            f"use_tf needs the ROS package tf2_ros, which does not import ({error}); install it, or give height_m and "
            f"pitch_deg"
        ) from error
    buffer = Buffer()
    listener = TransformListener(buffer, node)

    kept: list[CameraPose] = []

    def pose(settings: GroundSettings, frame_id: str, _alive: object = listener) -> CameraPose:
        # The newest one: a camera is fixed to its robot. Noise of a joint would make the view anew for each mask, which
        # takes longer than the next mask does, so that none would ever be placed.
        newest = CameraPose.of_transform(buffer.lookup_transform(frame, frame_id, Time()).transform)
        if not (kept and kept[0].is_near(newest)):
            kept[:] = [newest]
        return kept[0]

    return pose


def _grid_message(view: GroundView, grid: npt.NDArray[np.int8], stamp: Any, settings: GroundSettings) -> OccupancyGrid:
    message = OccupancyGrid()
    message.header.stamp, message.header.frame_id = stamp, settings.frame
    message.info.map_load_time = stamp
    message.info.resolution = settings.resolution_m
    message.info.height, message.info.width = view.shape
    message.info.origin.position.x, message.info.origin.position.y = view.origin
    message.info.origin.orientation.w = 1.0
    message.data.frombytes(grid.tobytes())  # the message's own array: one copy, and no check of each cell
    return message


def _scan_message(view: GroundView, ranges: npt.NDArray[np.float32], stamp: Any, frame: str) -> LaserScan:
    message = LaserScan()
    message.header.stamp, message.header.frame_id = stamp, frame
    message.angle_increment = view.beam_step
    message.angle_min = -math.pi
    message.angle_max = -math.pi + (len(ranges) - 1) * view.beam_step
    message.range_min, message.range_max = 0.0, view.farthest
    message.ranges.frombytes(ranges.tobytes())
    return message
