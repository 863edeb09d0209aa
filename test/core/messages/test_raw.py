"""Image messages to pixels."""

from __future__ import annotations

import array
import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from image_messages import GENERATOR, image, random_image, refusal

from hrda_core.errors import ImageError
from hrda_core.messages import ENCODINGS, decode_image


@pytest.mark.parametrize("padding", [0, 1, 5, 8])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (6, 8)])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("rgba8", [0, 1, 2]),
        ("bgra8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("8UC4", [2, 1, 0]),
        ("mono8", [0, 0, 0]),
        ("8UC1", [0, 0, 0]),
    ],
)
def test_m2_m5_eight_bit_layouts_are_exact_at_any_padding(
    encoding: str, order: list[int], size: tuple[int, int], padding: int
) -> None:
    channels = 4 if encoding in ("rgba8", "bgra8", "8UC4") else len(set(order))
    pixels = random_image(*size, channels)
    np.testing.assert_array_equal(decode_image(image(pixels, encoding, padding)), pixels[..., order])


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_m5_sixteen_bits_give_their_high_byte_in_both_byte_orders(encoding: str, byte_order: str, padding: int) -> None:
    pixels = GENERATOR.integers(0, 1 << 16, (5, 7)).astype(f"{byte_order}u2")
    message = image(pixels, encoding, padding, is_bigendian=int(byte_order == ">"))
    np.testing.assert_array_equal(decode_image(message), np.dstack([pixels // 256] * 3))


def test_rgb8_is_a_view_on_the_message() -> None:
    message = image(random_image(4, 4, 3), "rgb8", padding=2)
    assert np.shares_memory(decode_image(message), np.frombuffer(message.data, np.uint8))


def yuv_of(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Limited-range BT.601, by the formula of the standard."""
    red, green, blue = (value / 255 for value in rgb)
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
    v = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
    return round(luma), round(u), round(v)


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 64, 200)]


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize(
    ("encoding", "layout"), [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")]
)
@pytest.mark.parametrize("width", [8, 7, 1])
def test_m5_yuv422_has_the_right_colours_also_at_odd_widths(
    encoding: str, layout: str, color: tuple[int, int, int], width: int
) -> None:
    values = dict(zip("YUV", yuv_of(color), strict=True))
    pairs = np.array([values[letter] for letter in layout], np.uint8)
    rows = np.tile(pairs, (3, (width + 1) // 2)).reshape(3, -1, 2)
    rgb = decode_image(image(rows, encoding, padding=3, width=width))
    assert rgb.shape == (3, width, 3)
    assert np.abs(rgb.astype(int) - color).max() <= 3


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_m5_two_plane_images_have_the_right_colours_also_at_odd_sizes(
    encoding: str, color: tuple[int, int, int], size: tuple[int, int]
) -> None:
    luma, u, v = yuv_of(color)
    height, width = size
    step = (width + 1) // 2 * 2 + 4
    chroma = np.tile(np.array([u, v] if encoding == "nv12" else [v, u], np.uint8), ((height + 1) // 2, step // 2))
    planes = np.vstack([np.full((height, step), luma, np.uint8), chroma])
    rgb = decode_image(image(planes, encoding, height=height, width=width))
    assert rgb.shape == (height, width, 3)
    assert np.abs(rgb.astype(int) - color).max() <= 3


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_m5_bayer_patterns_have_the_right_colours(pattern: str) -> None:
    color = {"r": 200, "g": 100, "b": 40}
    block = np.array([color[letter] for letter in pattern], np.uint8).reshape(2, 2)
    rgb = decode_image(image(np.tile(block, (5, 6)), f"bayer_{pattern}8", padding=1))
    np.testing.assert_array_equal(rgb, np.broadcast_to(np.array([200, 100, 40], np.uint8), (10, 12, 3)))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (17, 33)])
def test_m5_every_encoding_keeps_the_size_at_any_size(encoding: str, size: tuple[int, int]) -> None:
    height, width = size
    message = image(random_image(2 * height + 2, 5 * width + 8, 1), encoding, height=height, width=width)
    assert decode_image(message).shape == (height, width, 3)


def test_m1_m2_m3_bad_geometry_is_refused_by_cause() -> None:
    pixels = random_image(4, 6, 3)
    assert refusal(image(pixels, "rgb8", height=0)) == "empty"
    assert refusal(image(pixels, "rgb8", width=0)) == "empty"
    assert refusal(image(pixels, "rgb8", step=17)) == "step"
    assert refusal(image(pixels, "rgb8", height=5)) == "short"
    assert refusal(image(pixels, "rgb8", data=array.array("B"))) == "short"
    assert refusal(image(pixels, "rgb8", height=2**32 - 1, width=2**32 - 1, step=2**32 - 1)) == "step"
    assert refusal(image(pixels, "nv12", height=4, width=6, data=array.array("B", bytes(4 * 18)))) == "short"
    assert refusal(image(pixels, "rgb8", data=[0] * 72)) == "data"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_m2_a_step_of_0_means_rows_without_padding_where_the_bytes_fit_exactly(
    encoding: str, size: tuple[int, int]
) -> None:
    height, width = size
    even = width + width % 2
    bits = {"mono16": 16, "16UC1": 16, "nv12": 8, "nv21": 8}.get(encoding, 8)
    channels = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4}.get(encoding, 1)
    if encoding.startswith(("yuv", "uyvy", "yuyv")):
        row, rows = 2 * even, height
    elif encoding.startswith("nv"):
        row, rows = even, height + (height + 1) // 2
    else:
        row, rows = width * channels * bits // 8, height
    whole = image(random_image(rows, row, 1), encoding, height=height, width=width)
    without = SimpleNamespace(**{**vars(whole), "step": 0})

    np.testing.assert_array_equal(decode_image(without), decode_image(whole))
    # More bytes may be padding, of which nothing says where it lies.
    without.data = array.array("B", bytes(whole.data) + bytes(rows))
    assert refusal(without) == "step"


def test_m1_trailing_bytes_are_ignored() -> None:
    pixels = random_image(4, 6, 3)
    message = image(pixels, "rgb8")
    message.data.extend(range(100))
    np.testing.assert_array_equal(decode_image(message), pixels)


def test_m1_m2_the_last_row_may_lack_its_padding() -> None:
    pixels = random_image(4, 6, 3)
    message = image(pixels, "rgb8", padding=6)
    message.data = message.data[:-6]
    np.testing.assert_array_equal(decode_image(message), pixels)


def test_p8_m4_unknown_encoding_is_refused_with_the_list_of_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError, match="bayer_rggb8") as error:
        decode_image(image(random_image(2, 2, 3), "rgb999"))
    assert error.value.cause == "encoding"


def test_rare_encodings_go_through_cv_bridge_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = random_image(2, 3, 3)
    bridge = ModuleType("cv_bridge")
    bridge.CvBridge = lambda: SimpleNamespace(imgmsg_to_cv2=lambda message, encoding: pixels)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    np.testing.assert_array_equal(decode_image(image(pixels, "rare")), pixels)
    assert refusal(image(random_image(9, 9, 3), "rare")) == "encoding"


def test_rosbag_arrays_and_bytes_are_read_too() -> None:
    pixels = random_image(3, 4, 3)
    for data in (pixels.tobytes(), np.frombuffer(io.BytesIO(pixels.tobytes()).getbuffer(), np.uint8)):
        np.testing.assert_array_equal(decode_image(image(pixels, "rgb8", data=data)), pixels)
