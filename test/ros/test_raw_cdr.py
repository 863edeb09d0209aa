"""Serialised messages of damaged bytes, as any program may send them: what can be read ends in a counter.

`HRDA_FUZZ=100000 pytest -o timeout=0 test/ros/test_raw_cdr.py` tries so many; `HRDA_FUZZ_SEED=2` takes others.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from served_node import ServedNode, served_node

MESSAGES = int(os.environ.get("HRDA_FUZZ", "500"))
SEED = int(os.environ.get("HRDA_FUZZ_SEED", "17"))


@pytest.fixture(scope="module", params=["raw", "compressed"])
def fuzzed(request: pytest.FixtureRequest, ros: Any) -> Iterator[ServedNode]:
    with served_node(
        f"fuzzed_{request.param}", lambda _: FakeSegmenter("fuzzed"), lazy=False, image_transport=request.param
    ) as served:
        yield served


def good_message(transport: str, image_message: Callable[..., Any]) -> Any:
    from sensor_msgs.msg import CompressedImage

    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8), (0, 0), 3)
    raw = image_message(pixels)
    if transport == "raw":
        return raw
    message = CompressedImage(header=raw.header, format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return message


def damaged(whole: bytes, generator: random.Random) -> bytes:
    """A few bytes changed, mostly among the fields before the pixels; or cut off, or longer, or noise."""
    data = bytearray(whole)
    kind = generator.random()
    if kind < 0.05:
        return without_padding(bytes(data[:4]) + generator.randbytes(generator.randrange(200)))
    if kind < 0.15:
        del data[generator.randrange(len(data)) :]
    elif kind < 0.25:
        place = generator.randrange(len(data))
        data[place:place] = generator.randbytes(generator.randrange(1, 9))
    for _ in range(generator.randrange(1, 4)):
        if data:
            place = generator.randrange(min(len(data), 100 if generator.random() < 0.8 else len(data)))
            data[place] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)])
    return without_padding(bytes(data))


def without_padding(data: bytes) -> bytes:
    """State no padding where there is no payload.

    `rclpy.serialization.deserialize_message`, which stands for the subscription here, subtracts the stated padding from
    nothing and reads on until the process ends. A subscription takes the same bytes as an empty message.
    """
    return data if len(data) >= 8 else data[:3] + b"\0" * len(data[3:4]) + data[4:]


def test_p1_p3_m4_m7_no_bytes_end_the_node_and_each_message_that_can_be_read_has_its_counter(
    fuzzed: ServedNode, image_message: Callable[..., Any]
) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    transport = "compressed" if "compressed" in fuzzed.node.get_name() else "raw"
    good = good_message(transport, image_message)
    whole, generator = serialize_message(good), random.Random(SEED)
    read = unreadable = 0
    for _ in range(MESSAGES):
        try:
            message = deserialize_message(damaged(whole, generator), type(good))
        except Exception:  # in the node's process the middleware drops these, before a callback
            unreadable += 1
            continue
        fuzzed.give(message)
        read += 1
        assert fuzzed.counts().received == read
    counts = fuzzed.counts()
    assert counts.failed == 0, "whatever bytes hold is a refusal, not a failure"
    assert min(counts.published, counts.refused, unreadable) > 0
    fuzzed.give(good)
    assert fuzzed.counts().published == counts.published + 1
    assert fuzzed.masks.headers[-1] == good.header


def test_p3_p8_m4_an_encoding_that_is_no_utf_8_or_steers_a_terminal_is_refused_in_printable_words(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image

    data = serialize_message(image_message(np.zeros((2, 3, 3), np.uint8), "rgb8"))
    with served_node("foreign_encodings", lazy=False) as served:
        for number, encoding in enumerate((b"\xff\xfe\x80\x81", b"\xed\xa0\x80!", b"\x1b[2J"), 1):
            served.give(deserialize_message(data.replace(b"rgb8", encoding), Image))
            assert served.counts().causes == {("refused", "encoding"): number}
            sentence = served.report(1.0, 0.0).refusal
            assert "is not known; known are rgb8" in sentence
            assert all(character.isprintable() for character in sentence), sentence
