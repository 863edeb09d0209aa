"""Summarises a scan for `hrda bag info` as plain values: for the JSON file, the text and the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.recordings.recording_files import RecordingFiles, storage_kind
from hrda_core.data.scan.camera_scan import AnalysedFrame, CameraScan
from hrda_core.data.scan.camera_timing import Interval, is_jump, timing
from hrda_core.data.scan.frame_filters import FilterLimits, blurred, defects
from hrda_core.data.scan.scan import Scan

__all__ = ["summarise"]

FloatArray = npt.NDArray[np.float64]

_STORAGE = {"mcap": "mcap", "db3": "sqlite3", "bag": "ROS 1"}
_LISTED = 5  # gaps and jumps that are named; the rest is a number


def summarise(scan: Scan, sources: Sequence[RecordingFiles]) -> dict[str, Any]:
    """Return `recordings`, `topics`, `cameras`, `salvage` and `remarks` as plain values.

    Times are seconds after the first image, in the order of recording and without jumps of a clock.

    Args:
        sources: files of the recordings, as `find_recordings` lists them.
    """
    begin_ns = scan.begin_ns  # once: it looks at all cameras
    return {
        "recordings": [_recording(scan, source) for source in sources],
        "topics": [
            {
                "name": topic.name,
                "message_type": topic.message_type,
                "count": topic.count,
                "rate_hz": _rounded(topic.count / scan.span_s) if topic.count and scan.span_s else None,
            }
            for topic in scan.topics
        ],
        "cameras": [_camera(camera, begin_ns) for camera in scan.cameras],
        "salvage": [
            {"recording": str(entry.recording), "kept": entry.kept, "lost": entry.lost, "reason": entry.reason}
            for entry in scan.salvage
        ],
        "remarks": list(scan.remarks),
    }


def _recording(scan: Scan, source: RecordingFiles) -> dict[str, Any]:
    span = next((span for span in scan.recordings if span.path == source.path), None)
    kinds = dict.fromkeys(_STORAGE[storage_kind(file)] for file in source.files)
    packed = " zstd" if any(file.suffix.lower() == ".zstd" for file in source.files) else ""
    return {
        "path": str(source.path),
        "storage": ", ".join(kinds) + packed,
        "files": len(source.files),
        "bytes": sum(file.stat().st_size for file in source.files),
        "begin": None if span is None else _utc(span.begin_ns),
        "duration_s": None if span is None else _rounded(span.duration_s),
        "clock_jumps_s": [] if span is None else [_rounded(step) for step in span.jumps_s],
        "images": 0 if span is None else span.images,
    }


def _camera(camera: CameraScan, begin_ns: int) -> dict[str, Any]:
    times = timing(camera.stamps_ns, camera.recording_of)
    # Two cameras whose clocks agree show the same moment at the same time.
    late_s = (int(camera.stamps_ns[0]) - begin_ns) / 1e9
    at_s = camera.elapsed_s + (0.0 if is_jump(late_s) else late_s)
    causes = Counter(frame.cause for frame in camera.frames if frame.quality is None)
    return {
        "topic": camera.topic,
        "message_type": camera.message_type,
        "encodings": list(camera.encodings),
        "sizes": [list(size) for size in camera.sizes],
        "images": len(camera.stamps_ns),
        "rate_hz": None if times.rate_hz is None else _rounded(times.rate_hz),
        "gap_count": len(times.gaps),
        "gaps": _listed(times.gaps, at_s),
        "jump_back_count": len(times.jumps_back),
        "jumps_back": _listed(times.jumps_back, at_s),
        "jump_forward_count": len(times.jumps_forward),
        "jumps_forward": _listed(times.jumps_forward, at_s),
        "analysed": len(camera.frames),
        "undecodable": dict(causes),
        "shares": _shares(camera.frames),
        "curves": _curves(camera.frames, at_s),
    }


def _shares(frames: Sequence[AnalysedFrame]) -> dict[str, float]:
    """Share of the decoded frames that frame selection would call so; `still` are those in which nothing moved."""
    limits = FilterLimits()
    decoded = [frame for frame in frames if frame.quality is not None]  # in the order of recording
    counts = Counter(defects(decoded, limits))
    counts["blurred"] = sum(blurred(decoded, limits))
    counts["still"] = sum(frame.quality is not None and frame.quality.motion < limits.still for frame in decoded)
    names = ("dark", "blown", "noise", "blurred", "still")
    return {name: _rounded(counts[name] / max(1, len(decoded))) for name in names}


def _curves(frames: Sequence[AnalysedFrame], at_s: FloatArray) -> dict[str, list[float | None]]:
    """Values of the decoded frames over time; None where there is none."""
    measured = [(frame.number, frame.quality) for frame in frames if frame.quality is not None]
    curves: dict[str, list[float | None]] = {"time_s": [_rounded(at_s[number]) for number, _ in measured]}
    for name in ("luminance", "sharpness", "motion"):
        values: FloatArray = np.array([getattr(quality, name) for _, quality in measured])
        curves[name] = [_rounded(value) if math.isfinite(value) else None for value in values]
    return curves


def _listed(intervals: Sequence[Interval], at_s: FloatArray) -> list[dict[str, float]]:
    return [
        {"at_s": _rounded(at_s[interval.number]), "length_s": _rounded(interval.length_s)}
        for interval in intervals[:_LISTED]
    ]


def _utc(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).isoformat(timespec="seconds")


def _rounded(value: float) -> float:
    return round(float(value), 4)
