"""The service `~/save_frame`: it answers when the next frame is written, and leaves the executor to the frames."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.serialization import serialize_message
from rclpy.task import Future
from std_srvs.srv import Trigger

from hrda_core import __version__
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_ros.masks.served_model import Running, ServedModel
from hrda_ros.model.hot_swap import Outcome
from hrda_ros.services.frame_files import frames_folder, save_frame
from hrda_ros.services.frame_saver import FrameSaver, Shot
from hrda_ros.settings.parameters import Settings, read_settings

__all__ = ["SaveService", "describe"]


class SaveService:
    """The service `~/save_frame` (`std_srvs/srv/Trigger`) of a node.

    Args:
        node: node that owns the service and has the parameter `save_folder`.
        saver: gets the frames.
        refusal: says why no frame will come now; empty where one may.
    """

    def __init__(self, node: LifecycleNode, saver: FrameSaver, refusal: Callable[[], str]) -> None:
        self._node, self._saver, self._refusal = node, saver, refusal
        # The group of the node would admit no image and no timer until the answer is there.
        self._service = node.create_service(
            Trigger, "~/save_frame", self._serve, callback_group=ReentrantCallbackGroup()
        )

    async def _serve(self, request: Any, response: Any) -> Any:
        """Executor thread. While it awaits, the executor handles everything else, a second call of this too."""
        outcome = await self._next_frame()
        assert outcome is not None
        response.success, response.message = outcome.success, outcome.message
        return response

    def _next_frame(self) -> Future[Outcome]:
        executor = self._node.executor
        answer: Future[Outcome] = Future()

        def done(outcome: Outcome) -> None:
            answer.set_result(outcome)
            if executor is not None:
                executor.wake()  # it looks at waiting coroutines only when something happens

        if refusal := self._refusal():
            done(Outcome(False, refusal))
            return answer
        folder, name = read_settings(self._node).save_folder, self._node.get_fully_qualified_name()

        def write(shot: Shot) -> str:
            source = f"{name}{shot.about.get('topic', '')}"  # cameras may share a stamp
            return f"saved '{save_frame(frames_folder(folder), source, shot, serialize_message(shot.message))}'"

        self._saver.request(write, done)
        return answer


def describe(shot: Shot, settings: Settings, model: ServedModel, running: Running, encoding: str, topic: str) -> None:
    """Worker thread: put into a shot what is in force for its frame.

    Args:
        running: what runs on the camera of the frame.
        encoding: layout of the message's pixels, or the format of a compressed one.
        topic: where it came from.
    """
    path = getattr(model.segmenter.bundle, "path", None)
    shot.manifest = path / MANIFEST_NAME if path else None
    shot.about = {
        "topic": topic,
        "encoding": encoding,
        "parameters": asdict(settings),
        "model": model.segmenter.bundle.name,
        "model_id": model.model_id,
        "running": asdict(running),
        "versions": {
            "hrda_ros": __version__,
            "python": platform.python_version(),
            "ros": os.environ.get("ROS_DISTRO", ""),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "system": platform.platform(),
        },
    }
