"""One camera of the node: where its images come from, its output topics, and what becomes of its frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from hrda_core.camera_areas import CameraArea
from hrda_core.errors import HrdaError, reason_of, shown
from hrda_core.inference import Prediction
from hrda_core.messages import decode_compressed, decode_image
from hrda_core.messages.value_range import FULL_RANGE, DeepPixels, PixelValues, read_range
from hrda_ros.frames.pipeline import Pipeline
from hrda_ros.frames.rate_limit import RateLimit
from hrda_ros.frames.worker import Worker
from hrda_ros.health.diagnostics import NodeReport
from hrda_ros.health.monitor import CameraWatch
from hrda_ros.health.topic_watch import explain_silence
from hrda_ros.masks.camera_info import CameraInfoRelay, Size, camera_info_topic
from hrda_ros.masks.publishers import Publishers
from hrda_ros.settings.camera_settings import CameraSettings
from hrda_ros.settings.class_names import names_of
from hrda_ros.settings.parameter_table import ParameterTable
from hrda_ros.settings.parameters import Settings

__all__ = ["Camera"]


class Camera:
    """One camera.

    Args:
        node: the node, which owns topics and parameters.
        name: name of the camera, under which its outputs are; empty for the only one of a node, on `image`.
        table: its parameters; None for the only one.
        worker: the worker that all cameras of the node share.
        segment: handles a message of this camera in the worker's thread, as `hrda_ros.frames.pipeline.Pipeline` says.
        report: makes the report of this camera from (seconds since activation, seconds since the last image).

    Attributes:
        name: as given.
        topic: the resolved topic that is subscribed to; empty before the first configure.
        image_size: height and width of the last image that was decoded, pixels; None before that.
        pipeline, watch: what becomes of its frames, and who looks at it.
        rate_limit: chooses the frames that `max_rate_hz` lets through.
        publishers: its outputs; None while the node is not configured.
        errors: the last error of a frame by its outcome, `failed` and `refused`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        table: ParameterTable[CameraSettings] | None,
        worker: Worker,
        segment: Callable[[Camera, Any], Mapping[str, float]],
        report: Callable[[Camera, float, float], NodeReport],
    ) -> None:
        self.name = name
        self.topic = ""
        self.image_size: tuple[int, int] | None = None
        self.publishers: Publishers | None = None
        self.rate_limit = RateLimit()
        self.errors = {"failed": "", "refused": ""}
        self._node, self._table = node, table
        self._base_topic = ""
        self._area: CameraArea | None = None
        self._subscription: Any = None
        self._camera_info: CameraInfoRelay | None = None
        self._transport = "raw"
        self._pixel_values: PixelValues = FULL_RANGE
        self._qos = QoSProfile(depth=1)
        logger = node.get_logger()
        self._logger = logger.get_child(name) if name else logger
        self.pipeline: Pipeline[Any] = Pipeline(lambda message: segment(self, message), self._on_problem, worker=worker)
        self.watch = CameraWatch(
            self._logger, self.pipeline, lambda active_s, silent_s: report(self, active_s, silent_s), self._explain
        )

    def on_image(self, message: Any) -> None:
        """Executor thread: keep the newest message, nothing else."""
        self.pipeline.offer(message)
        stamp = message.header.stamp
        self.watch.saw_image(stamp.sec + 1e-9 * stamp.nanosec)

    def decode(self, message: Any, settings: Settings) -> Any:
        """Worker thread: return the picture of a message, uint8 (H, W, 3) RGB.

        Raises:
            ImageError: the message holds none, or one of another size than the area of the camera.
        """
        if self._transport == "raw":
            rgb = decode_image(message, self._pixel_values)
        else:
            rgb = decode_compressed(message, self._pixel_values, max_megapixels=settings.max_megapixels)
        if self._area is not None:
            self._area.check(*rgb.shape[:2])
        self.image_size = rgb.shape[:2]
        return rgb

    def of_area(self, prediction: Prediction) -> Prediction:
        """Worker thread: return masks with class 255 and confidence 0 where pixels of the camera do not count."""
        if self._area is None:
            return prediction
        area = self._area.of_size(*prediction.labels.shape)
        return Prediction(*area.mask(prediction.labels, prediction.confidence))

    def masks_published(self, header: Any, image: Size, mask: Size) -> None:
        """Worker thread: the masks with this `std_msgs/Header` have gone out, made of an image of that size."""
        if (camera_info := self._camera_info) is not None:  # deactivate takes it away in the other thread
            camera_info.masks_published(header, image, mask)

    # Transitions.

    def read_topic(self, settings: Settings) -> str:
        """Read what the parameters say of the input, and return the resolved topic to subscribe to."""
        own = CameraSettings("image") if self._table is None else self._table.read(self._node)
        self._transport = own.image_transport or settings.image_transport
        values = read_range(own.value_range or settings.value_range)
        self._pixel_values = DeepPixels(values, self._logger.warning)
        base = self._resolved(own.image or f"{self.name}/image_raw")
        self._base_topic = base
        # Image transports add their suffix after remapping, as in image_transport.
        bare = self._transport == "raw" or base.endswith("/compressed")
        self.topic = base if bare else f"{base}/compressed"
        return self.topic

    def _resolved(self, topic: str) -> str:
        try:
            return str(self._node.resolve_topic_name(topic))
        except Exception as error:  # rclpy has several classes, and other ones in each distribution
            raise HrdaError(
                f"'{shown(topic)}' cannot be a topic of images ({reason_of(error)}); give another one, with "
                f"{f'the parameter {self.name}.image' if self.name else '-r image:=TOPIC'}"
            ) from error

    def leave_out(self, areas: Mapping[str, CameraArea]) -> None:
        """Take, by the topics of all cameras, what of their pictures counts."""
        self._area = areas.get(self.topic)

    def advertise(self, settings: Settings) -> None:
        """Make the output topics."""
        classes = names_of(settings.mask_classes)
        self.publishers = Publishers(
            self._node, self.name, confidence=settings.publish_confidence, mask_classes=classes
        )

    def activate(self) -> None:
        """Subscribe; frames are segmented once the worker has started."""
        assert self.publishers is not None  # the state machine configures first
        self._qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._subscription = self._node.create_subscription(
            self._message_type,
            self.topic,
            self.on_image,
            self._qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        info = camera_info_topic(self._base_topic)
        self._camera_info = CameraInfoRelay(self._node, info, self.publishers.camera_info)
        self.watch.activated()

    def deactivate(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        if self._camera_info is not None:
            self._camera_info.close()
            self._camera_info = None

    def withdraw(self) -> None:
        """Take the output topics away."""
        if self.publishers is not None:
            self.publishers.close()
            self.publishers = None

    # Reporting.

    @property
    def _message_type(self) -> Any:
        return Image if self._transport == "raw" else CompressedImage

    def _on_problem(self, outcome: str, cause: str, error: Exception) -> None:
        self.errors[outcome] = reason_of(error)
        if self._node.context.ok():  # while a signal takes ROS down, failing to publish is no news
            self.watch.saw_problem(outcome, cause, error)

    def _explain(self, silent_s: float) -> str:
        kind = f"sensor_msgs/msg/{self._message_type.__name__}"
        return explain_silence(self._node, self.topic, kind, self._qos, silent_s, self.name)
