"""Messages to pixels and back, on plain objects with the fields of the ROS messages."""

from __future__ import annotations

import array
import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hrda_core.errors import ImageError
from hrda_ros.codec import ENCODINGS, MessageBuffer, decode_image, fill_image
from hrda_ros.compressed import decode_compressed

GENERATOR = np.random.default_rng(3)


def image(pixels: np.ndarray, encoding: str, padding: int = 0, **fields: Any) -> SimpleNamespace:
    """An image message of an array, with `padding` bytes of noise behind each row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    noise = GENERATOR.integers(0, 256, (height, padding), np.uint8)
    data = array.array("B", np.hstack([rows, noise]).tobytes())
    values = {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": rows.shape[1] + padding,
    }
    return SimpleNamespace(**{**values, "data": data, "header": None, **fields})


def random_image(height: int, width: int, channels: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (height, width, channels), np.uint8)


def refusal(message: Any, decode: Any = decode_image) -> str:
    """The cause that a message is refused with."""
    with pytest.raises(ImageError) as error:
        decode(message)
    return error.value.cause


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
def test_eight_bit_layouts_are_exact_at_any_padding(
    encoding: str, order: list[int], size: tuple[int, int], padding: int
) -> None:
    channels = 4 if encoding in ("rgba8", "bgra8", "8UC4") else len(set(order))
    pixels = random_image(*size, channels)
    np.testing.assert_array_equal(decode_image(image(pixels, encoding, padding)), pixels[..., order])


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_sixteen_bits_give_their_high_byte_in_both_byte_orders(encoding: str, byte_order: str, padding: int) -> None:
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
def test_yuv422_has_the_right_colours_also_at_odd_widths(
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
def test_two_plane_images_have_the_right_colours_also_at_odd_sizes(
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
def test_bayer_patterns_have_the_right_colours(pattern: str) -> None:
    color = {"r": 200, "g": 100, "b": 40}
    block = np.array([color[letter] for letter in pattern], np.uint8).reshape(2, 2)
    rgb = decode_image(image(np.tile(block, (5, 6)), f"bayer_{pattern}8", padding=1))
    np.testing.assert_array_equal(rgb, np.broadcast_to(np.array([200, 100, 40], np.uint8), (10, 12, 3)))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (17, 33)])
def test_every_encoding_keeps_the_size_at_any_size(encoding: str, size: tuple[int, int]) -> None:
    height, width = size
    message = image(random_image(2 * height + 2, 5 * width + 8, 1), encoding, height=height, width=width)
    assert decode_image(message).shape == (height, width, 3)


def test_bad_geometry_is_refused_by_cause() -> None:
    pixels = random_image(4, 6, 3)
    assert refusal(image(pixels, "rgb8", height=0)) == "empty"
    assert refusal(image(pixels, "rgb8", width=0)) == "empty"
    assert refusal(image(pixels, "rgb8", step=17)) == "step"
    assert refusal(image(pixels, "rgb8", step=0)) == "step"
    assert refusal(image(pixels, "rgb8", height=5)) == "short"
    assert refusal(image(pixels, "rgb8", data=array.array("B"))) == "short"
    assert refusal(image(pixels, "rgb8", height=2**32 - 1, width=2**32 - 1, step=2**32 - 1)) == "step"
    assert refusal(image(pixels, "nv12", height=4, width=6, data=array.array("B", bytes(4 * 18)))) == "short"
    assert refusal(image(pixels, "rgb8", data=[0] * 72)) == "data"


def test_trailing_bytes_are_ignored() -> None:
    pixels = random_image(4, 6, 3)
    message = image(pixels, "rgb8")
    message.data.extend(range(100))
    np.testing.assert_array_equal(decode_image(message), pixels)


def test_the_last_row_may_lack_its_padding() -> None:
    pixels = random_image(4, 6, 3)
    message = image(pixels, "rgb8", padding=6)
    message.data = message.data[:-6]
    np.testing.assert_array_equal(decode_image(message), pixels)


def test_unknown_encoding_is_refused_with_the_list_of_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
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


# Compressed images.


def compressed(data: bytes, kind: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(data=array.array("B", data), format=kind, header=None)


def smooth(height: int = 40, width: int = 60) -> np.ndarray:
    return cv2.GaussianBlur(random_image(height, width, 3), (0, 0), 5)


def encoded(rgb: np.ndarray, kind: str, *options: int) -> bytes:
    return cv2.imencode(kind, np.ascontiguousarray(rgb[..., ::-1]), options)[1].tobytes()


def test_png_is_exact_and_jpeg_is_close() -> None:
    rgb = smooth()
    np.testing.assert_array_equal(decode_compressed(compressed(encoded(rgb, ".png"))), rgb)
    decoded = decode_compressed(compressed(encoded(rgb, ".jpg")))
    assert np.abs(decoded.astype(int) - rgb).max() < 12


def test_grey_and_progressive_jpegs_are_read() -> None:
    grey = cv2.imencode(".jpg", smooth()[..., 0])[1].tobytes()
    assert decode_compressed(compressed(grey)).shape == (40, 60, 3)
    progressive = encoded(smooth(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert decode_compressed(compressed(progressive)).shape == (40, 60, 3)


def test_old_opencv_without_rgb_flag_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(smooth(), ".jpg")
    expected = decode_compressed(compressed(data))
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)
    np.testing.assert_array_equal(decode_compressed(compressed(data)), expected)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_off_files_are_refused_as_truncated(kind: str, share: float) -> None:
    data = encoded(smooth(), kind)
    assert refusal(compressed(data[: int(share * len(data))]), decode_compressed) == "truncated"


def test_padding_behind_the_end_marker_is_harmless() -> None:
    rgb = smooth()
    for kind in (".jpg", ".png"):
        assert decode_compressed(compressed(encoded(rgb, kind) + bytes(5000))).shape == rgb.shape


def with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """Insert an EXIF segment with an orientation, and bytes that stand for a thumbnail."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0])
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + b"\x00\x01" + entry + bytes(4) + thumbnail
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_exif_orientation_does_not_turn_the_picture() -> None:
    data = encoded(smooth(), ".jpg")
    turned = with_exif(data, orientation=6)
    applied = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert applied.shape == (60, 40, 3), "OpenCV sees the orientation"
    np.testing.assert_array_equal(decode_compressed(compressed(turned)), decode_compressed(compressed(data)))


