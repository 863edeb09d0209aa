"""The ROS 2 node: camera images in, class masks out. docs/robot/node.md lists its topics, parameters and services.

The path of a frame, top to bottom: `_on_image` (executor thread) puts the message into the pipeline's one-element slot;
`_segment` (worker thread) takes the newest one, decodes, infers and publishes. The rest is reload, lifecycle and
reporting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from hrda_core.inference import Prediction
from hrda_core.inference.say import Level
from hrda_core.messages import decode_compressed, decode_image
from hrda_ros.diagnostics import NodeReport
from hrda_ros.hot_swap import HotSwap, reason_of
from hrda_ros.monitor import Monitor
from hrda_ros.parameters import Settings, declare_parameters, likely_typos, read_settings, refusal
from hrda_ros.pipeline import Pipeline, StaleFrameError
from hrda_ros.publishers import Publishers
from hrda_ros.reload_service import ReloadService
from hrda_ros.segmenter import Segmenter, open_segmenter, warmed_up
from hrda_ros.served_model import ServedModel, describe_exchange
from hrda_ros.topic_watch import explain_silence

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

__all__ = ["SegmentNode"]

LONGEST_AGE_S = 60.0
"""A stamp that is older comes from another clock (a bag, no time synchronisation), so its age is unknown. Seconds."""

_INPUTS = {"raw": (Image, decode_image), "compressed": (CompressedImage, decode_compressed)}
_JOIN_TIMEOUT_S = 10.0


class SegmentNode(LifecycleNode):
    """The lifecycle node `segment_node`.

    Args:
        predictor_factory: makes the network from the settings, in configure and in a thread of `~/reload`; None =
            `open_segmenter`, whose lines go to the node's log. Tests and benchmarks replace it.
        node_options: passed on to `rclpy.lifecycle.LifecycleNode`.

    Raises:
        rclpy.exceptions.ParameterException: a parameter value from outside is refused.
    """

    def __init__(
        self, *, predictor_factory: Callable[[Settings], Segmenter] | None = None, **node_options: Any
    ) -> None:
        super().__init__("segment_node", **node_options)
        self.add_on_set_parameters_callback(_check_parameters)
        declare_parameters(self)
        for typo, name in likely_typos(getattr(self, "_parameter_overrides", {})):
            self.get_logger().warning(f"parameter '{typo}' does not exist and is ignored; was '{name}' meant?")
        self._predictor_factory = predictor_factory or partial(open_segmenter, say=self._say)
        self._models: HotSwap[ServedModel] = HotSwap(describe_exchange, self._release)
        self._image_size: tuple[int, int] | None = None
        self._publishers_made: Publishers | None = None
        self._image_subscription: Any = None
        self._state_name, self._topic = "unconfigured", ""
        self._last_error = self._frame_error = ""
        self._message_type, self._decode = _INPUTS["raw"]
        self._input_qos = QoSProfile(depth=1)
        self._pipeline: Pipeline[Any] = Pipeline(self._segment, self._on_problem)
        self._monitor = Monitor(self, self._pipeline, self._report, self._explain_silence)
        self._reload_service = ReloadService(self, self._models, self._prepare_reload)

    # The path of a frame.

    def _on_image(self, message: Any) -> None:
        """Executor thread: keep the newest message, nothing else."""
        self._pipeline.offer(message)
        stamp = message.header.stamp
        self._monitor.saw_image(stamp.sec + 1e-9 * stamp.nanosec)

    def _segment(self, message: Any) -> Mapping[str, float]:
        """Worker thread: from camera message to published masks. Returns the durations of the steps, seconds."""
        with self._models.frame() as model:
            if model is None:
                raise StaleFrameError("deactivated")
            return self._segment_with(model, message)

    def _segment_with(self, model: ServedModel, message: Any) -> Mapping[str, float]:
        settings = read_settings(self)
        wanted = model.masks.wanted(settings.lazy)
        if not wanted:
            raise StaleFrameError("nobody_subscribed")
        age_s = self._age_s(message)
        if age_s is not None and 0 < settings.max_age_s < age_s:
            raise StaleFrameError("too_old")

        start = time.perf_counter()
        rgb = self._decode(message)
        decoded = time.perf_counter()
        prediction = self._infer(model, rgb)
        inferred = time.perf_counter()
        if not self.context.ok():
            raise StaleFrameError("shutdown")
        model.before_masks(message.header)
        model.masks.publish(message.header, rgb, prediction, wanted, settings.overlay_alpha)
        published = time.perf_counter()

        durations = {"decode": decoded - start, "infer": inferred - decoded, "publish": published - inferred}
        age_s = self._age_s(message)
        return durations if age_s is None else {**durations, "age": age_s}

    def _infer(self, model: ServedModel, rgb: Any) -> Prediction:
        size = self._image_size = rgb.shape[:2]
        prediction = model.segmenter(rgb)
        if model.look_again():
            self._monitor.saw_other_graph(f"images of {size[0]}x{size[1]} pixels: now {model.running}")
        return prediction

    def _age_s(self, message: Any) -> float | None:
        """Seconds since the message's stamp by the node's clock; None where that is not known."""
        stamp = message.header.stamp
        age_s = 1e-9 * (self.get_clock().now().nanoseconds - stamp.sec * 10**9 - stamp.nanosec)
        return age_s if 0 <= age_s <= LONGEST_AGE_S else None

    # The model.

    def _open(self, settings: Settings) -> Segmenter:
        segmenter = self._predictor_factory(settings)
        return warmed_up(segmenter, self._image_size)  # the size of now: images may have come while it was loaded

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
        if level == Level.WARNING:
            self.get_logger().warning(line)
        else:
            self.get_logger().info(line)

    def _prepare_reload(self) -> Callable[[], ServedModel]:
        """What loads the network that the parameters name now; later changes are for the next reload."""
        settings, publishers = read_settings(self), self._publishers_made

        def load() -> ServedModel:
            assert publishers is not None  # a reload is refused while no model serves
            return publishers.serve(self._open(settings))

        return load

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
        if not self._models.join(_JOIN_TIMEOUT_S):
            self.get_logger().error(f"the reload has not ended for {_JOIN_TIMEOUT_S:.0f} s; going on without it")
        if self._publishers_made is not None:
            self._publishers_made.close()
            self._publishers_made = None

    def _transition(self, verb: str, goal: str, *steps: Callable[[], object]) -> TransitionCallbackReturn:
        """Carry out the steps of a transition; what goes wrong becomes one sentence in the log and a FAILURE."""
        try:
            for step in steps:
                step()
        except Exception as error:  # rclpy would turn it into an ERROR without a word
            self._last_error = f"cannot {verb}: {reason_of(error)}"
            if self.context.ok():
                self.get_logger().error(self._last_error)
            if self._state_name == "unconfigured":
                self.close()
            return TransitionCallbackReturn.FAILURE
        self._state_name, self._last_error = goal, ""
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        settings = read_settings(self)
        # OpenCV shares the cores with the back end; its own pool of all cores would slow both down.
        cv2.setNumThreads(max(1, settings.threads))
        started = time.perf_counter()
        segmenter = self._open(settings)
        self._message_type, self._decode = _INPUTS[settings.image_transport]
        self._topic = self._input_topic(settings.image_transport)
        self._publishers_made = Publishers(self, confidence=settings.publish_confidence)
        model = self._publishers_made.serve(segmenter)
        self._models.install(model)
        self.get_logger().info(f"{model.title}, is ready after {time.perf_counter() - started:.1f} s; {model.running}")

    def _input_topic(self, transport: str) -> str:
        """The resolved topic; image transports add their suffix after remapping, as in image_transport."""
        base: str = self.resolve_topic_name("image")
        return base if transport == "raw" or base.endswith("/compressed") else f"{base}/compressed"

    def _activate(self) -> None:
        with self._models.frame() as model:  # a reload may be on its way: what is announced must be what serves
            assert model is not None  # the state machine configures first
            model.activated()
        self._input_qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._image_subscription = self.create_subscription(
            self._message_type,
            self._topic,
            self._on_image,
            self._input_qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._monitor.activated()
        self._pipeline.start()
        self.get_logger().info(f"segmenting images of '{self._topic}'")

    def _deactivate(self) -> None:
        self._models.drop()
        if self._image_subscription is not None:
            self.destroy_subscription(self._image_subscription)
            self._image_subscription = None
        if not self._pipeline.stop(_JOIN_TIMEOUT_S):
            self.get_logger().error(f"the back end has not come back for {_JOIN_TIMEOUT_S:.0f} s; going on without it")

    # Reporting.

    def _on_problem(self, outcome: str, cause: str, error: Exception) -> None:
        if outcome == "failed":
            self._frame_error = reason_of(error)
        if self.context.ok():  # while a signal takes ROS down, failing to publish is no news
            self._monitor.saw_problem(outcome, cause, error)

    def _report(self, active_s: float, silent_s: float) -> NodeReport:
        model = self._models.serving
        return NodeReport(
            name=self.get_fully_qualified_name(),
            topic=self._topic,
            state=self._state_name,
            model=model.segmenter.bundle.name if model else "",
            model_id=model.model_id if model else "",
            backend=model.running.backend if model else "",
            plan=model.running.plan if model else "",
            graph=model.running.graph if model else "",
            reloads=self._models.reloads,
            reload_error=self._models.last_error,
            counts=self._pipeline.counts(),
            performance=self._pipeline.performance(),
            active_s=active_s,
            silent_s=silent_s,
            expected_hz=read_settings(self).expected_rate,
            last_error=self._last_error,
            frame_error=self._frame_error,
        )

    def _explain_silence(self, silent_s: float) -> str:
        kind = f"sensor_msgs/msg/{self._message_type.__name__}"
        return explain_silence(self, self._topic, kind, self._input_qos, silent_s)


def _check_parameters(changes: list[Any]) -> SetParametersResult:
    reason = refusal((change.name, change.value) for change in changes)
    return SetParametersResult(successful=reason is None, reason=reason or "")
