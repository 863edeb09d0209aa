"""What every inference back end can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Backend"]


class Backend(Protocol):
    """Runs one graph of one bundle: image in, masks out. Not thread-safe: one caller at a time."""

    description: str
    """What runs where, for logs and diagnostics, for example `"onnxruntime 1.32.0 CPU, 1 thread"`."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Segment one padded image.

        Args:
            image: uint8 (1, H, W, 3) RGB, C-contiguous; the graph's size, or multiples of the bundle's `multiple_of`.

        Returns:
            class ids and confidence, each uint8 (1, H, W); confidence is the winning probability times 255.
        """
        ...

    def close(self) -> None:
        """Free what the back end holds, on a GPU above all. Afterwards it cannot be called."""
        ...
