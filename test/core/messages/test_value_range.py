"""Pixels of 9 to 16 bits become pictures of 8 bits in one place."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hrda_core.errors import ImageError
from hrda_core.messages import decode_compressed, decode_image
from hrda_core.messages.value_range import FULL_RANGE, DeepPixels, ValueRange, fitting_range, near_black, read_range

RAMP = np.arange(65536).astype(np.uint16).reshape(256, 256)


def _mono16(values: np.ndarray) -> SimpleNamespace:
    height, width = values.shape
    data = values.astype("<u2").tobytes()
    return SimpleNamespace(
        height=height, width=width, encoding="mono16", step=2 * width, is_bigendian=0, data=data, format=""
    )


def _png(values: np.ndarray, kind: str = "16UC1; png compressed") -> SimpleNamespace:
    return SimpleNamespace(data=cv2.imencode(".png", values)[1].tobytes(), format=kind)


def test_the_full_range_gives_the_high_byte() -> None:
    np.testing.assert_array_equal(FULL_RANGE.to_bytes(RAMP), (RAMP >> 8).astype(np.uint8))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_range_of_bits_gives_the_eight_highest_of_them_and_white_beyond(bits: int) -> None:
    picture = ValueRange(0, 2**bits - 1).to_bytes(RAMP)
    np.testing.assert_array_equal(picture, np.minimum(RAMP >> (bits - 8), 255))


@pytest.mark.parametrize("text", ["0 " + "9" * 5000, "0 4095 1", "a b", "-1 5"])
def test_a_text_that_is_no_range_is_one_sentence(text: str) -> None:
    with pytest.raises(ImageError, match="is no range of values"):
        read_range(text)


def test_a_range_that_begins_above_black_stretches_what_is_between() -> None:
    picture = ValueRange(7000, 9047).to_bytes(np.array([[0, 7000, 8024, 9047, 60000]], np.uint16))
    assert picture.tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (9, 3), (-1, 255), (0, 65536)])
def test_a_range_that_makes_no_sense_is_refused(low: int, high: int) -> None:
    with pytest.raises(ImageError, match="0 4095 for 12 bits") as caught:
        ValueRange(low, high)
    assert caught.value.cause == "value_range"


@pytest.mark.parametrize(
    ("highest", "bits"), [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16)]
)
def test_the_fitting_range_is_the_smallest_usual_number_of_bits(highest: int, bits: int) -> None:
    assert fitting_range(highest) == ValueRange(0, 2**bits - 1)


def test_the_range_grows_with_the_values_and_never_shrinks() -> None:
    said: list[str] = []
    pixels = DeepPixels(say=said.append)
    dusk, noon = np.full((8, 8), 1000, np.uint16), np.full((8, 8), 4000, np.uint16)
    assert pixels.to_bytes(dusk)[0, 0] == 1000 >> 2
    assert pixels.to_bytes(noon)[0, 0] == 4000 >> 4
    assert pixels.to_bytes(dusk)[0, 0] == 1000 >> 4
    assert [sentence.split(":")[0] for sentence in said] == [
        "16-bit pixels with values up to 1000",
        "16-bit pixels with values up to 4000",
    ]
    copy = pickle.loads(pickle.dumps(pixels))
    assert copy.to_bytes(dusk)[0, 0] == 1000 >> 4


def test_pictures_that_come_out_near_black_are_told_once() -> None:
    said: list[str] = []
    given = DeepPixels(FULL_RANGE, said.append)
    for _ in range(3):
        given.to_bytes(np.full((16, 16), 3000, np.uint16))
    assert len(said) == 1
    assert "near black" in said[0]
    assert "value_range" in said[0]
    assert near_black(np.full((9, 9), 16, np.uint8), FULL_RANGE) == ""


@pytest.mark.parametrize("values", [ValueRange(0, 4095), DeepPixels()])
def test_mono16_and_packed_pictures_of_twelve_bits_are_scaled_alike(values: ValueRange | DeepPixels) -> None:
    stored = np.linspace(0, 4095, 20 * 30).astype(np.uint16).reshape(20, 30)
    expected = np.dstack([(stored >> 4).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(decode_image(_mono16(stored), values), expected)
    np.testing.assert_array_equal(decode_compressed(_png(stored), values), expected)
    colours = np.dstack([stored, stored // 2, stored // 4])  # OpenCV writes BGR
    found = decode_compressed(_png(colours, "bgr16; png compressed"), values)
    np.testing.assert_array_equal(found, (colours[..., ::-1] >> 4).astype(np.uint8))


def test_a_packed_mosaic_of_twelve_bits_becomes_colour_as_one_of_eight_does() -> None:
    mosaic = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    deep = decode_compressed(_png(mosaic.astype(np.uint16) << 4, "bayer_rggb16; png compressed"), ValueRange(0, 4095))
    np.testing.assert_array_equal(deep, decode_compressed(_png(mosaic, "bayer_rggb8; png compressed")))


def test_pictures_of_eight_bits_are_left_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    message = _png(picture, "bgr8; png compressed")
    np.testing.assert_array_equal(decode_compressed(message, ValueRange(0, 4095)), picture[..., ::-1])
