"""Decodes H.264 and H.265 packets (Annex B) to pictures, each with what came with its packet. Needs PyAV.

Pictures leave a decoder later than their packets enter it, and with B-frames in another order. Every picture therefore
carries the number of its packet through the decoder. A message may hold a part of a picture or several pictures: the
stream is cut anew where a picture begins. A picture that refers to a damaged or missing one is worthless though it
decodes, so after damage everything is left out up to the next key frame, as it is before the first one.

Rec. ITU-T H.264 and H.265, sections 7.3.1 (NAL units), 7.4.2 (their types) and annex B (the byte stream).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar, cast

from hrda_core.errors import require
from hrda_core.messages.h264_frame_numbers import FrameNumbers
from hrda_core.messages.picture_size import MAX_MEGAPIXELS

__all__ = ["VideoDecoder", "video_codec"]

_START_CODE = re.compile(rb"\x00\x00\x01")
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_RECOVERY_POINT = 6
"""Kind of an H.264 message from which on pictures decode, in streams without key frames."""

Origin = TypeVar("Origin")


def video_codec(name: str) -> str:
    """Return `h264`, `hevc` or empty for the encoding that a message names.

    Args:
        name: such as `h264`, `hevc;yuv420p;bgr8;bgr8`, `libx264`, `hevc_nvenc`; of a picture, such as `jpeg`: empty.
    """
    codec = name.partition(";")[0].strip().lower()
    if "264" in codec:
        return "h264"
    return "hevc" if "265" in codec or "hevc" in codec else ""


@dataclass(frozen=True)
class _Unit(Generic[Origin]):
    """The NAL units of one picture, each behind a start code.

    Attributes:
        parts: the units.
        origin: what came with the packet in which the picture begins.
        is_key: whether decoding can begin with it.
    """

    parts: list[bytes]
    origin: Origin
    is_key: bool


class _Nal(NamedTuple):
    """What a NAL unit is: part of a picture, the first part of it, a beginning for decoders."""

    is_picture: bool
    is_first: bool
    is_key: bool


class VideoDecoder(Generic[Origin]):
    """Decodes one stream of packets.

    Args:
        codec: `h264` or `hevc`.
        max_megapixels: pictures of more million pixels are damage.

    Attributes:
        early: pictures before the first key frame.
        lost: pictures that are damaged, or refer to one that is.

    Raises:
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, codec: str, max_megapixels: int = MAX_MEGAPIXELS) -> None:
        self._av = require("av", "video")
        self._codec, self._max_megapixels = codec, max_megapixels
        self._options = _STRICT
        self._cutter: _Cutter[Origin] = _Cutter(codec)
        self._frame_numbers = FrameNumbers()
        self._count = 0  # of pictures
        self._waiting, self._begun = True, False
        self._decoder = self._new_decoder()
        self.early = self.lost = 0

    def feed(self, data: bytes, origin: Origin) -> Iterator[tuple[Origin, Any]]:
        """Take a packet; yield the pictures that are ready, in the order in which they are shown.

        Yields:
            origin of the packet in which the picture begins, and `av.VideoFrame`.
        """
        for unit in self._cutter.push(data, origin):
            yield from self._decode(unit)

    def flush(self) -> Iterator[tuple[Origin, Any]]:
        """Yield the pictures that are left at the end of the stream."""
        for unit in self._cutter.end():
            yield from self._decode(unit)
        yield from self._give_up()

    def _new_decoder(self) -> Any:
        decoder = self._av.CodecContext.create(self._codec, "r")
        decoder.thread_count = 1  # errors of a decoder with several threads come with later packets
        decoder.options = {**self._options, "max_pixels": str(self._max_megapixels * 10**6)}
        self._inside: dict[int, Origin] = {}
        return decoder

    def _decode(self, unit: _Unit[Origin]) -> Iterator[tuple[Origin, Any]]:
        if unit.is_key and self._waiting:
            self._frame_numbers.restart()
        if self._codec == "h264" and self._frame_numbers.is_gap([part[3:] for part in unit.parts if len(part) > 3]):
            yield from self._give_up()
        if self._waiting and not unit.is_key:
            if self._begun:
                self.lost += 1
            else:
                self.early += 1
            return
        try:
            frames = self._send(unit)
        except self._av.FFmpegError:
            if not (unit.is_key and self._waiting and self._options):
                self._inside.pop(self._count)  # it may come out all the same, patched up
                yield from self._give_up()
                self.lost += 1
                return
            # The very first picture: an encoder that takes the rules lightly, not damage.
            self._options = {}
            self._decoder = self._new_decoder()
            try:
                frames = self._send(unit)
            except self._av.FFmpegError:
                self._options = _STRICT
                self._fail()
                return
        self._waiting, self._begun = False, True
        yield from self._good(frames)

    def _send(self, unit: _Unit[Origin]) -> list[Any]:
        packet = self._av.Packet(b"".join(unit.parts))
        self._count += 1
        packet.pts = packet.dts = self._count
        self._inside[self._count] = unit.origin
        frames: list[Any] = self._decoder.decode(packet)
        return frames

    def _good(self, frames: list[Any]) -> Iterator[tuple[Origin, Any]]:
        """Pictures up to the first damaged one."""
        for frame in frames:
            if frame.is_corrupt or frame.pts not in self._inside:
                self._fail()
                return
            yield self._inside.pop(frame.pts), frame

    def _give_up(self) -> Iterator[tuple[Origin, Any]]:
        """Pictures that are still inside; those that do not come out are lost, and what follows waits for a key."""
        try:
            frames = self._decoder.decode(None)
        except self._av.FFmpegError:
            frames = []
        yield from self._good(frames)
        self._fail()

    def _fail(self) -> None:
        """Lose what is inside the decoder, and wait for a key frame."""
        self.lost += len(self._inside)
        self._waiting = True
        self._decoder = self._new_decoder()


