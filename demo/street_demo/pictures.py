"""From the bags of a run to its pictures: the contact sheet and the video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import evenly_spaced
from hrda_core.labels import LabelSpace
from street_demo.contact_sheet import SheetFrame, contact_sheet
from street_demo.drawing import PAPER, draw_legend, draw_tag, legend_height, seen_classes
from street_demo.errors import DemoError
from street_demo.mask_bag import read_images
from street_demo.recording import Recording, decode_frame
from street_demo.video import write_video

__all__ = ["write_pictures"]

UInt8Array = npt.NDArray[np.uint8]

SHEET_FRAMES = 10
VIDEO_FPS = 8.0
_LEGEND_MARGIN = 12


def write_pictures(recording: Recording, work: Path, space: LabelSpace, model: str) -> tuple[Path, Path]:
    """Write contact sheet and video into `work` from its bags `masks/` and `overlay/`; returns both files."""
    masks = dict(read_images(work / "masks", "/labels"))
    overlays = dict(read_images(work / "overlay", "/overlay"))
    stamps = [stamp for stamp in recording.stamps if stamp in masks and stamp in overlays]
    if not stamps:
        raise DemoError("no frame has both a mask and an overlay, so there is nothing to draw")
    camera = {stamp: decode_frame(raw) for stamp, raw in recording.messages() if stamp in overlays}
    chosen = evenly_spaced(stamps, SHEET_FRAMES)
    frames = [SheetFrame(_caption(recording, stamp), camera[stamp], masks[stamp], overlays[stamp]) for stamp in chosen]
    subtitle = (
        f"{len(stamps)} masks, one segment_node over DDS. The {len(frames)} frames shown are evenly spaced in the "
        f"recording, not picked. Footage: CamVid, CC BY-NC 4.0."
    )
    sheet = contact_sheet(frames, space, f"hrda_ros demo, model {model}", subtitle)
    sheet_path = work / "contact_sheet.png"
    if not cv2.imwrite(str(sheet_path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise DemoError(f"the contact sheet cannot be written to '{sheet_path}'")
    classes = seen_classes(masks.values(), space)
    pictures = _video_frames(recording, stamps, camera, overlays, space, classes)
    return sheet_path, write_video(pictures, work, VIDEO_FPS)


def _caption(recording: Recording, stamp: int) -> str:
    seconds = (stamp - recording.stamps[0]) / 1e9
    return f"{recording.light_at(stamp)} {seconds:.0f} s".strip()


def _video_frames(
    recording: Recording,
    stamps: list[int],
    camera: dict[int, UInt8Array],
    overlays: dict[int, UInt8Array],
    space: LabelSpace,
    classes: list[int],
) -> Iterator[UInt8Array]:
    """Camera picture and overlay side by side above the legend; sides are even, as video codecs ask for."""
    height, width = overlays[stamps[0]].shape[:2]
    width = 2 * width
    legend = legend_height(len(classes), width - 2 * _LEGEND_MARGIN)
    canvas = np.full((height + legend + (height + legend) % 2, width, 3), PAPER, np.uint8)
    draw_legend(canvas, space, classes, (_LEGEND_MARGIN, height), width - 2 * _LEGEND_MARGIN)
    for stamp in stamps:
        # Frames of another size than the first are fitted to it: a video has one size.
        canvas[:height] = cv2.resize(np.hstack([camera[stamp], overlays[stamp]]), (width, height))
        draw_tag(canvas, _caption(recording, stamp), (0, 0))
        yield canvas.copy()
