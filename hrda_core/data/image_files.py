"""Reads image and label files, and lists of their names. Their content is checked here, once for all data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, require

__all__ = [
    "IMAGE_SUFFIXES",
    "BoolArray",
    "LabelReader",
    "UInt8Array",
    "decoded",
    "encoded",
    "image_size",
    "read_image",
    "read_labels",
    "read_names",
    "read_synthia_labels",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
LabelReader = Callable[[Path], UInt8Array]
"""Path of a label file -> native ids, uint8 (H, W)."""

_ORIENTATION = 0x0112  # Exif tag; from 5 on the picture lies on its side, and OpenCV turns it
_FIRST_TURNED = 5


def read_image(path: Path) -> UInt8Array:
    """Read an RGB image, uint8 (H, W, 3).

    Raises:
        DataError: it is no readable image.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f"'{path}' cannot be read as an image; remove it or copy it again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encoded(image: UInt8Array, suffix: str = ".png", quality: int = 95) -> bytes:
    """Return the content of an image file: uint8 (H, W, 3) RGB, or (H, W) ids; `suffix` is `.png` or `.jpg`."""
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, stored, options)[1].tobytes()


def decoded(content: bytes) -> UInt8Array:
    """Decode an image that `encoded` wrote: uint8 (H, W, 3) RGB."""
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(path: Path) -> UInt8Array:
    """Read label ids as stored, uint8 (H, W); a palette PNG gives its indices, not its colours.

    Raises:
        DataError: it is no readable 8-bit one-channel PNG.
    """
    # Pillow, not OpenCV: OpenCV expands a palette to colours and loses the indices.
    image = _pillow()
    try:
        with image.open(path) as file:
            if file.mode in ("P", "L"):
                return np.array(file, np.uint8)
            found = f"mode {file.mode}"
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        found = str(error)
    raise DataError(f"'{path}' is not a label map ({found}); expected an 8-bit PNG of one channel or palette")


def read_synthia_labels(path: Path) -> UInt8Array:
    """Read class ids of a SYNTHIA label file, uint8 (H, W): the red channel of a 16-bit RGB PNG.

    Raises:
        DataError: it is no readable file of this kind.
    """
    # OpenCV, not Pillow: Pillow reduces 16-bit RGB to 8 bits.
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3:
        found = "not readable" if stored is None else f"{stored.dtype} of shape {stored.shape}"
        raise DataError(f"'{path}' is not a SYNTHIA label map ({found}); expected a 16-bit RGB PNG of GT/LABELS")
    ids = stored[..., 2]  # OpenCV orders blue, green, red
    if ids.max(initial=0) > 255:
        raise DataError(f"'{path}' holds the id {ids.max()}; expected SYNTHIA ids up to 22")
    return np.asarray(ids, np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Read height and width from the file's header, as `read_image` would give them; pixels are not decoded.

    Raises:
        DataError: it has no readable image header.
    """
    image = _pillow()
    try:
        with image.open(path) as file:
            width, height = file.size
            # Of other formats Pillow would have to decode the picture to find the tag.
            turned = file.format in ("JPEG", "MPO") and file.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read as an image ({error}); remove it or copy it again") from error
    return (width, height) if turned else (height, width)


def read_names(path: Path) -> tuple[str, ...]:
    """Read the names in a text file, one on each line, without empty lines and lines that start with #.

    Raises:
        DataError: the file cannot be read, or lists nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list '{path}' cannot be read ({error}); expected a text file of one name a line") from error
    names = tuple(name for line in lines if (name := line.strip()) and not name.startswith("#"))
    if not names:
        raise DataError(f"list '{path}' holds no names; expected one name a line, such as 'train/frame_000001'")
    return names


def _pillow() -> ModuleType:
    return require("PIL.Image", "bag")