def test_end_marker_of_a_thumbnail_does_not_hide_a_cut_off_picture() -> None:
    data = encoded(smooth(), ".jpg")
    with_thumbnail = with_exif(data, orientation=1, thumbnail=encoded(smooth(8, 8), ".jpg"))
    assert decode_compressed(compressed(with_thumbnail)).shape == (40, 60, 3)
    assert refusal(compressed(with_thumbnail[:-30]), decode_compressed) == "truncated"


def test_other_bytes_are_refused_by_cause() -> None:
    assert refusal(compressed(b""), decode_compressed) == "empty"
    assert refusal(compressed(b"RIFF1234WEBP"), decode_compressed) == "codec"
    damaged = bytearray(encoded(smooth(), ".png"))
    damaged[40:60] = bytes(20)
    assert refusal(compressed(bytes(damaged)), decode_compressed) == "decode"


# Writing.


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


def test_buffer_keeps_its_memory_until_the_size_changes() -> None:
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


def test_rosbag_arrays_and_bytes_are_read_too() -> None:
    pixels = random_image(3, 4, 3)
    for data in (pixels.tobytes(), np.frombuffer(io.BytesIO(pixels.tobytes()).getbuffer(), np.uint8)):
        np.testing.assert_array_equal(decode_image(image(pixels, "rgb8", data=data)), pixels)
