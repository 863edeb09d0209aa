"""Compressed image messages to pixels."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from image_messages import random_image, refusal

from hrda_core.messages import decode_compressed


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
