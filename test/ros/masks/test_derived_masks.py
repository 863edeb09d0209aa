"""Outputs that are made of class ids only while somebody subscribes."""

from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hrda_core.errors import LabelSpaceError
from hrda_core.inference import Prediction
from hrda_core.labels import CITYSCAPES19
from hrda_ros.masks.derived_masks import ClassMask, CompressedLabels
from hrda_ros.masks.outputs import MaskOutputs

LABELS = np.random.default_rng(2).integers(0, 256, (24, 33), np.uint8)


class FakePublisher:
    """Keeps the last message."""

    def __init__(self, subscribers: int = 1) -> None:
        self.subscribers, self.last = subscribers, None

    def publish(self, message: Any) -> None:
        self.last = message

    def get_subscription_count(self) -> int:
        return self.subscribers


def image() -> Any:
    return SimpleNamespace(header=None, height=0, width=0, encoding="", is_bigendian=0, step=0, data=array.array("B"))


def compressed() -> Any:
    return SimpleNamespace(header=None, format="", data=array.array("B"))


def test_the_mask_is_white_on_the_chosen_classes_and_black_elsewhere() -> None:
    publisher = FakePublisher()
    ClassMask(publisher, image, CITYSCAPES19, ["person", "rider"]).publish("header", LABELS)
    message = publisher.last
    assert (message.header, message.encoding, message.height, message.width, message.step) == (
        "header", "mono8", 24, 33, 33
    )  # fmt: skip
    pixels = np.frombuffer(message.data, np.uint8).reshape(24, 33)
    np.testing.assert_array_equal(pixels, np.where(np.isin(LABELS, [11, 12]), 255, 0))
    assert pixels.any()


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match=r"parameter mask_classes names 'persn'.* did you mean 'person'"):
        ClassMask(FakePublisher(), image, CITYSCAPES19, ["persn"])


def test_compressed_ids_come_back_bit_for_bit_frame_after_frame() -> None:
    publisher = FakePublisher()
    output = CompressedLabels(publisher, compressed)
    for labels in (LABELS, LABELS[::-1].copy(), LABELS[:5, :7].copy()):
        output.publish("header", labels)
        message = publisher.last
        assert message.format == "mono8; png compressed mono8"
        back = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(back, labels)
    assert message.header == "header"


def test_l5_they_are_made_only_while_somebody_subscribes_whether_lazy_or_not() -> None:
    mask, png = FakePublisher(1), FakePublisher(0)
    derived = [ClassMask(mask, image, CITYSCAPES19, ["road"]), CompressedLabels(png, compressed)]
    outputs = MaskOutputs({"labels": FakePublisher(0)}, image, CITYSCAPES19.color_table(), derived)
    assert outputs.wanted(lazy=True) == {"mask"}
    assert outputs.wanted(lazy=False) == {"mask", "labels"}
    prediction = Prediction(LABELS, LABELS)
    outputs.publish("header", np.zeros((*LABELS.shape, 3), np.uint8), prediction, outputs.wanted(True), 0.5)
    assert mask.last is not None
    assert png.last is None
