"""From an RGB image of any size to class ids and confidence of the same size: the path of the node and of all commands.

Steps: shrink to the bundle's `long_side` if larger (OpenCV), pad to the window plan's size at the bottom and right by
repeating the border, run the back end, crop, enlarge back (nearest neighbour). Normalisation, context resize, detail
crops, fusion, upsampling and argmax are inside the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, ImageError
from hrda_core.inference.backends import open_backend
from hrda_core.inference.bundle import Bundle
from hrda_core.window_plan import WindowPlan, plan_windows

__all__ = ["Prediction", "Predictor"]

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """Masks of one image.

    Attributes:
        labels: uint8 (H, W), class ids of the bundle's label space.
        confidence: uint8 (H, W), probability of the winning class times 255.
    """

    labels: UInt8Array
    confidence: UInt8Array


class Predictor:
    """A model bundle ready to segment images. Not thread-safe: one caller at a time.

    Args:
        bundle: an open bundle, or its path.
        backend: `"auto"` or `"onnx"`.
        plan: window plan; None = the bundle's default.
        long_side: images with a longer side are shrunk to it first, pixels; 0 = never; None = the bundle's value.
        threads: CPU threads for one inference; 0 = all cores but one.

    Raises:
        BundleError, BackendError, MissingPackageError: see `Bundle.open` and `open_backend`.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        backend: str = "auto",
        plan: str | None = None,
        *,
        long_side: int | None = None,
        threads: int = 0,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.plan = plan or self.bundle.default_plan
        self.long_side = self.bundle.long_side if long_side is None else long_side
        if self.long_side < 0:
            raise BackendError(f"long_side must be 0 (keep the size) or more pixels, not {self.long_side}")
        self._backend = open_backend(backend, self.bundle, self.plan, threads=threads)
        self._padded = np.empty((0, 0, 3), np.uint8)

    @property
    def backend_description(self) -> str:
        """What runs where, for logs and diagnostics."""
        return self._backend.description

    def __call__(self, rgb: UInt8Array) -> Prediction:
        """Segment one image.

        Args:
            rgb: uint8 (H, W, 3), RGB, any size from 1 x 1; rows may be strided. It is only read.

        Returns:
            arrays that this call owns: a later call does not change them.

        Raises:
            ImageError: another dtype or shape, or an empty image.
            BackendError: the back end failed.
        """
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise ImageError(f"an image must be uint8 of shape (height, width, 3), RGB; found {found}", "array")
        height, width = rgb.shape[:2]
        plan = self.plan_for(height, width)
        labels, confidence = self._backend(self._pad(rgb, plan)[None])
        labels, confidence = labels[0, : plan.height, : plan.width], confidence[0, : plan.height, : plan.width]
        if (plan.height, plan.width) != (height, width):
            labels, confidence = _enlarge(labels, height, width), _enlarge(confidence, height, width)
        return Prediction(labels, confidence)

    def plan_for(self, height: int, width: int) -> WindowPlan:
        """The window plan for an image of `height` x `width` pixels, after shrinking to `long_side`.

        Raises:
            ImageError: a side below 1.
        """
        longest = max(height, width)
        if 0 < self.long_side < longest:
            height, width = (max(1, round(side * self.long_side / longest)) for side in (height, width))
        return plan_windows(
            self.plan,
            height,
            width,
            grid=self.bundle.graphs[self.plan].grid,
            multiple_of=self.bundle.multiple_of,
            context_scale=self.bundle.context_scale,
        )

    def warm_up(self, height: int, width: int) -> None:
        """Run once on a grey image of this size, so that the first frame meets allocated memory."""
        self(np.full((height, width, 3), 128, np.uint8))

    def _pad(self, rgb: UInt8Array, plan: WindowPlan) -> UInt8Array:
        """Shrink and pad into a buffer that is kept from image to image; returns (padded_height, padded_width, 3)."""
        if self._padded.shape[:2] != (plan.padded_height, plan.padded_width):
            self._padded = np.empty((plan.padded_height, plan.padded_width, 3), np.uint8)
        padded, height, width = self._padded, plan.height, plan.width
        if rgb.shape[:2] == (height, width):
            np.copyto(padded[:height, :width], rgb)
        else:
            # INTER_AREA averages all source pixels: thin poles survive a strong reduction.
            padded[:height, :width] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        padded[:height, width:] = padded[:height, width - 1 : width]
        padded[height:] = padded[height - 1]
        return padded


def _enlarge(mask: UInt8Array, height: int, width: int) -> UInt8Array:
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
