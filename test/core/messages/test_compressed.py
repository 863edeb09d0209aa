"""Compressed image messages to pixels."""

from __future__ import annotations

import array
import io
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from image_messages import random_image, refusal

from hrda_core.errors import ImageError
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
def test_m6_cut_off_files_are_refused_as_truncated(kind: str, share: float) -> None:
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


def test_m6_end_marker_of_a_thumbnail_does_not_hide_a_cut_off_picture() -> None:
    data = encoded(smooth(), ".jpg")
    with_thumbnail = with_exif(data, orientation=1, thumbnail=encoded(smooth(8, 8), ".jpg"))
    assert decode_compressed(compressed(with_thumbnail)).shape == (40, 60, 3)
    assert refusal(compressed(with_thumbnail[:-30]), decode_compressed) == "truncated"


def test_m6_other_bytes_are_refused_by_cause() -> None:
    assert refusal(compressed(b""), decode_compressed) == "empty"
    assert refusal(compressed(b"RIFF1234WEBP"), decode_compressed) == "codec"
    damaged = bytearray(encoded(smooth(), ".png"))
    damaged[40:60] = bytes(20)
    assert refusal(compressed(bytes(damaged)), decode_compressed) == "decode"


def mosaic_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    mosaic = np.empty(rgb.shape[:2], rgb.dtype)
    for place, colour in enumerate(pattern):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        mosaic[rows, columns] = rgb[rows, columns, "rgb".index(colour)]
    return mosaic


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("kind", ["8; jpeg compressed ", "8; png compressed ", "16; png compressed "])
def test_a_packed_mosaic_becomes_colour(pattern: str, kind: str) -> None:
    rgb = np.broadcast_to(np.array([200, 120, 40], np.uint8), (40, 60, 3))
    mosaic = mosaic_of(rgb, pattern)
    if kind.startswith("16"):
        mosaic = mosaic.astype(np.uint16) << 8
    data = cv2.imencode(".jpg" if "jpeg" in kind else ".png", mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    decoded = decode_compressed(compressed(data, f"bayer_{pattern}{kind}"))
    assert np.abs(decoded[4:-4, 4:-4].astype(int) - rgb[4:-4, 4:-4]).max() < 12


def test_a_mosaic_that_the_driver_made_colour_of_stays_as_it_is() -> None:
    rgb = smooth()
    data = encoded(rgb, ".png")
    np.testing.assert_array_equal(decode_compressed(compressed(data, "bayer_rggb8; png compressed bgr8")), rgb)


def test_m4_an_unknown_pattern_is_refused() -> None:
    data = cv2.imencode(".png", smooth()[..., 0])[1].tobytes()
    assert refusal(compressed(data, "bayer_rgbw8; png compressed "), decode_compressed) == "encoding"


def _enlarged(kind: str, height: int, width: int) -> bytes:
    """A small picture whose header states another size."""
    data = bytearray(encoded(smooth(), kind))
    if kind == ".png":
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


MEMORY = """
import resource, sys
from types import SimpleNamespace
from hrda_core.errors import ImageError
from hrda_core.messages import decode_compressed

def cause(path):
    data = open(path, "rb").read()
    try:
        return decode_compressed(SimpleNamespace(data=data, format="jpeg", header=None)).shape
    except ImageError as error:
        return error.cause

good, *bad = sys.argv[1:]
cause(good)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print([cause(path) for path in bad for _ in range(20)], file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, {cause(path) for path in bad})
"""


def test_m6_pictures_that_state_a_billion_pixels_are_refused_from_their_header_and_take_no_memory(
    tmp_path: Path,
) -> None:
    # In a process of its own, because what OpenCV takes is seen in the peak of a process alone.
    files = {"good": encoded(smooth(), ".jpg")}
    files |= {f"bomb{kind}": _enlarged(kind, 65500, 65500) for kind in (".jpg", ".png")}
    files["limit.png"] = _enlarged(".png", 8001, 8000)
    files["scans"] = files["bomb.jpg"] + bytes(1000)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", MEMORY, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes, causes = done.stdout.split(maxsplit=1)
    assert causes.strip() == "{'size'}"
    assert int(kilobytes) < 10_000


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_m6_the_limit_is_a_parameter_and_holds_to_the_pixel(kind: str) -> None:
    data = encoded(np.zeros((1000, 1001, 3), np.uint8), kind)
    assert decode_compressed(compressed(data), max_megapixels=2).shape == (1000, 1001, 3)
    with pytest.raises(ImageError, match=r"1000 x 1001 pixels is larger than 1 megapixels") as caught:
        decode_compressed(compressed(data), max_megapixels=1)
    assert caught.value.cause == "size"
    fitting = compressed(encoded(np.zeros((1000, 1000, 3), np.uint8), kind))
    assert decode_compressed(fitting, max_megapixels=1).shape[:2] == (1000, 1000)


def test_m6_the_size_is_that_of_the_picture_and_not_of_its_thumbnail() -> None:
    thumbnail = encoded(np.zeros((8, 8, 3), np.uint8), ".jpg")
    data = _enlarged(".jpg", 65500, 65500)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert refusal(compressed(data[:2] + segment + data[2:]), decode_compressed) == "size"


def test_m6_a_header_without_a_size_and_a_thousand_scans_are_refused() -> None:
    data = encoded(smooth(), ".jpg")
    frame = data.index(b"\xff\xc0")
    length = int.from_bytes(data[frame + 2 : frame + 4], "big") + 2
    assert refusal(compressed(data[:frame] + data[frame + length :]), decode_compressed) == "decode"
    scan = data[data.index(b"\xff\xda") : -2]
    assert refusal(compressed(data[:-2] + 1000 * scan + data[-2:]), decode_compressed) == "decode"


def test_m6_passes_over_a_large_picture_are_counted_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(smooth(), ".jpg")
    scan = data[data.index(b"\xff\xda") : -2]
    passes = data[:-2] + 30 * scan + data[-2:]
    assert decode_compressed(compressed(passes)).shape == (40, 60, 3)
    frame = data.index(b"\xff\xc0")
    large = passes[: frame + 5] + (7900).to_bytes(2, "big") + (8000).to_bytes(2, "big") + passes[frame + 9 :]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert refusal(compressed(large), decode_compressed) == "decode"


@pytest.mark.parametrize("name", ["h264", "H265", "hevc"])
def test_p8_m6_a_packet_of_a_video_is_refused_with_what_to_do(name: str) -> None:
    message = SimpleNamespace(format=name, data=b"\0\0\0\1\x67abc")
    with pytest.raises(ImageError, match="is a packet of a video, which is not decoded live; republish it") as caught:
        decode_compressed(message)
    assert caught.value.cause == "codec"


@pytest.mark.parametrize("kind", [b"IDAT", b"fcTL", b"fdAT"])
def test_m6_a_chunk_that_states_more_bytes_than_there_are_is_refused(kind: bytes) -> None:
    pillow = pytest.importorskip("PIL.Image")
    stored = io.BytesIO()
    frames = [pillow.new("RGB", (64, 48), color) for color in range(3)]
    frames[0].save(stored, "PNG", save_all=True, append_images=frames[1:])
    data = bytearray(stored.getvalue())
    decode_compressed(compressed(bytes(data)))
    place = data.index(kind) - 4
    data[place] = 0x20  # 512 MB, which OpenCV would reserve
    assert refusal(compressed(bytes(data)), decode_compressed) == "truncated"


def test_m6_a_million_chunks_are_refused() -> None:
    data = encoded(smooth(), ".png")
    chunk = bytes(4) + b"teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    assert refusal(compressed(data[:33] + 1_000_000 * chunk + data[33:]), decode_compressed) == "decode"


@pytest.mark.parametrize("filler", [b"\xff\x01", b"\xff\xe0\x00\x02"])
def test_m6_a_million_segments_are_refused_and_not_walked_through(filler: bytes) -> None:
    data = encoded(smooth(), ".jpg")
    padded = data[:2] + 1_000_000 * filler + data[2:]
    assert refusal(compressed(padded), decode_compressed) == "decode"


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    data = encoded(smooth(), ".jpg")
    padded = data[:2] + 2_000_000 * b"\xff" + data[2:]
    np.testing.assert_array_equal(decode_compressed(compressed(padded)), decode_compressed(compressed(data)))
