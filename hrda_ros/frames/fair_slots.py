"""One-element slots of several cameras: the newest frame of each waits, and they take turns. Needs no ROS.

    slots = FairSlots(("front", "rear"))
    slots.put("front", frame)       # None, or the frame whose place it took
    slots.take()                    # ("front", frame), or None while nothing waits

The next one is, of the cameras with a frame that waits, the one whose last turn is longest ago. So no camera waits for
more turns than there are other cameras, however many frames the others send, and one that sends few gets a turn for
each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["FairSlots"]

KeyT = TypeVar("KeyT")
FrameT = TypeVar("FrameT")


class FairSlots(Generic[KeyT, FrameT]):
    """Holds at most one frame of each camera. It has no lock: the caller keeps threads apart.

    Args:
        cameras: the cameras by any hashable key, in the order of their first turns.
    """

    def __init__(self, cameras: Iterable[KeyT] = ()) -> None:
        self._order = list(cameras)  # the last turn of the first one is longest ago
        self._waiting: dict[KeyT, FrameT] = {}

    def add(self, camera: KeyT) -> None:
        """Add a camera, which has its first turn after those that are there."""
        self._order.append(camera)

    def __contains__(self, camera: object) -> bool:
        """Whether a frame of this camera waits."""
        return camera in self._waiting

    def __len__(self) -> int:
        """Number of frames that wait, one a camera at most."""
        return len(self._waiting)

    def put(self, camera: KeyT, frame: FrameT) -> FrameT | None:
        """Let a frame wait; return the older one of this camera that it replaces, None if there was none."""
        replaced = self._waiting.get(camera)
        self._waiting[camera] = frame
        return replaced

    def take(self) -> tuple[KeyT, FrameT] | None:
        """Give the next camera its turn; return it with its frame, None if nothing waits."""
        return next(iter(self.take_all(lambda camera, frame: True, most=1)), None)

    def take_all(self, wanted: Callable[[KeyT, FrameT], bool], most: int) -> list[tuple[KeyT, FrameT]]:
        """Give up to `most` cameras whose frames are wanted a turn, in their order; return them with their frames."""
        turns = [camera for camera in self._order if camera in self._waiting and wanted(camera, self._waiting[camera])]
        taken = [(camera, self._waiting.pop(camera)) for camera in turns[:most]]
        for camera, _ in taken:
            self._order.remove(camera)
            self._order.append(camera)
        return taken

    def clear(self) -> list[tuple[KeyT, FrameT]]:
        """Take out all frames that wait and return them; this is no turn."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.items())
