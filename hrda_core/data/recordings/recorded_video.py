"""Decodes the packets of videos among the images of a pass over recordings. Needs PyAV where there are any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hrda_core.data.recordings.recorded_image import IMAGE, RecordedImage
from hrda_core.data.recordings.thinned_image import encoding_of
from hrda_core.errors import ImageError, MissingPackageError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.video import VideoDecoder, video_codec

__all__ = ["RecordedVideos"]


class RecordedVideos:
    """The streams of a pass: images go through it, and packets come out as the pictures that begin in them.

    Args:
        needed: whether packets that cannot be decoded for want of PyAV are an error, or come out as they are.
        max_megapixels: pictures of more million pixels are not decoded.

    Attributes:
        lost: pictures of each recording that are damaged, or refer to one that is.
        early: pictures of each topic before its first key frame.
    """

    def __init__(self, needed: bool, max_megapixels: int = MAX_MEGAPIXELS) -> None:
        self._needed, self._max_megapixels = needed, max_megapixels
        self._streams: dict[str, VideoDecoder[RecordedImage]] = {}
        self._recording: Path | None = None
        self.lost: Counter[Path] = Counter()
        self.early: Counter[str] = Counter()

    def take(self, image: RecordedImage) -> Iterator[RecordedImage]:
        """Take the next image; yield what can be decoded now.

        Raises:
            MissingPackageError: PyAV is needed and not installed.
        """
        if image.recording != self._recording:
            yield from self.end()
            self._recording = image.recording
        codec = "" if image.message_type == IMAGE else video_codec(encoding_of(image))
        if not codec:
            yield image
            return
        try:
            packet = image.video_packet()
            stream = self._streams.get(image.topic) or VideoDecoder(codec, self._max_megapixels)
        except ImageError:
            yield image  # decoding it says what is wrong
            return
        except MissingPackageError:
            if self._needed:
                raise
            yield image
            return
        self._streams[image.topic] = stream
        for origin, picture in stream.feed(packet.data if packet else b"", image):
            yield replace(origin, picture=picture)

    def end(self) -> Iterator[RecordedImage]:
        """Yield the pictures that are left at the end of a recording."""
        for topic, stream in self._streams.items():
            for origin, picture in stream.flush():
                yield replace(origin, picture=picture)
            if self._recording is not None:
                self.lost[self._recording] += stream.lost
            self.early[topic] += stream.early
        self._streams.clear()
