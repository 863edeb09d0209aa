"""5,000 random camera messages into the real node's callback: none gets an exception out or is lost to the counters."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrda_core.errors import BackendError
from hrda_core.inference import Prediction
from hrda_core.messages import ENCODINGS
from hrda_ros.frames.pipeline import OUTCOMES

EXAMPLES, MESSAGES = 250, 20


class FickleSegmenter(FakeSegmenter):
    """Masks at once, an error for every picture that starts with a bright pixel."""

    def __call__(self, rgb: np.ndarray) -> Prediction:
        if rgb[0, 0, 0] > 250:
            raise BackendError("too bright")
        labels = np.ascontiguousarray(rgb[..., 0]) // 16
        return Prediction(labels, labels)


@pytest.fixture(scope="module", params=["raw", "compressed"])
def node(request: pytest.FixtureRequest, ros: Any) -> Iterator[Any]:
    """The real node in this process, active, with all masks made although nobody subscribes."""
    from rclpy.parameter import Parameter

    from hrda_ros.segment_node import SegmentNode

    overrides = [Parameter("image_transport", value=request.param), Parameter("lazy", value=False)]
    node = SegmentNode(
        predictor_factory=lambda _: FickleSegmenter("fickle"),
        parameter_overrides=overrides,
        cli_args=["--ros-args", "-r", f"__node:=random_{request.param}"],
    )
    assert node.start()
    yield SimpleNamespace(node=node, transport=request.param)
    node.close()
    node.destroy_node()


def header(draw: st.DrawFn) -> dict[str, int]:
    return {"sec": draw(st.integers(-(2**31), 2**31 - 1)), "nanosec": draw(st.integers(0, 2**32 - 1))}


@st.composite
def raw_messages(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly plausible images: each field is either what it should be, or anything."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    encoding = draw(st.sampled_from([*ENCODINGS, "rgb8", "rgb8", "bgr8"]))
    step = 4 * width + draw(st.integers(0, 3))
    length = step * height * 3 // 2 + 8
    fields = {"height": height, "width": width, "encoding": encoding, "step": step, "is_bigendian": 0}
    anything = st.integers(0, 2**32 - 1)
    for name, values in (
        ("height", anything), ("width", anything), ("step", anything), ("is_bigendian", st.integers(0, 255)),
        ("encoding", st.text(max_size=12).filter(lambda text: "\0" not in text)),
    ):  # fmt: skip
        if draw(st.integers(0, 9)) == 0:
            fields[name] = draw(values)
    if draw(st.integers(0, 9)) == 0:
        length = draw(st.integers(0, length))
    seed = draw(st.integers(0, 255))
    return {**fields, "data": bytes((seed + 37 * index) % 256 for index in range(length)), "stamp": header(draw)}


PICTURE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8), (0, 0), 3)
FILES = [cv2.imencode(kind, PICTURE)[1].tobytes() for kind in (".jpg", ".png")]


@st.composite
def compressed_messages(draw: st.DrawFn) -> dict[str, Any]:
    """JPEG and PNG files: whole, cut off, with bytes changed, or not images at all."""
    data = bytearray(draw(st.sampled_from([*FILES, b"", b"\xff\xd8\xff", b"GIF89a"])))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3])) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 3)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return {"format": draw(st.sampled_from(["jpeg", "png", ""])), "data": bytes(data), "stamp": header(draw)}


def to_message(fields: dict[str, Any], transport: str) -> Any:
    from sensor_msgs.msg import CompressedImage, Image

    message = Image() if transport == "raw" else CompressedImage()
    for name, value in fields.items():
        if name == "stamp":
            message.header.stamp.sec, message.header.stamp.nanosec = value["sec"], value["nanosec"]
        elif name == "data":
            message.data.frombytes(value)
        else:
            setattr(message, name, value)
    return message


def test_p1_p3_m7_no_random_message_ends_the_node_and_counters_add_up(node: Any) -> None:
    messages = raw_messages() if node.transport == "raw" else compressed_messages()
    pipeline = node.node.cameras[0].pipeline
    sent = [0]

    @settings(max_examples=EXAMPLES // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(messages, st.booleans()), min_size=MESSAGES, max_size=MESSAGES))
    def send(batch: list[tuple[dict[str, Any], bool]]) -> None:
        for fields, hurry in batch:
            node.node.cameras[0].on_image(to_message(fields, node.transport))
            sent[0] += 1
            if not hurry:  # otherwise the next message supersedes this one
                assert pipeline.wait_until_idle(60.0)
            counts = pipeline.counts()
            assert counts.received == sum(getattr(counts, name) for name in OUTCOMES) + counts.in_flight == sent[0]

    send()
    assert pipeline.wait_until_idle(60.0)
    counts = pipeline.counts()
    assert counts.in_flight == 0
    assert sent[0] >= EXAMPLES // 2 * MESSAGES
    assert min(counts.published, counts.refused) > 0
    causes = {cause for kind, cause in counts.causes if kind == "failed"}
    assert causes <= {"BackendError"}, "whatever a message holds is a refusal, not a failure"