class _Cutter(Generic[Origin]):
    """Cuts a byte stream into pictures. A picture is complete when the next one begins."""

    def __init__(self, codec: str) -> None:
        self._kind = _h264 if codec == "h264" else _hevc
        self._parts: list[bytes] = []  # of the picture at hand
        self._origin: Origin | None = None
        self._is_key = self._has_picture = False
        self._ahead: list[bytes] = []  # parameters behind a picture, which belong to the next one
        self._ahead_key = False

    def push(self, data: bytes, origin: Origin) -> Iterator[_Unit[Origin]]:
        starts = [match.start() for match in _START_CODE.finditer(data)]
        # A message that does not begin with a unit goes on with the last one.
        if (not starts or starts[0] > 1) and self._parts and not self._ahead:
            self._parts[-1] += data[: starts[0]] if starts else data
        for begin, end in pairwise([*starts, len(data)]):
            nal = self._kind(data[begin + 3 : min(end, begin + 8)])
            if nal.is_picture and nal.is_first and self._has_picture:
                yield self._unit()
            if not nal.is_picture and self._has_picture:
                self._ahead.append(data[begin:end])
                self._ahead_key |= nal.is_key
                continue
            if nal.is_picture and not self._has_picture:
                self._origin, self._has_picture = origin, True
            self._parts.append(data[begin:end])
            self._is_key |= nal.is_key

    def end(self) -> Iterator[_Unit[Origin]]:
        if self._has_picture:
            yield self._unit()

    def _unit(self) -> _Unit[Origin]:
        unit = _Unit(self._parts, cast(Origin, self._origin), self._is_key)
        self._parts, self._ahead = self._ahead, []
        self._is_key, self._ahead_key, self._has_picture = self._ahead_key, False, False
        return unit


def _h264(head: bytes) -> _Nal:
    """Kind of the unit with these first bytes."""
    kind = head[0] & 31 if head else 0
    is_picture = 1 <= kind <= 5
    is_first = is_picture and len(head) > 1 and bool(head[1] & 128)  # first_mb_in_slice is 0
    return _Nal(is_picture, is_first, kind == 5 or (kind == 6 and head[1:2] == bytes([_RECOVERY_POINT])))


def _hevc(head: bytes) -> _Nal:
    kind = head[0] >> 1 & 63 if head else 63
    is_picture = kind < 32
    return _Nal(is_picture, is_picture and len(head) > 2 and bool(head[2] & 128), 16 <= kind <= 21)
