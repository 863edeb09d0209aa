"""Whether a frame continues the video, so that plan `rotate` may use the detail of earlier frames. No rclpy."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["LONGEST_GAP_S", "Continuity"]

LONGEST_GAP_S = 1.0
"""Between frames further apart a robot has moved or turned so far that older detail lies on other things: at 1.5 m/s
and 30 degrees a second by 1.5 m, and by a third of a camera's view. Seconds."""

Size: TypeAlias = "tuple[int, int]"
"""Height and width, pixels."""


class Continuity:
    """Compares each frame with the last one that was segmented: stamp, camera (`frame_id`) and size."""

    def __init__(self) -> None:
        self._last: tuple[int, str, Size] | None = None

    def follows(self, header: Any, size: Size) -> bool:
        """Whether the image with this `std_msgs/Header` continues the video.

        It does not after a gap of more than `LONGEST_GAP_S`, with a stamp that goes backwards, from another camera, in
        another size, and where there is no image before it.
        """
        if self._last is None:
            return False
        last_ns, camera, last_size = self._last
        gap_ns = _nanoseconds(header) - last_ns
        return 0 <= gap_ns <= LONGEST_GAP_S * 1e9 and (header.frame_id, size) == (camera, last_size)

    def segmented(self, header: Any, size: Size) -> None:
        """The image with this header is the newest one that the model knows."""
        self._last = _nanoseconds(header), header.frame_id, size

    def start_over(self) -> None:
        """The next image continues nothing."""
        self._last = None


def _nanoseconds(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
