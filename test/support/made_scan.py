"""Scans of made-up frames, and frames of a street that moves past a camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrda_core.data.scan.camera_scan import AnalysedFrame, CameraScan
from hrda_core.data.scan.frame_quality import DESCRIPTOR_SHAPE, FrameQuality
from hrda_core.data.scan.scan import RecordingSpan, Scan

RECORDING = Path("drive")
START_NS = 1_700_000_000 * 10**9


def street(place: int, *, height: int = 120, width: int = 160) -> np.ndarray:
    """A frame of a long, textured scene, seen from `place` pixels along it: uint8 (height, width, 3)."""
    generator = np.random.default_rng(7)
    blocks = generator.integers(20, 220, (height // 20, 100, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    fine = generator.integers(0, 30, (height, 2000, 3), np.uint8)
    return np.ascontiguousarray((blocks[:height] + fine)[:, place % 1800 : place % 1800 + width])


def quality(seed: int = 0, **values: float) -> FrameQuality:
    """Numbers of a good frame, other than those given; frames of different seeds look different."""
    descriptor = np.random.default_rng(seed).random(DESCRIPTOR_SHAPE).astype(np.float16)
    usual = {"luminance": 110.0, "dark": 0.02, "blown": 0.02, "sharpness": 0.5, "structure": 0.8, "motion": 0.3}
    return FrameQuality(descriptor=descriptor, **(usual | values))


def camera(
    qualities: Sequence[FrameQuality | None], *, topic: str = "/camera", hz: float = 2.0, times: Sequence[float] = ()
) -> CameraScan:
    """A camera all of whose images are analysed; None is a frame that does not decode."""
    seconds = times or [number / hz for number in range(len(qualities))]
    stamps = [START_NS + round(1e9 * second) for second in seconds]
    frames = tuple(
        AnalysedFrame(topic, number, stamp, RECORDING, entry, "" if entry else "short")
        for number, (stamp, entry) in enumerate(zip(stamps, qualities, strict=True))
    )
    return CameraScan(
        topic=topic,
        message_type="sensor_msgs/msg/Image",
        encodings=("rgb8",),
        sizes=((160, 120),),
        stamps_ns=np.array(stamps, np.int64),
        recording_of=np.zeros(len(stamps), np.int64),
        frames=frames,
        pictures=(),
    )


def scan_of(*cameras: CameraScan) -> Scan:
    """A scan of one recording."""
    stamps = np.concatenate([entry.stamps_ns for entry in cameras])
    span = RecordingSpan(RECORDING, int(stamps.min()), int(stamps.max()), len(stamps))
    return Scan((span,), tuple(cameras), (), ())
