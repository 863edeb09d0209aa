"""What the plan `rotate` keeps between frames of a video: the detail of each tile and how old it is. numpy alone.

Each frame a few tiles run, those that waited longest; the others show the detail that they gave last, up to an age
beyond which the context alone stands in.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["DetailMemory"]

FloatArray: TypeAlias = "npt.NDArray[np.float32]"


class DetailMemory:
    """Chooses tiles in turn and remembers their detail logits.

    Args:
        count: detail tiles.
        keep: tiles that run for a frame, 1 to `count`.
        tile_shape: shape of the detail logits of one tile: classes, rows, columns.
        stale_after: frames for which detail is used after the frame that it was made for; 0 = only for its own.
    """

    def __init__(self, count: int, keep: int, tile_shape: tuple[int, int, int], stale_after: int) -> None:
        self.count, self.keep, self.stale_after = count, keep, stale_after
        self._detail: FloatArray = np.zeros((count, *tile_shape), np.float32)
        self._age = np.full(count, -1)  # frames since the tile ran; -1 = never
        self._next = 0

    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the graph for the next frame: `tiles` int64 (keep,), `memory`, `present` float32 (count,)."""
        tiles = (self._next + np.arange(self.keep, dtype=np.int64)) % self.count
        known = (self._age >= 0) & (self._age < self.stale_after)
        return {"tiles": tiles, "memory": self._detail, "present": known.astype(np.float32)}

    def store(self, tiles: npt.NDArray[np.int64], detail: FloatArray) -> None:
        """Keep what the frame gave: detail logits (keep, C, h, w) of `tiles`."""
        self._age[self._age >= 0] += 1
        self._detail[tiles] = detail
        self._age[tiles] = 0
        self._next = int(tiles[-1] + 1) % self.count

    def forget(self) -> None:
        """Use nothing of earlier frames: after a gap in the video, another camera, a jump in time."""
        self._age[:] = -1
