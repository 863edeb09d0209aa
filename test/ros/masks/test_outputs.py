"""Which outputs are made, in how many copies, and what they carry; with publishers that only remember."""

from __future__ import annotations

import array
import tracemalloc
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hrda_core.errors import BackendError
from hrda_core.inference import Prediction
from hrda_core.labels import CITYSCAPES19
from hrda_core.messages import decode_image
from hrda_ros.masks.label_info import fill_vision_label_info
from hrda_ros.masks.outputs import OUTPUT_ENCODINGS, MaskOutputs

HEIGHT, WIDTH = 1080, 1920
FRAME_BYTES = HEIGHT * WIDTH * 3
MAX_COPIES = 3


class FakePublisher:
    """Remembers (encoding, first bytes) of what it publishes."""

    def __init__(self, subscribers: int) -> None:
        self.subscribers = subscribers
        self.sent: list[Any] = []

    def publish(self, msg: Any) -> None:
        self.sent.append((msg.header, msg.encoding, msg.height, msg.width, msg.data[:6].tobytes()))

    def get_subscription_count(self) -> int:
        return self.subscribers


def new_message() -> Any:
    return SimpleNamespace(header=None, height=0, width=0, encoding="", is_bigendian=0, step=0, data=array.array("B"))


def outputs(subscribed: Iterable[str]) -> tuple[MaskOutputs, dict[str, FakePublisher]]:
    publishers = {name: FakePublisher(int(name in subscribed)) for name in OUTPUT_ENCODINGS}
    return MaskOutputs(publishers, new_message, CITYSCAPES19.color_table()), publishers


def camera_message(encoding: str = "rgb8") -> Any:
    data = array.array("B", bytes(FRAME_BYTES))
    return SimpleNamespace(
        header="header", height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=0, step=WIDTH * 3, data=data
    )


def copies(action: Callable[[], object]) -> float:
    """Memory that Python, numpy and OpenCV allocate in `action` at its peak, in camera frames.

    A path that is run for the first time allocates every buffer that it fills, kept or not, so this counts the copies
    that our code makes. (Arrays of the standard library take up to 1/16 more than asked; what rclpy and OpenCV do
    inside their C++ code is not seen.)
    """
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        action()
        return (tracemalloc.get_traced_memory()[1] - before) / FRAME_BYTES
    finally:
        tracemalloc.stop()


def node_path(message: Any, masks: MaskOutputs, prediction: Prediction) -> None:
    """What the node does with a frame, but for the back end."""
    rgb = decode_image(message)
    masks.publish(message.header, rgb, prediction, masks.wanted(True), 0.5)


def prediction(shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Prediction:
    return Prediction(np.full(shape, 3, np.uint8), np.full(shape, 200, np.uint8))


@pytest.mark.parametrize(
    ("encoding", "subscribed", "expected"),
    [
        ("rgb8", ["labels"], 1 / 3),
        ("bgr8", ["labels"], 1 + 1 / 3),
        ("rgb8", ["overlay"], 1),
        ("rgb8", list(OUTPUT_ENCODINGS), 2 + 2 / 3),
        ("bgr8", ["labels", "overlay"], 2 + 1 / 3),
    ],
)
def test_l6_a_frame_is_copied_at_most_three_times(encoding: str, subscribed: list[str], expected: float) -> None:
    message, (masks, _), result = camera_message(encoding), outputs(subscribed), prediction()
    counted = copies(lambda: node_path(message, masks, result))
    assert counted == pytest.approx(expected, rel=0.07)
    assert counted <= MAX_COPIES


def test_p4_l6_later_frames_of_the_same_size_allocate_nothing() -> None:
    message, (masks, _), result = camera_message(), outputs(OUTPUT_ENCODINGS), prediction()
    node_path(message, masks, result)
    assert copies(lambda: node_path(message, masks, result)) < 0.01


def test_l5_lazy_makes_what_is_subscribed_and_eager_makes_the_masks() -> None:
    assert outputs([])[0].wanted(lazy=True) == set()
    assert outputs(["overlay"])[0].wanted(lazy=True) == {"overlay"}
    assert outputs([])[0].wanted(lazy=False) == {"labels", "confidence"}
    assert outputs(["color"])[0].wanted(lazy=False) == {"labels", "confidence", "color"}


def test_only_wanted_outputs_go_out_with_the_camera_header() -> None:
    masks, publishers = outputs(["labels", "overlay"])
    rgb = np.zeros((4, 6, 3), np.uint8)
    masks.publish("header", rgb, prediction((4, 6)), masks.wanted(True), 1.0)
    assert {name: len(publisher.sent) for name, publisher in publishers.items()} == {
        "labels": 1, "color": 0, "overlay": 1, "confidence": 0
    }  # fmt: skip
    assert publishers["labels"].sent == [("header", "mono8", 4, 6, bytes([3] * 6))]
    assert publishers["overlay"].sent == [("header", "rgb8", 4, 6, bytes([102, 102, 156] * 2))]


def test_each_output_carries_what_its_name_says() -> None:
    masks, publishers = outputs(OUTPUT_ENCODINGS)
    masks.publish("header", np.full((4, 6, 3), 80, np.uint8), prediction((4, 6)), masks.wanted(True), 0.25)
    colour = CITYSCAPES19.palette[3]
    blended = [round(0.75 * 80 + 0.25 * value) for value in colour]
    assert {name: publisher.sent[0][-1] for name, publisher in publishers.items()} == {
        "labels": bytes([3] * 6),
        "confidence": bytes([200] * 6),
        "color": bytes([*colour] * 2),
        "overlay": bytes(blended * 2),
    }


@pytest.mark.parametrize("confidence", [np.zeros((2, 6), np.uint8), np.zeros((4, 6), np.float64)])
def test_no_mask_goes_out_where_the_confidence_does_not_fit_it(confidence: np.ndarray) -> None:
    masks, publishers = outputs(["labels", "confidence"])
    answer, picture = Prediction(np.zeros((4, 6), np.uint8), confidence), np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(BackendError, match="expected uint8 of one height and width"):
        masks.publish("header", picture, answer, masks.wanted(True), 0.5)
    assert not any(publisher.sent for publisher in publishers.values())


def test_mask_of_another_size_than_the_image_is_an_error() -> None:
    masks, _ = outputs(["labels"])
    with pytest.raises(BackendError, match=r"\(2, 2\).*\(4, 6\)"):
        masks.publish("header", np.zeros((4, 6, 3), np.uint8), prediction((2, 2)), {"labels"}, 0.5)


def test_vision_label_info_names_every_class() -> None:
    message = SimpleNamespace(class_map=None, threshold=None)
    fill_vision_label_info(message, SimpleNamespace, CITYSCAPES19)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map[:2]] == [(0, "road"), (1, "sidewalk")]
    assert len(message.class_map) == 19
    assert message.threshold == 0.0


def test_masks_of_the_networks_size_go_out_as_they_are_and_pictures_have_their_size() -> None:
    publishers = {name: FakePublisher(1) for name in OUTPUT_ENCODINGS}
    made = MaskOutputs(publishers, new_message, CITYSCAPES19.color_table(), any_size=True)
    image, labels = np.full((8, 12, 3), 100, np.uint8), np.full((4, 6), 13, np.uint8)
    made.publish("header", image, Prediction(labels, labels), set(OUTPUT_ENCODINGS), 0.5)
    assert {(sent.sent[0][2], sent.sent[0][3]) for sent in publishers.values()} == {(4, 6)}
    blue = round((100 + int(CITYSCAPES19.color_table()[13][2])) / 2)
    assert publishers["overlay"].sent[0][4][2] == blue
