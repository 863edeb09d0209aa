"""Every n-th row of a message, read from its bytes, is what decoding the whole gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_bag import STORE
from rosbags.typesys import Stores, get_typestore

from hrda_core.data.recordings.recorded_image import IMAGE, RecordedImage
from hrda_core.data.recordings.thinned_image import decode_thinned, encoding_of
from hrda_core.errors import ImageError

ROS1 = get_typestore(Stores.ROS1_NOETIC)
GENERATOR = np.random.default_rng(0)
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "bgra8": 4, "yuyv": 2, "mono16": 2, "bayer_rggb8": 1}


def _image(
    encoding: str, height: int, *, width: int = 24, padding: int = 0, ros1: bool = False, frame_id: str = "camera"
) -> RecordedImage:
    store = ROS1 if ros1 else STORE
    stamp = store.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4)
    header_fields = {"seq": 1} if ros1 else {}
    header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id, **header_fields)
    step = width * CHANNELS[encoding] + padding
    data = GENERATOR.integers(0, 256, step * height, np.uint8)
    message = store.types[IMAGE](header, height, width, encoding, 0, step, data)
    raw = bytes(store.serialize_ros1(message, IMAGE) if ros1 else store.serialize_cdr(message, IMAGE))
    return RecordedImage("/camera", 1, 1, Path("bag"), 0, IMAGE, raw, ros1)


@pytest.mark.parametrize("ros1", [False, True])
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "bgra8", "yuyv", "mono16"])
def test_rows_are_those_of_the_whole_image(encoding: str, frame_id: str, ros1: bool) -> None:
    image = _image(encoding, 41, padding=5, ros1=ros1, frame_id=frame_id)

    rgb, width, height = decode_thinned(image, 10)

    np.testing.assert_array_equal(rgb, image.decode()[::4][:10])
    assert (width, height) == (24, 41)
    assert encoding_of(image) == encoding


@pytest.mark.parametrize(("encoding", "height"), [("bayer_rggb8", 40), ("rgb8", 19)])
def test_what_cannot_be_thinned_is_decoded_whole(encoding: str, height: int) -> None:
    image = _image(encoding, height)

    np.testing.assert_array_equal(decode_thinned(image, 10).rgb, image.decode())


@pytest.mark.parametrize("encoding", ["rgb8", "mono16"])
def test_an_image_without_a_step_is_decoded_whole(encoding: str) -> None:
    image = _image(encoding, 40)
    step = (24 * CHANNELS[encoding]).to_bytes(4, "little")
    at = image.raw.rindex(step, 0, len(image.raw) - 40 * 24 * CHANNELS[encoding])
    without = replace(image, raw=image.raw[:at] + bytes(4) + image.raw[at + 4 :])

    np.testing.assert_array_equal(decode_thinned(without, 10).rgb, image.decode())


@pytest.mark.parametrize("name", [b"\x80\x02\0\0", b"rgb\n", b"\xe9t\xe9\0", b""])
def test_an_encoding_that_is_no_text_of_ascii_is_none(name: bytes) -> None:
    image = _image("rgb8", 40)

    assert encoding_of(replace(image, raw=image.raw.replace(b"rgb8", name.ljust(4, b"\0")))) == ""


@pytest.mark.parametrize("kept", [0, 5, 13, 30, 60, 200])
def test_a_message_that_is_cut_off_is_refused_as_ever(kept: int) -> None:
    whole = _image("rgb8", 40)
    image = RecordedImage("/camera", 1, 1, Path("bag"), 0, IMAGE, whole.raw[:kept])

    with pytest.raises(ImageError):
        decode_thinned(image, 10)
    assert encoding_of(image) in ("", "rgb8")
