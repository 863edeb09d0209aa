"""Chooses the frames of a recording to adapt on and those to judge on, with a reason for every analysed frame.

First the end of the recording is held out. Of the rest, frames that show nothing are dropped, then those that show
nothing new; from what is left those are chosen that together cover it best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hrda_core.data.frame_selection.k_centre import k_centre
from hrda_core.data.frame_selection.selected_frames import REASONS, Neighbour, SelectedFrame, Selection, name_files
from hrda_core.data.frame_selection.time_split import in_recorded_order, split_by_time
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.scan.camera_scan import AnalysedFrame, CameraScan, FrameKey
from hrda_core.data.scan.frame_filters import FilterLimits, blurred, defects, descriptors, repeats
from hrda_core.data.scan.scan import Scan
from hrda_core.errors import DataError, RecipeError

__all__ = ["SelectionConfig", "select_frames"]


@dataclass(frozen=True)
class SelectionConfig:
    """Options of the selection.

    Attributes:
        budget: largest number of frames to adapt on.
        held_out: share of each camera's time, at its end, that is judged on; 0..0.9, 0 = none.
        held_out_budget: largest number of frames to judge on, evenly spaced.
        gap_s: seconds between the two parts. At 10 m/s two seconds are 20 m.
        stride_s: smallest time between two frames of a camera to adapt on, seconds.
        neighbours: number of held-out frames that come with the image right after them, to measure flicker.
        neighbour_s: largest time to that image, seconds.
        minimum: smallest number of frames in each part; fewer are refused.
        limits: limits of the filters.
    """

    budget: int = 500
    held_out: float = 0.25
    held_out_budget: int = 100
    gap_s: float = 2.0
    stride_s: float = 0.5
    neighbours: int = 32
    neighbour_s: float = 1.5
    minimum: int = 4
    limits: FilterLimits = field(default_factory=FilterLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out <= 0.9:
            raise RecipeError(f"the held-out share of a recording is 0 to 0.9, not {self.held_out}")
        for name in ("budget", "held_out_budget", "minimum"):
            if getattr(self, name) < 1:
                raise RecipeError(f"'{name}' of frame selection is a number of 1 or more, not {getattr(self, name)}")
        for name in ("gap_s", "stride_s", "neighbours", "neighbour_s"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"'{name}' of frame selection is 0 or more, not {getattr(self, name)}")


def select_frames(scan: Scan, config: SelectionConfig | None = None) -> Selection:
    """Choose frames deterministically.

    Args:
        scan: scan of the recordings.
        config: options; None = the defaults.

    Raises:
        DataError: too few frames are left to adapt on, or to judge on; the sentence says what became of the others.
    """
    config = config or SelectionConfig()
    reasons = _reasons(scan, config)
    _keep_to_budget(scan, config, reasons)
    at_s = {frame.key: float(camera.elapsed_s[frame.number]) for camera in scan.cameras for frame in camera.frames}
    in_order = sorted(scan.frames, key=lambda frame: (at_s[frame.key], frame.topic))
    held_out = [frame for frame in in_order if reasons[frame.key] == "held_out"]
    for frame in _all_but(held_out, evenly_spaced(held_out, config.held_out_budget)):
        reasons[frame.key] = "budget"
    _check(scan, config, reasons)
    rows = tuple(SelectedFrame(frame, reasons[frame.key], "", at_s[frame.key]) for frame in scan.frames)
    named, neighbours = name_files(rows, _neighbours(scan, config, reasons))
    return Selection(named, neighbours, tuple(camera.topic for camera in scan.cameras), scan.span_s)


def _reasons(scan: Scan, config: SelectionConfig) -> dict[FrameKey, str]:
    """Reason of each frame as if there were no budget."""
    stamps = {
        camera.topic: in_recorded_order(np.array([frame.stamp_ns for frame in camera.frames], np.int64))
        for camera in scan.cameras
        if camera.frames
    }
    parts = split_by_time(stamps, config.held_out, config.gap_s)
    reasons: dict[FrameKey, str] = {}
    for camera in scan.cameras:
        found = dict(zip(camera.frames, defects(camera.frames, config.limits), strict=True))
        part_of = dict(zip(camera.frames, parts.get(camera.topic, ()), strict=True))
        time_of = dict(zip(camera.frames, stamps.get(camera.topic, ()), strict=True))
        whole = sorted((frame for frame in camera.frames if not found[frame]), key=lambda frame: time_of[frame])
        unsharp = dict(zip(whole, blurred(whole, config.limits), strict=True))
        for part in ("adapt", "held_out"):
            frames = [frame for frame in whole if part_of[frame] == part]
            # A robot sees blurred frames too, so they are judged on, but nothing is to be learnt from them.
            usable = [frame for frame in frames if part == "held_out" or not unsharp[frame]]
            reasons |= {frame.key: "blurred" for frame in _all_but(frames, usable)}
            stride_s = config.stride_s if part == "adapt" else 0.0
            reasons |= _thinned(usable, time_of, stride_s, config.limits, "kept" if part == "adapt" else part)
        for frame in camera.frames:
            if part_of[frame] == "gap" and found[frame] != "undecodable":
                reasons[frame.key] = "gap"
            elif found[frame]:
                reasons[frame.key] = found[frame]
    return reasons


def _thinned(
    frames: Sequence[AnalysedFrame],
    time_of: Mapping[AnalysedFrame, int],
    stride_s: float,
    limits: FilterLimits,
    reason: str,
) -> dict[FrameKey, str]:
    """Frames of a camera in order of time, against the last one that was taken: `stride`, `duplicate`, or `reason`."""
    reasons: dict[FrameKey, str] = {}
    last: AnalysedFrame | None = None
    for frame in frames:
        # Stamps jitter, so a tenth less than the stride will do.
        if last is not None and time_of[frame] - time_of[last] < 0.9e9 * stride_s:
            reasons[frame.key] = "stride"
        elif last is not None and repeats(frame, last, limits):
            reasons[frame.key] = "duplicate"
        else:
            reasons[frame.key], last = reason, frame
    return reasons


def _keep_to_budget(scan: Scan, config: SelectionConfig, reasons: dict[FrameKey, str]) -> None:
    candidates = [frame for frame in scan.frames if reasons[frame.key] == "kept"]
    if len(candidates) <= config.budget:
        return
    chosen = [candidates[index] for index in k_centre(descriptors(candidates), config.budget)]
    for frame in _all_but(candidates, chosen):
        reasons[frame.key] = "budget"


def _neighbours(scan: Scan, config: SelectionConfig, reasons: Mapping[FrameKey, str]) -> list[Neighbour]:
    """Images right after held-out frames, evenly spaced over them."""
    found = []
    for camera in scan.cameras:
        for frame in camera.frames:
            if reasons[frame.key] == "held_out" and _has_neighbour(camera, frame.number, config.neighbour_s):
                number = frame.number + 1
                found.append(Neighbour(camera.topic, number, int(camera.stamps_ns[number]), frame.key))
    return evenly_spaced(found, config.neighbours)


def _has_neighbour(camera: CameraScan, number: int, longest_s: float) -> bool:
    if number + 1 >= len(camera.stamps_ns) or camera.recording_of[number] != camera.recording_of[number + 1]:
        return False
    return bool(0 < camera.stamps_ns[number + 1] - camera.stamps_ns[number] <= 1e9 * longest_s)


def _check(scan: Scan, config: SelectionConfig, reasons: Mapping[FrameKey, str]) -> None:
    counts = Counter(reasons.values())
    wanted = [("kept", "to adapt on", config.budget)]
    wanted += [("held_out", "to judge on", config.held_out_budget)] if config.held_out else []
    for reason, purpose, budget in wanted:
        if counts[reason] < min(config.minimum, budget):
            others = ", ".join(f"{name} {counts[name]}" for name in REASONS if counts[name]) or "there is no image"
            raise DataError(
                f"of {len(scan.frames)} analysed frames {counts[reason]} are left {purpose} ({others}), at least "
                f"{config.minimum} are needed; give a longer recording, or one whose frames show a street in motion"
            )


def _all_but(frames: Sequence[AnalysedFrame], taken: Sequence[AnalysedFrame]) -> list[AnalysedFrame]:
    keys = {frame.key for frame in taken}
    return [frame for frame in frames if frame.key not in keys]
