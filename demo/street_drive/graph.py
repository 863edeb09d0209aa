"""The nodes as processes of their own, and the topics of a camera with depth; each frame is waited for by its stamp."""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from street_demo.errors import ChildFailedError

from street_drive.world import Camera

__all__ = ["Graph"]

_CAMERA = "/camera"
_DEPTH = f"{_CAMERA}/aligned_depth/image_raw"
_TYPES = {
    "/cloud_node/obstacles": PointCloud2,
    "/cloud_node/points": PointCloud2,
    "/ground_node/scan": LaserScan,
    "/ground_node/grid": OccupancyGrid,
}
_RESEND_S, _LONGEST_S = 2.0, 60.0
"""A frame of which nothing is heard is sent again; a node that is silent for longer has failed. Seconds."""


class Graph:
    """The nodes `segment_node`, `cloud_node` and `ground_node`, started with what segment.launch.py and space.launch.py
    give them, and the camera.

    Args:
        folder: where their logs go.
        model: bundle of `segment_node`.
        camera: of the robot.
        parameters: further ones by node.

    Raises:
        ChildFailedError: a node does not start, or says nothing to a frame.
    """

    def __init__(
        self, folder: Path, model: Path, camera: Camera, parameters: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._folder, self._camera = folder, camera
        pose = {"height_m": camera.above, "pitch_deg": float(np.degrees(camera.pitch)), "ahead_m": camera.ahead}
        given: dict[str, dict[str, Any]] = {"segment_node": {"model": model}, "cloud_node": {}, "ground_node": pose}
        for name, values in (parameters or {}).items():
            given[name] |= values
        masks = [(name, f"segment_node/{name}") for name in ("labels", "confidence", "camera_info", "label_info")]
        topics = {
            "segment_node": [("image", f"{_CAMERA}/image_raw")],
            "cloud_node": [*masks, ("depth", _DEPTH)],
            "ground_node": masks,
        }
        self._processes = {name: self._start(name, given[name], topics[name]) for name in given}
        self._node = rclpy.create_node("street_drive")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        qos = QoSProfile(depth=5)
        self._image, self._depth = (
            self._node.create_publisher(Image, topic, qos) for topic in (f"{_CAMERA}/image_raw", _DEPTH)
        )
        self._info = self._node.create_publisher(CameraInfo, f"{_CAMERA}/camera_info", qos)
        self._heard: dict[str, Any] = {}

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
        self._executor.shutdown()
        self._node.destroy_node()

    def _start(self, name: str, parameters: Mapping[str, Any], topics: Sequence[tuple[str, str]]) -> Any:
        script = Path(sys.executable).with_name(name)
        call = f"import sys; from hrda_ros.space.programs import {name}; sys.exit({name}())"
        here = ["-m", "hrda_ros"] if name == "segment_node" else ["-c", call]
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        words += [word for old, new in topics for word in ("-r", f"{old}:={new}")]
        command = [*([str(script)] if script.exists() else [sys.executable, *here]), "--ros-args", *words]
        with (self._folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ)

    def listen(self, topics: Sequence[str]) -> None:
        """Subscribe to these outputs, and to no others."""
        for subscription in list(self._node.subscriptions):
            if subscription.topic_name in _TYPES:
                self._node.destroy_subscription(subscription)
        self._heard = {}
        for topic in topics:
            self._node.create_subscription(
                _TYPES[topic], topic, lambda message, topic=topic: self._heard.update({topic: message}), 1
            )
        self._topics = tuple(topics)

    def set_parameter(self, node: str, name: str, value: Any) -> None:
        """Set a parameter of a running node."""
        client = self._node.create_client(SetParameters, f"/{node}/set_parameters")
        assert client.wait_for_service(_LONGEST_S)
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        self._executor.spin_until_future_complete(future, _LONGEST_S)
        (result,) = future.result().results
        assert result.successful, result.reason

    def show(self, stamp_ns: int, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Publish a frame, and wait for what the nodes make of it: message by topic."""
        messages = self._messages(stamp_ns, rgb, depth)
        begun = time.monotonic()
        while time.monotonic() - begun < _LONGEST_S:
            for publisher, message in messages:
                publisher.publish(message)
            sent = time.monotonic()
            while time.monotonic() - sent < _RESEND_S:
                self._executor.spin_once(timeout_sec=0.05)
                if all(_stamp_ns(self._heard.get(topic)) == stamp_ns for topic in self._topics):
                    return dict(self._heard)
            self._check()
        raise ChildFailedError(f"nothing came on {', '.join(self._topics)} for {_LONGEST_S:.0f} s{self._tails()}")

    def _messages(
        self, stamp_ns: int, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]
    ) -> list[tuple[Any, Any]]:
        info = CameraInfo(height=rgb.shape[0], width=rgb.shape[1], distortion_model="plumb_bob", d=[0.0] * 5)
        (x, y), focal = self._camera.center, self._camera.focal
        info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
        millimetres = np.rint(depth * 1000).clip(0, 65535).astype(np.uint16)
        messages = [
            (self._info, info),
            (self._depth, _image(millimetres, "16UC1")),
            (self._image, _image(rgb, "rgb8")),
        ]
        for _, message in messages:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            message.header.frame_id = "camera_color_optical_frame"
        return messages

    def _check(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ChildFailedError(f"{name} has ended with exit code {process.returncode}{self._tails()}")

    def _tails(self) -> str:
        logs = (self._folder / f"{name}.log" for name in self._processes)
        return "".join(f"\n{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-3:])


def _image(pixels: npt.NDArray[Any], encoding: str) -> Image:
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.strides[0]
    message.data = array.array("B", pixels.tobytes())
    return message


def _stamp_ns(message: Any) -> int | None:
    return None if message is None else message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
