"""Reads image and label files, and lists of their names. Their content is checked here, once for all data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, ImageError, require, shown
from hrda_core.messages import picture_size
from hrda_core.messages.compressed import deep_to_rgb
from hrda_core.messages.picture_size import JPEG_START, MAX_MEGAPIXELS, PNG_START, check_pixels
from hrda_core.messages.raw import opencv_reason
from hrda_core.messages.value_range import FULL_RANGE, PixelValues, ValueRange, fitting_range, near_black
from hrda_core.plain_files import open_file

__all__ = [
    "IMAGE_SUFFIXES",
    "BoolArray",
    "LabelReader",
    "UInt8Array",
    "decoded",
    "encoded",
    "image_range",
    "image_size",
    "opencv_path",
    "opened_picture",
    "pillow_errors",
    "read_image",
    "read_labels",
    "read_names",
    "read_synthia_labels",
    "unread_pictures",
]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Ends of the names of files that are read as images, in small letters."""

_UNREAD_SUFFIXES = (
    *(".avif", ".cr2", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".nef", ".npy"),
    *(".npz", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm", ".raw", ".tga"),
)
"""Ends of the names of pictures that are not read; they are never left out without a word."""

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
LabelReader = Callable[[Path, int], UInt8Array]
"""Path of a label file, and how many million pixels it may have -> native ids, uint8 (H, W)."""

_ORIENTATION = 0x0112  # Exif tag; from 5 on the picture lies on its side, and OpenCV turns it
_FIRST_TURNED = 5

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Content that Pillow may take a file for, whatever its name: of the dozens that it knows, one starts Ghostscript."""

_JPEG = (".jpg", ".jpeg")
_HEADER = 1 << 18  # bytes at the start of a file that hold the size of a JPEG or PNG; a large Exif part may lie before
_LARGEST_LIST = 64 << 20
_RANGE_IMAGES = 8  # images that the range of 16-bit pixels is measured on


def unread_pictures(files: Iterable[Path]) -> str:
    """Return a sentence on the files that are pictures of kinds that are not read, or nothing if there are none."""
    kinds = Counter(path.suffix.lower() for path in files if path.suffix.lower() in _UNREAD_SUFFIXES)
    if not kinds:
        return ""
    named = ", ".join(f"{number} {suffix}" for suffix, number in sorted(kinds.items()))
    return f"{named} (images are read from {' '.join(IMAGE_SUFFIXES)}; convert the others)"


def read_image(path: Path, values: PixelValues = FULL_RANGE, max_megapixels: int = MAX_MEGAPIXELS) -> UInt8Array:
    """Read an RGB image, uint8 (H, W, 3). A JPEG is turned as its Exif tag says, as cameras write them.

    Args:
        path: an image file.
        values: turns pixels of 16 bits into bytes; by default the high byte is the picture.
        max_megapixels: an image whose header states more million pixels is not decoded.

    Raises:
        DataError: it is no readable image, or it is too large.
    """
    bgr = _stored(path, max_megapixels)
    if bgr is None:
        raise DataError(f"'{path}' cannot be read as an image; remove it or copy it again")
    return deep_to_rgb(bgr, values)


def _stored(path: Path, max_megapixels: int) -> npt.NDArray[Any] | None:
    """BGR (H, W, 3) of 8 or 16 bits; None where it cannot be read."""
    _check_size(path, max_megapixels)
    flags = cv2.IMREAD_COLOR
    if path.suffix.lower() not in _JPEG:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    bgr = _imread(path, flags | cv2.IMREAD_ANYDEPTH)
    # Pixels of other kinds, such as floating point in TIFF, are OpenCV's to convert.
    return bgr if bgr is None or bgr.dtype in (np.uint8, np.uint16) else _imread(path, flags)


def _deep(path: Path, max_megapixels: int) -> npt.NDArray[np.uint16] | None:
    """The pixels of an image of 16 bits; None for others, and for what cannot be read: whoever reads it will say so."""
    try:
        stored = _stored(path, max_megapixels)
    except DataError:
        return None
    return stored if stored is not None and stored.dtype == np.uint16 else None


def _first_stored(paths: Sequence[Path], max_megapixels: int) -> npt.NDArray[Any] | None:
    """The first image that can be read; a broken one at the front says nothing of the others."""
    for path in paths:
        with suppress(DataError):
            if (stored := _stored(path, max_megapixels)) is not None:
                return stored
    return None


def image_range(
    paths: Sequence[Path], given: ValueRange | None = None, max_megapixels: int = MAX_MEGAPIXELS
) -> tuple[ValueRange, str]:
    """Return the values that become 0 and 255 in images of 16-bit pixels, and a sentence about it.

    Args:
        paths: images of one camera. JPEGs have 8 bits; where the first of the others has, all are taken to, else some
            of them are read.
        given: the range; None = the smallest usual number of bits that holds the values of those.
        max_megapixels: see `read_image`.

    Returns:
        the range, and an empty text for images of 8 bits.
    """
    paths = [path for path in paths if path.suffix.lower() not in _JPEG]
    first = _first_stored(paths, max_megapixels)
    if first is None or first.dtype != np.uint16:
        return given or FULL_RANGE, ""
    places = np.linspace(0, len(paths) - 1, min(_RANGE_IMAGES, len(paths))).round().astype(int)
    stored = [image for place in places if (image := _deep(paths[place], max_megapixels)) is not None] or [first]
    values = given or fitting_range(max(int(image.max(initial=0)) for image in stored))
    dark = near_black(np.concatenate([values.to_bytes(image[::4, ::4]).reshape(-1) for image in stored]), values)
    return values, f"16-bit pixels: {values} become 0..255" + (f"; warning: {dark}" if dark else "")


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


def read_labels(path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> UInt8Array:
    """Read label ids as stored, uint8 (H, W); a palette PNG gives its indices, not its colours.

    Raises:
        DataError: it is no readable 8-bit one-channel PNG, or has more million pixels than `max_megapixels`.
    """
    # Pillow, not OpenCV: OpenCV expands a palette to colours and loses the indices.
    advice = ""
    try:
        with opened_picture(path, max_megapixels) as file:
            lossy = file.format in ("JPEG", "MPO")
            if file.mode in ("P", "L") and not lossy:
                return np.array(file, np.uint8)
            found = "a JPEG, which changes ids at every edge" if lossy else f"mode {file.mode}"
            if file.mode in ("RGB", "RGBA") and not lossy:
                advice = "; for masks in the colours of the classes give label_colors: true"
    except pillow_errors() as error:
        found = str(error)
    raise DataError(f"'{path}' is not a label map ({found}); expected an 8-bit PNG of one channel or palette{advice}")


def read_synthia_labels(path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> UInt8Array:
    """Read class ids of a SYNTHIA label file, uint8 (H, W): the red channel of a 16-bit RGB PNG.

    Raises:
        DataError: it is no readable file of this kind, or has more million pixels than `max_megapixels`.
    """
    # OpenCV, not Pillow: Pillow reduces 16-bit RGB to 8 bits.
    _check_size(path, max_megapixels)
    stored = _imread(path, cv2.IMREAD_UNCHANGED)
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
    try:
        with opened_picture(path, None) as file:
            width, height = file.size
            # Of other formats Pillow would have to decode the picture to find the tag.
            turned = file.format in ("JPEG", "MPO") and file.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
            if file.format == "TIFF" and file.getexif().get(_ORIENTATION, 1) != 1:
                # OpenCV refuses such a file, or mirrors it beside labels that are not.
                raise ValueError("its orientation tag turns or mirrors it; save it upright")
    except pillow_errors() as error:
        raise DataError(f"'{path}' cannot be read as an image ({error}); remove it or copy it again") from error
    return (width, height) if turned else (height, width)


def read_names(path: Path) -> tuple[str, ...]:
    """Read the names in a text file, one on each line, without empty lines and lines that start with #.

    Raises:
        DataError: the file cannot be read, or lists nothing.
    """
    try:
        with open_file(path) as file:
            content = file.read(_LARGEST_LIST + 1)
        if len(content) > _LARGEST_LIST:
            raise OSError(f"it is larger than {_LARGEST_LIST >> 20} MiB")
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list '{path}' cannot be read ({error}); expected a text file of one name a line") from error
    names = tuple(name for line in lines if (name := line.strip()) and not name.startswith("#"))
    if not names:
        raise DataError(f"list '{path}' holds no names; expected one name a line, such as 'train/frame_000001'")
    return names


def pillow_errors() -> tuple[type[Exception], ...]:
    """Return what is raised for damaged files, and for those whose header states too many pixels."""
    image = _pillow()
    return OSError, SyntaxError, ValueError, ImageError, image.DecompressionBombError, image.DecompressionBombWarning


@contextmanager
def opened_picture(path: Path, max_megapixels: int | None) -> Iterator[Any]:
    """Yield the `PIL.Image.Image` of a file, of which only the header was read so far.

    Args:
        max_megapixels: how many million pixels it may have; None = any, for who decodes nothing.

    Raises:
        ImageError: it has more; or what else `pillow_errors` lists, for what is no file too.
    """
    image = _pillow()
    # Pillow has a limit of its own, which would stand in the way of the declared one.
    image.MAX_IMAGE_PIXELS = None  # type: ignore[attr-defined]
    with open_file(path) as stored:
        try:
            opened = image.open(stored, formats=_FORMATS)
        except image.UnidentifiedImageError:  # it names the open file, not its path
            raise ImageError(f"its content is none of {', '.join(_FORMATS)}") from None
        with opened as file:
            if max_megapixels is not None:
                check_pixels(file.height, file.width, max_megapixels)
            yield file


def _check_size(path: Path, max_megapixels: int) -> None:
    """Refuse a file by its header; what Pillow does not know is no kind of file that is read.

    JPEG and PNG are judged without Pillow, which a robot need not have.
    """
    try:
        with open_file(path) as stored:
            head = stored.read(_HEADER)
            if head.startswith(PNG_START) and not picture_size.png_is_whole(stored):
                raise ImageError("its end is missing, or a part states more bytes than there are", "truncated")
        size = picture_size.picture_size(head) if head.startswith((JPEG_START, PNG_START)) else None
        if size is not None:
            check_pixels(*size, max_megapixels)
            return
    except (OSError, ImageError) as error:
        raise DataError(f"'{path}' cannot be read as an image ({error}); remove it or copy it again") from error
    try:
        with opened_picture(path, max_megapixels):
            return
    except pillow_errors() as error:
        raise DataError(f"'{path}' cannot be read as an image ({error}); remove it or copy it again") from error


def _imread(path: Path, flags: int) -> npt.NDArray[Any] | None:
    try:
        return cv2.imread(opencv_path(path), flags)
    except cv2.error as error:
        raise DataError(f"'{path}' cannot be read as an image ({opencv_reason(error)}); remove it") from error


def opencv_path(path: Path) -> str:
    """Return a path in the form that OpenCV takes; it ends the process (SIGSEGV) on a name that is not UTF-8.

    Raises:
        DataError: it is such a name.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"'{shown(path)}' has a name that is not UTF-8 and cannot be read; rename it") from None
    return text


def _pillow() -> ModuleType:
    return require("PIL.Image", "bag")
