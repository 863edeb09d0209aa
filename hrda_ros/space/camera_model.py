"""The camera of a `sensor_msgs/CameraInfo`: from pixels to rays and back, its distortion included. Needs no rclpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError, shown

__all__ = ["CameraModel"]

FloatArray = npt.NDArray[np.float64]

_BY_POLYNOMIAL = ("plumb_bob", "rational_polynomial")
_FISHEYE = "equidistant"
_MODELS = ("", *_BY_POLYNOMIAL, _FISHEYE)
_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
_SAME_PIXEL = 0.5
"""Largest distance of a pixel that went out as a ray and back, pixels."""

_LARGEST = 1000
"""Focal lengths are at most so many times the larger side of the image, and at least its inverse; the centre is at most
so far out. Beyond that the numbers are no calibration, and float32 ends soon."""

_BLOCK = 1 << 17
"""Points that are converted in one call."""

_CLOSE = 1e-3
"""Largest difference of a ray that went into the image and back, in tangents; further out a distortion folds back."""


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of the image that masks are made of. Two models are equal where their calibrations are.

    Attributes:
        width, height: size of the image, pixels.
        focal: fx and fy, pixels.
        center: cx and cy, pixels; the centre of the first pixel is (0, 0).
        model: `plumb_bob`, `rational_polynomial`, `equidistant`, or empty for a camera without distortion.
        coefficients: of the distortion, in the order of the message.
    """

    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    model: str = ""
    coefficients: tuple[float, ...] = ()

    @classmethod
    def from_info(cls, message: Any, width: int, height: int) -> CameraModel:
        """Read a message.

        Args:
            message: `sensor_msgs/CameraInfo` of the image as it is (K and D, not P and R).
            width, height: size of the mask that it must describe, pixels.

        Raises:
            ImageError: the camera is not calibrated, the sizes differ, or the distortion is not known; cause
                `camera_info`.
        """
        if (message.width, message.height) != (width, height):
            raise _refused(
                f"camera_info describes images of {message.width} x {message.height} pixels, but the mask has "
                f"{width} x {height}; remap camera_info to that of the image that is segmented"
            )
        fx, skew, cx, _, fy, cy, *_ = (float(value) for value in message.k)
        size = max(width, height)
        if not (size / _LARGEST < fx < size * _LARGEST and size / _LARGEST < fy < size * _LARGEST):
            raise _refused(
                f"the camera is not calibrated: fx = {fx:g} and fy = {fy:g} in camera_info must be positive, and about "
                f"the size of the image, {width} x {height}"
            )
        if not (abs(cx) < size * _LARGEST and abs(cy) < size * _LARGEST):
            raise _refused(
                f"the camera is not calibrated: cx = {cx:g} and cy = {cy:g} in camera_info must be about the middle of "
                f"the image, {width} x {height}"
            )
        if skew:
            raise _refused(f"camera_info has a skew of {skew:g}; only cameras with square axes are known")
        coefficients = tuple(float(value) for value in message.d)
        model = str(message.distortion_model)
        # Zeros are a pinhole in all models but the fisheye's, whose angles stay: four zeros are an ideal one.
        if not any(coefficients) and not (model == _FISHEYE and coefficients):
            return cls(width, height, (fx, fy), (cx, cy))
        if model not in _MODELS or not np.isfinite(coefficients).all():
            raise _refused(
                f"the distortion of camera_info is '{shown(model)}' with {len(coefficients)} coefficients, "
                f"{shown(coefficients)}; known are {', '.join(_MODELS[1:])}, with numbers that are finite"
            )
        wanted = (4,) if model == _FISHEYE else (4, 5, 8, 12, 14)
        if len(coefficients) not in wanted:
            raise _refused(
                f"camera_info has {len(coefficients)} coefficients of '{shown(model)}'; expected one of {wanted}"
            )
        return cls(width, height, (fx, fy), (cx, cy), model, coefficients)

    def rays(self, stride: int = 1) -> FloatArray:
        """Return the direction of every `stride`-th pixel of every `stride`-th row, from the first one on.

        Returns:
            float64 (ceil(height / stride), ceil(width / stride), 2): x and y at depth 1, x to the right and y down; NaN
            where the pixel is so far out that the distortion does not lead back to it.
        """
        columns, rows = np.arange(0, self.width, stride), np.arange(0, self.height, stride)
        pixels = np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float64).reshape(-1, 2)
        rays = self._undistorted(pixels)
        if self.model:
            rays[~(np.abs(self._distorted(rays) - pixels).max(axis=1) < _SAME_PIXEL)] = np.nan
        return rays.reshape(len(rows), len(columns), 2)

    def pixels(self, rays: FloatArray) -> FloatArray:
        """Return where rays meet the image.

        Args:
            rays: float64 (N, 2), x and y at depth 1; finite.

        Returns:
            float64 (N, 2), column and row, not rounded; NaN where the ray is outside the image, or so far out that the
            distortion does not lead back to it.
        """
        pixels = self._distorted(rays) if len(rays) else rays.copy()
        inside = (pixels > -0.5).all(axis=1) & (pixels < (self.width - 0.5, self.height - 0.5)).all(axis=1)
        back = np.full_like(rays, np.nan)
        back[inside] = self._undistorted(pixels[inside])
        pixels[~(np.abs(back - rays).max(axis=1, initial=0.0) < _CLOSE)] = np.nan
        return pixels

    def _undistorted(self, pixels: FloatArray) -> FloatArray:
        return _by_blocks(self._block_undistorted, pixels)

    def _distorted(self, rays: FloatArray) -> FloatArray:
        return _by_blocks(self._block_distorted, rays)

    def _block_undistorted(self, pixels: FloatArray) -> FloatArray:
        if not self.model or not len(pixels):
            return (pixels - self.center) / self.focal
        matrix, coefficients = self._matrix(), np.array(self.coefficients)
        if self.model == _FISHEYE:
            points = cv2.fisheye.undistortPoints(pixels[:, None], matrix, coefficients)
        else:  # the plain call stops after 5 steps, which leaves errors of a pixel at the border of wide lenses
            points = cv2.undistortPointsIter(pixels[:, None], matrix, coefficients, np.eye(3), np.eye(3), _ITERATIONS)
        return np.asarray(points, np.float64).reshape(-1, 2)

    def _block_distorted(self, rays: FloatArray) -> FloatArray:
        if not self.model:
            return rays * self.focal + self.center
        project = cv2.fisheye.projectPoints if self.model == _FISHEYE else cv2.projectPoints
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)[:, None]
        pixels, _ = project(points, np.zeros(3), np.zeros(3), self._matrix(), np.array(self.coefficients))
        return np.asarray(pixels, np.float64).reshape(-1, 2)

    def _matrix(self) -> FloatArray:
        (fx, fy), (cx, cy) = self.focal, self.center
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _by_blocks(convert: Callable[[FloatArray], FloatArray], points: FloatArray) -> FloatArray:
    """Convert float64 (N, 2); OpenCV takes hundreds of bytes for each point of a call."""
    blocks = [convert(points[start : start + _BLOCK]) for start in range(0, len(points), _BLOCK)]
    return np.concatenate(blocks) if blocks else points.copy()


def _refused(text: str) -> ImageError:
    return ImageError(text, "camera_info")
