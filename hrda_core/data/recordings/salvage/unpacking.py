"""Unpacks zstd, lz4 and bz2 piece by piece, up to a limit: 8 KB of zstd can stand for 256 MB."""

from __future__ import annotations

import bz2
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hrda_core.errors import require
from hrda_core.plain_files import open_file

__all__ = ["MAX_UNPACKED", "UnpackedTooLargeError", "limit_rosbags", "unpack", "unpack_file"]

MAX_UNPACKED = 512 << 20
"""Largest chunk or message that is unpacked, bytes. Recorders write chunks of 1 to 16 MB."""

_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_PIECE = 4 << 20

_FREE_RATIO, _FREE_BYTES, _FREE_CHUNK = 200, MAX_UNPACKED, 64 << 20
"""A packed file, or chunk, may unpack to this many times its size, or to this many bytes, whichever is more: the
temporary folder of a robot is often its memory, and a file may hold thousands of chunks that stand for 512 MB each."""


class UnpackedTooLargeError(ValueError):
    """Packed data yield more than they may."""


def unpack(compression: str, data: bytes, limit: int = MAX_UNPACKED) -> bytes:
    """Unpack data that may be cut off: the result is then the part that could be read.

    Args:
        compression: `""` or `none`, `zstd`, `lz4` (frames), `bz2`.
        limit: largest result, bytes; what is beyond is never made.

    Raises:
        KeyError: the compression is another one.
        MissingPackageError: rosbags, which brings the libraries, is not installed.
        UnpackedTooLargeError: the result is larger.
        Exception: an error of the library, where the data is damaged.
    """
    if compression in ("", "none"):
        return data
    limit = min(limit, max(_FREE_CHUNK, _FREE_RATIO * len(data)))
    return b"".join(_limited(_Unpacker(compression).take(data), limit))


def unpack_file(packed: Path, plain: Path) -> None:
    """Unpack a .zstd file, whose end may be missing, as far as it goes.

    Raises:
        OSError: the disk is full.
        UnpackedTooLargeError: the result is out of all proportion to the packed file.
        Exception: an error of the library, where the data is damaged.
    """
    limit = max(_FREE_BYTES, _FREE_RATIO * packed.stat().st_size)
    unpacker = _Unpacker("zstd")
    with open_file(packed) as source, plain.open("wb") as target:
        pieces = (piece for block in iter(lambda: source.read(_PIECE), b"") for piece in unpacker.take(block))
        for piece in _limited(pieces, limit):
            target.write(piece)


def limit_rosbags() -> None:
    """Let rosbags unpack with these limits too: its own functions make whatever a chunk of its files yields."""
    mcap, ros1 = (require(f"rosbags.{name}", "bag") for name in ("rosbag2.storage_mcap", "rosbag1.reader"))
    for name in ("zstd", "lz4"):
        mcap.DECOMPRESSORS[name] = _of_declared_size(name)
    for name in ("bz2", "lz4"):
        ros1.decompressors[name] = _of_any_size(name)


def _of_declared_size(compression: str) -> Callable[[bytes, int], bytes]:
    return lambda data, size: unpack(compression, data, min(size, MAX_UNPACKED))


def _of_any_size(compression: str) -> Callable[[bytes], bytes]:
    return lambda data: unpack(compression, data)


def _limited(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise UnpackedTooLargeError(f"it unpacks to more than {limit} bytes")
        yield piece


class _Unpacker:
    """Unpacks one or several frames behind each other."""

    def __init__(self, compression: str) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "zstd": lambda: require(_ZSTD, "bag").ZstdDecompressor(),
            "lz4": lambda: require("lz4.frame", "bag").LZ4FrameDecompressor(),
            "bz2": bz2.BZ2Decompressor,
        }
        self._make = makers[compression]
        self._library = self._make()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes unpack to, in pieces of a few megabytes."""
        while True:
            if self._library.eof:
                if not data:
                    return
                self._library = self._make()
            yield self._library.decompress(data, max_length=_PIECE)
            while not self._library.eof and not self._library.needs_input:
                yield self._library.decompress(b"", max_length=_PIECE)
            data = self._library.unused_data or b"" if self._library.eof else b""
            if not data:
                return
