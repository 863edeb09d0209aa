"""Masks to messages, on plain objects with the fields of the ROS messages."""

from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
from image_messages import random_image

from hrda_core.messages import decode_image
from hrda_ros.masks.codec import MessageBuffer, fill_image


def empty_message() -> SimpleNamespace:
    return SimpleNamespace(header=None, height=0, width=0, encoding="", is_bigendian=9, step=0, data=array.array("B"))


def test_filled_message_reads_back_exactly() -> None:
    for pixels, encoding in ((random_image(5, 7, 3), "rgb8"), (random_image(5, 7, 1)[..., 0], "mono8")):
        message = empty_message()
        for _ in range(2):  # a second time replaces the first
            fill_image(message, pixels, encoding)
        assert (message.height, message.width, message.encoding, message.is_bigendian) == (5, 7, encoding, 0)
        assert len(message.data) == message.step * message.height == pixels.size
        np.testing.assert_array_equal(decode_image(message), pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))


def test_non_contiguous_arrays_are_filled_row_by_row() -> None:
    message = empty_message()
    pixels = random_image(10, 10, 3)[::2, 1:8, ::-1]
    fill_image(message, pixels, "rgb8")
    np.testing.assert_array_equal(decode_image(message), pixels)


def test_p4_buffer_keeps_its_memory_until_the_size_changes() -> None:
    buffer = MessageBuffer(empty_message, "rgb8")
    first, header = buffer.begin("header", 4, 6), buffer.message.header
    message = buffer.message
    first[:] = 7
    assert header == "header"
    assert (message.height, message.width, message.step, message.is_bigendian) == (4, 6, 18, 0)
    assert message.data.tobytes() == bytes([7] * 72)
    assert np.shares_memory(buffer.begin("next", 4, 6), first)
    assert buffer.begin("other", 3, 5).shape == (3, 5, 3)
    assert len(buffer.message.data) == 45
    assert message.data.tobytes() == bytes([7] * 72), "the earlier message is left alone"
    assert MessageBuffer(empty_message, "mono8").begin(None, 3, 5).shape == (3, 5)
