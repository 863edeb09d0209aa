"""Finds the frames of a camera that are of no use to learn from, and says why.

Limits follow the camera's own usual values where fixed ones would reject a whole drive at night or in the sun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.data.scan.camera_scan import AnalysedFrame
from hrda_core.data.scan.frame_quality import DESCRIPTOR_SHAPE, FrameQuality
from hrda_core.errors import RecipeError

__all__ = ["FilterLimits", "blurred", "defects", "descriptors", "repeats"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FilterLimits:
    """Limits beyond which a frame is not useful. They were set on recordings of CamVid by day and at dusk.

    Attributes:
        covered: share of dark or of blown pixels that a frame may always have.
        covered_more: by how much that share may exceed the camera's median.
        covered_most: share above which nothing is left to see, whatever the median.
        structure: smallest structure. Streets by day have 0.6 to 0.9, at dusk 0.85; noise has 0.00 to 0.08.
        sharpness: smallest share of the median sharpness of the frames around. Sharp frames have 0.45 and more, since
            walls follow trees; a blur of 5 pixels at a width of 480 leaves 0.26, of 9 pixels 0.17.
        sharpness_around: number of frames before and after over which the median is taken.
        still: motion and difference of the descriptor, both over the contrast, below which nothing moved. Noise of 12
            grey levels gives 0.02, a shift of 1 % of the width 0.06 to 0.09.
    """

    covered: float = 0.6
    covered_more: float = 0.3
    covered_most: float = 0.95
    structure: float = 0.2
    sharpness: float = 0.4
    sharpness_around: int = 10
    still: float = 0.03

    def __post_init__(self) -> None:
        for name in ("covered", "covered_more", "covered_most", "structure", "sharpness", "still"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise RecipeError(f"the limit '{name}' of frame selection is a share of 0 to 1, not {value}")
        if self.sharpness_around < 1:
            raise RecipeError(f"'sharpness_around' is a number of frames of 1 or more, not {self.sharpness_around}")


def defects(frames: Sequence[AnalysedFrame], limits: FilterLimits) -> list[str]:
    """Return for each frame what keeps it from showing anything: `undecodable`, `dark`, `blown`, `noise`, or empty.

    Args:
        frames: frames of one camera, so that medians mean something.
    """
    measured = [frame.quality for frame in frames if frame.quality is not None]
    dark = _covered_limit([quality.dark for quality in measured], limits)
    blown = _covered_limit([quality.blown for quality in measured], limits)

    def judge(quality: FrameQuality | None) -> str:
        if quality is None:
            return "undecodable"
        if quality.dark > dark:
            return "dark"
        if quality.blown > blown:
            return "blown"
        return "noise" if quality.structure < limits.structure else ""

    return [judge(frame.quality) for frame in frames]


def blurred(frames: Sequence[AnalysedFrame], limits: FilterLimits) -> list[bool]:
    """Return for each frame whether it is much less sharp than those around it.

    A blur that stays is a property of the camera, and no defect.

    Args:
        frames: frames of one camera in order of time, all decoded.
    """
    sharpness = np.array([_quality(frame).sharpness for frame in frames])
    around = limits.sharpness_around
    medians = [np.median(sharpness[max(0, place - around) : place + around + 1]) for place in range(len(frames))]
    return [bool(own < limits.sharpness * median) for own, median in zip(sharpness, medians, strict=True)]


def repeats(frame: AnalysedFrame, kept: AnalysedFrame, limits: FilterLimits) -> bool:
    """Return whether a frame shows what an earlier one of the camera shows.

    That is so if nothing moved from one frame to the next, and no slow change has added up.
    """
    if not _quality(frame).motion < limits.still:
        return False
    before, after = descriptors([kept, frame])
    difference = float(np.sqrt(np.mean((after - before) ** 2)))
    contrast = float(np.mean(before.reshape(-1, DESCRIPTOR_SHAPE[2]).std(axis=0)))
    return difference < limits.still * contrast


def descriptors(frames: Sequence[AnalysedFrame]) -> FloatArray:
    """Return the descriptors of decoded frames, float64 (N, D)."""
    return np.array([_quality(frame).descriptor.reshape(-1) for frame in frames], np.float64)


def _covered_limit(shares: Sequence[float], limits: FilterLimits) -> float:
    usual = float(np.median(shares)) if shares else 0.0
    return min(max(limits.covered, usual + limits.covered_more), limits.covered_most)


def _quality(frame: AnalysedFrame) -> FrameQuality:
    if frame.quality is None:
        raise ValueError(f"frame {frame.number} of {frame.topic} was not decoded")
    return frame.quality
