"""The ROS 2 node: camera images in, class masks out. docs/robot/node.md lists its topics, parameters and services.

The path of a frame, top to bottom: `Camera.on_image` (executor thread) puts the message into the camera's one-element
slot; `_segment` (worker thread) takes the newest one of the camera whose turn it is, decodes, infers and publishes. The
rest is reload, lifecycle and reporting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from hrda_core.camera_areas import CameraAreas
from hrda_core.errors import LabelSpaceError, reason_of
from hrda_core.inference.say import Level
from hrda_core.memory import give_back_memory
from hrda_ros.camera import Camera
from hrda_ros.frames.pipeline import Ending, Pipeline, StaleFrameError
from hrda_ros.frames.simultaneous import Steps, alone, check_batch, stamps_within, together
from hrda_ros.frames.worker import Batch, Worker
from hrda_ros.health.diagnostics import NodeReport
from hrda_ros.health.monitor import Monitor
from hrda_ros.health.resources import ResourceMeter
from hrda_ros.masks.label_info import model_id
from hrda_ros.masks.publishers import Publishers, picture_topics
from hrda_ros.masks.served_model import ServedModel, describe_exchange
from hrda_ros.model.hot_swap import HotSwap
from hrda_ros.model.plan_ladder import open_within_budget
from hrda_ros.model.plan_steps import NO_BUDGET
from hrda_ros.model.segmenter import Segmenter, warmed_up
from hrda_ros.services.enable_service import EnableService
from hrda_ros.services.frame_saver import FrameSaver, Shot
from hrda_ros.services.manager_bond import ManagerBond
from hrda_ros.services.reload_service import ReloadService
from hrda_ros.services.save_service import SaveService, describe
from hrda_ros.settings.camera_settings import check_topics
from hrda_ros.settings.parameters import Settings, declare_parameters, read_settings
from hrda_ros.start.supervisor import Supervisor

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

__all__ = ["SegmentNode", "autostart"]

LONGEST_AGE_S = 60.0
"""A stamp that is older comes from another clock (a bag, no time synchronisation), so its age is unknown. Seconds."""

_JOIN_TIMEOUT_S, _ENDING_JOIN_TIMEOUT_S = 10.0, 0.4


class SegmentNode(LifecycleNode):
    """The lifecycle node `segment_node`.

    Args:
        predictor_factory: makes the network from the settings, in configure and in a thread of `~/reload`; None =
            `open_within_budget`, whose lines go to the node's log. Tests and benchmarks replace it.
        node_options: passed on to `rclpy.lifecycle.LifecycleNode`.

    Attributes:
        cameras: the cameras that it serves; the parameter `cameras` names them.

    Raises:
        rclpy.exceptions.ParameterException: a parameter value from outside is refused.
    """

    def __init__(
        self, *, predictor_factory: Callable[[Settings], Segmenter] | None = None, **node_options: Any
    ) -> None:
        super().__init__("segment_node", **node_options)
        tables = declare_parameters(self)
        self._predictor_factory = predictor_factory or partial(open_within_budget, say=self._say)
        self._models: HotSwap[ServedModel] = HotSwap(describe_exchange, self._release, give_back_memory)
        self._state_name, self._last_error = "unconfigured", ""
        self._worker, self._batch_slop_s = Worker(), 0.0
        cameras = tables.items() or [("", None)]
        self.cameras = tuple(
            Camera(self, name, table, self._worker, self._segment, self._report) for name, table in cameras
        )
        self._supervisor = Supervisor()
        self._monitor = Monitor(self, [camera.watch for camera in self.cameras], self._supervisor)
        self._resources = ResourceMeter()
        self._saver = FrameSaver()
        self._save_service = SaveService(self, self._saver, self._no_frame_comes)
        self._enable = EnableService(self)
        self._bond = ManagerBond(self)
        self._reload_service = ReloadService(self, self._models, self._prepare_reload)

    # The path of a frame.

    def _segment(self, camera: Camera, message: Any) -> Mapping[str, float]:
        """Worker thread: from camera message to published masks. Returns the durations of the steps, seconds."""
        with self._models.frame() as model:
            if model is None:
                raise StaleFrameError("deactivated")
            return alone(self._steps(model, camera, message), model.segmenter)

    def _segment_together(self, frames: Sequence[tuple[Pipeline[Any], Any]]) -> list[Ending]:
        """Worker thread: the same for messages of several cameras whose stamps are near each other."""
        cameras = {camera.pipeline: camera for camera in self.cameras}
        with self._models.frame() as model:
            if model is None:
                return [Ending("stale", "deactivated") for _ in frames]
            steps = [self._steps(model, cameras[pipeline], message) for pipeline, message in frames]
            return together(steps, model.segmenter, model.segmenter.batch)

    def _steps(self, model: ServedModel, camera: Camera, message: Any) -> Steps:
        settings = read_settings(self)
        with self._saver.frame(message) as shot:
            return (yield from self._steps_of(model, camera, message, settings, shot))

    def _steps_of(
        self, model: ServedModel, camera: Camera, message: Any, settings: Settings, shot: Shot | None
    ) -> Steps:
        outputs = model.outputs[camera.name]
        wanted = outputs.masks.wanted(settings.lazy and shot is None)
        self._check_wanted(camera, message, settings, wanted)
        if shot:
            encoding = getattr(message, "encoding", "") or getattr(message, "format", "")
            describe(shot, settings, model, outputs.running, encoding, camera.topic)

        start = time.perf_counter()
        rgb = camera.decode(message, settings)
        decoded = time.perf_counter()
        if shot:
            shot.saw(rgb)
        prediction = camera.of_area((yield rgb))
        self._look_again(model, camera, rgb.shape[:2])
        inferred = time.perf_counter()
        if not self.context.ok():
            raise StaleFrameError("shutdown")
        if shot:
            shot.prediction = prediction
        outputs.before_masks(message.header)
        outputs.masks.publish(message.header, rgb, prediction, wanted, settings.overlay_alpha)
        camera.masks_published(message.header, rgb.shape[:2], prediction.labels.shape)
        published = time.perf_counter()
        model.took(published - start)

        durations = {"decode": decoded - start, "infer": inferred - decoded, "publish": published - inferred}
        age_s = self._age_s(message)
        return durations if age_s is None else {**durations, "age": age_s}

    def _check_wanted(self, camera: Camera, message: Any, settings: Settings, wanted: Set[str]) -> None:
        """Before anything costs time: raise `StaleFrameError` for a frame that nobody wants."""
        if not self._enable.on:
            raise StaleFrameError("disabled")
        if not wanted:
            raise StaleFrameError("nobody_subscribed")
        age_s = self._age_s(message)
        if age_s is not None and 0 < settings.max_age_s < age_s:
            raise StaleFrameError("too_old")
        if not camera.rate_limit.passes(time.monotonic(), settings.max_rate_hz):
            raise StaleFrameError("max_rate")

    def _no_frame_comes(self) -> str:
        """Why `~/save_frame` would wait in vain; empty where a frame may come."""
        if self._state_name != "active":
            return f"the node is {self._state_name} and works on no frames; activate it first"
        return "" if self._enable.on else "the node is switched off; call ~/enable with true first"

    def _look_again(self, model: ServedModel, camera: Camera, size: tuple[int, int]) -> None:
        """Say so if another plan, graph or back end made the masks than before."""
        outputs = model.outputs[camera.name]
        if outputs.look_again():
            budget = model.budget()
            why = f"; latency budget: {budget.reason}" if budget.budget_s else ""
            camera.watch.saw_other_graph(f"images of {size[0]}x{size[1]} pixels: now {outputs.running}{why}")

    def _age_s(self, message: Any) -> float | None:
        """Seconds since the message's stamp by the node's clock; None where that is not known."""
        stamp = message.header.stamp
        age_s = 1e-9 * (self.get_clock().now().nanoseconds - stamp.sec * 10**9 - stamp.nanosec)
        return age_s if 0 <= age_s <= LONGEST_AGE_S else None

    # The model.

    def _open(self, settings: Settings) -> Segmenter:
        segmenter = self._predictor_factory(settings)
        # The sizes of now: images may have come while it was loaded.
        sizes = [camera.image_size for camera in self.cameras if camera.image_size is not None]
        segmenter = warmed_up(segmenter, sizes)
        if self._batch_slop_s:
            check_batch(self._batch_slop_s, segmenter)
        return segmenter

    def _serve(self, segmenter: Segmenter, settings: Settings, publishers: Mapping[str, Publishers]) -> ServedModel:
        """Connect a model to the outputs of all cameras; one that does not fit them is closed."""
        identity, any_size = model_id(segmenter.bundle), settings.masks_size == "network"
        try:
            outputs = {
                name: topics.outputs_of(segmenter, identity, any_size=any_size) for name, topics in publishers.items()
            }
        except LabelSpaceError:
            segmenter.close()
            raise
        return ServedModel(segmenter, identity, outputs)

    def _output_topics(self) -> dict[str, Publishers]:
        """The output topics of each camera, which are there from configure to cleanup."""
        return {camera.name: camera.publishers for camera in self.cameras if camera.publishers is not None}

    def _release(self, model: ServedModel) -> None:
        """Any thread: free the memory of a model that no frame can meet any more."""
        try:
            model.segmenter.close()
        except Exception as error:  # a GPU that is lost; the model is gone all the same
            if self.context.ok():
                self.get_logger().warning(f"{model.title}, did not close cleanly: {reason_of(error)}")

    def _say(self, line: str, level: Level = Level.INFO, /) -> None:
        """Any thread: what the back end tells while it opens, builds an engine, or gives up on the GPU."""
        if not self.context.ok():
            raise ExternalShutdownException  # a build of minutes must not outlive Ctrl-C
        self._models.heard()
        if level == Level.WARNING:
            self.get_logger().warning(line)
        else:
            self.get_logger().info(line)

    def _prepare_reload(self) -> tuple[Callable[[], ServedModel], float]:
        """What loads the network that the parameters name now; later changes are for the next reload."""
        settings, publishers = read_settings(self), self._output_topics()
        return lambda: self._serve(self._open(settings), settings, publishers), settings.reload_timeout_s

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the network, and advertise the outputs."""
        return self._transition("configure", "inactive", self._configure, partial(super().on_configure, state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish the class names, subscribe, and start the worker."""
        return self._transition("activate", "active", partial(super().on_activate, state), self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in work, and drop the one that waits."""
        return self._transition("deactivate", "inactive", self._deactivate, partial(super().on_deactivate, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and withdraw the outputs."""
        return self._transition("clean up", "unconfigured", self.close, partial(super().on_cleanup, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        return self._transition("shut down", "finalized", self.close, partial(super().on_shutdown, state))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything and start over from `unconfigured`."""
        return self._transition("recover", "unconfigured", self.close, partial(super().on_error, state))

    def start(self) -> bool:
        """Configure and activate; return False if that fails (the reason is in the log)."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def close(self) -> None:
        """Join the worker and a reload, and free everything. Call it before `destroy_node`."""
        self._deactivate()
        self._models.clear()
        timeout_s = self._join_timeout_s()
        if not self._models.join(timeout_s):
            self.get_logger().error(f"the reload has not ended for {timeout_s:g} s; going on without it")
        for camera in self.cameras:
            camera.withdraw()

    def _transition(self, verb: str, goal: str, *steps: Callable[[], object]) -> TransitionCallbackReturn:
        """Carry out the steps of a transition; what goes wrong becomes one sentence in the log and a FAILURE.

        Raises:
            KeyboardInterrupt: a signal has taken ROS down meanwhile. rclpy would log errors of a transition of which
                nobody can be told any more.
        """
        result = TransitionCallbackReturn.SUCCESS
        try:
            with self._supervisor.at_work():
                for step in steps:
                    step()
        except BaseException as error:  # rclpy would turn it into an ERROR without a word, or a library end the process
            self._last_error = f"cannot {verb}: {reason_of(error)}"
            if self.context.ok():
                self.get_logger().error(self._last_error)
            if self._state_name == "unconfigured":
                self.close()
            result = TransitionCallbackReturn.FAILURE
        else:
            self._state_name, self._last_error = goal, ""
        if not self.context.ok():
            raise KeyboardInterrupt
        return result

    def _configure(self) -> None:
        settings = read_settings(self)
        # OpenCV shares the cores with the back end; its own pool of all cores would slow both down.
        cv2.setNumThreads(max(1, settings.threads))
        started = time.perf_counter()
        self._read_cameras(settings)
        self._batch_slop_s = settings.batch_slop_s if len(self.cameras) > 1 else 0.0
        belong = stamps_within(self._batch_slop_s)
        self._worker.batch = Batch(belong, self._segment_together) if self._batch_slop_s else None
        segmenter = self._open(settings)
        for camera in self.cameras:
            camera.advertise(settings)
        model = self._serve(segmenter, settings, self._output_topics())
        self._models.install(model)
        self._say(f"{model.title}, is ready after {time.perf_counter() - started:.1f} s; {model.running}")

    def _read_cameras(self, settings: Settings) -> None:
        """Read what the parameters say of the inputs; a mistake there shall not wait for the model to be loaded."""
        topics = {camera.name: camera.read_topic(settings) for camera in self.cameras}
        check_topics(topics, [topic for name in topics for topic in picture_topics(self, name)])
        areas = CameraAreas.read(Path(settings.camera_areas)).of(topics.values()) if settings.camera_areas else {}
        for camera in self.cameras:
            camera.leave_out(areas)

    def _activate(self) -> None:
        with self._models.frame() as model:  # a reload may be on its way: what is announced must be what serves
            assert model is not None  # the state machine configures first
            model.activated()
        for camera in self.cameras:
            camera.activate()
        self._worker.start()
        if not read_settings(self).autostart:  # a manager takes the node through its lifecycle
            self._bond.form()
        topics = ", ".join(f"'{camera.topic}'" for camera in self.cameras)
        self.get_logger().info(f"segmenting images of {topics}")

    def _deactivate(self) -> None:
        self._models.drop()
        self._bond.end()
        self._saver.drop("the node was deactivated before a frame came")
        for camera in self.cameras:
            camera.deactivate()
        timeout_s = self._join_timeout_s()
        if not self._worker.stop(timeout_s):
            self.get_logger().error(f"the back end has not come back for {timeout_s:g} s; going on without it")

    def _join_timeout_s(self) -> float:
        """How long a thread may take to end: a signal, which takes ROS down, is obeyed within two seconds."""
        return _JOIN_TIMEOUT_S if self.context.ok() else _ENDING_JOIN_TIMEOUT_S

    # Reporting.

    def _report(self, camera: Camera, active_s: float, silent_s: float) -> NodeReport:
        model, settings = self._models.serving, read_settings(self)
        running = model.outputs[camera.name].running if model else None
        name = self.get_fully_qualified_name()
        return NodeReport(
            name=f"{name}/{camera.name}" if camera.name else name,
            topic=camera.topic,
            state=self._state_name,
            model=model.segmenter.bundle.name if model else "",
            model_id=model.model_id if model else "",
            backend=running.backend if running else "",
            plan=running.plan if running else "",
            graph=running.graph if running else "",
            reloads=self._models.reloads,
            reload_error=self._models.last_error,
            counts=camera.pipeline.counts(),
            performance=camera.pipeline.performance(),
            active_s=active_s,
            silent_s=silent_s,
            expected_hz=_lower(settings.expected_rate, settings.max_rate_hz),
            timeout_s=settings.timeout_s,
            last_error=self._last_error,
            frame_error=camera.errors["failed"],
            refusal=camera.errors["refused"],
            enabled=self._enable.on,
            budget=model.budget() if model else NO_BUDGET,
            resources=self._resources.look(on_cuda=running is not None and " CUDA on " in running.backend),
        )


def _lower(expected_hz: float, limit_hz: float) -> float:
    """What can be expected where a limit is set; 0 = no expectation, or no limit."""
    return min(expected_hz, limit_hz) if limit_hz > 0 else expected_hz


def autostart(node: SegmentNode) -> bool:
    """Start the node if its parameter `autostart` says so; return False if that fails."""
    return not read_settings(node).autostart or node.start()
