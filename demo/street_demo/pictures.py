"""Makes the pictures of a run from its bags: the contact sheet and the video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import evenly_spaced
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.inference.overlay import colorize
from hrda_core.labels import LabelSpace
from hrda_core.report.contact_sheet import contact_sheet
from hrda_core.whole_files import write_whole
from street_demo.drawing import SOFT_INK, draw_legend, draw_tag, draw_text, legend_height, seen_classes
from street_demo.errors import DemoError
from street_demo.recording import Recording
from street_demo.video import write_video

__all__ = ["write_pictures"]

UInt8Array = npt.NDArray[np.uint8]

SHEET_FRAMES, SHEET_WIDTH = 10, 1960
VIDEO_FPS = 8.0
_HEADER, _MARGIN, _LEGEND_MARGIN = 104, 32, 12


def write_pictures(recording: Recording, work: Path, space: LabelSpace, model: str) -> tuple[Path, Path]:
    """Write contact sheet and video into `work` from its bags `masks/` and `overlay/`; return both files.

    Raises:
        HrdaError: nothing was recorded, a frame does not decode, or a file cannot be written.
    """
    masks = {image.stamp_ns: image.decode()[..., 0] for image in Recordings.open([work / "masks"]).images()}
    overlays = {image.stamp_ns: image.decode() for image in Recordings.open([work / "overlay"]).images()}
    stamps = [stamp for stamp in recording.stamps if stamp in masks and stamp in overlays]
    if not stamps:
        raise DemoError("no frame has both a mask and an overlay, so there is nothing to draw")
    camera = {image.stamp_ns: image.decode() for image in recording.images() if image.stamp_ns in overlays}
    classes = seen_classes(masks.values(), space)
    chosen = evenly_spaced(stamps, SHEET_FRAMES)
    table = space.color_table()
    strips = [np.hstack([camera[stamp], colorize(masks[stamp], table), overlays[stamp]]) for stamp in chosen]
    captions = [f"{_caption(recording, stamp)}: camera, mask, overlay" for stamp in chosen]
    subtitle = (
        f"{len(stamps)} masks, one segment_node over DDS. The {len(chosen)} frames shown are evenly spaced in the "
        f"recording, not picked. Footage: CamVid, CC BY-NC 4.0."
    )
    page = _page(contact_sheet(strips, captions, columns=2, width=SHEET_WIDTH), space, classes, model, subtitle)
    sheet_path = work / "contact_sheet.png"
    write_whole(sheet_path, cv2.imencode(".png", cv2.cvtColor(page, cv2.COLOR_RGB2BGR))[1].tobytes())
    pictures = _video_frames(recording, stamps, camera, overlays, space, classes)
    return sheet_path, write_video(pictures, work, VIDEO_FPS)


def _page(sheet: UInt8Array, space: LabelSpace, classes: list[int], model: str, subtitle: str) -> UInt8Array:
    """The sheet with a title above and the class legend below."""
    height, width = sheet.shape[:2]
    bottom = legend_height(len(classes), width) + _MARGIN
    page = np.pad(sheet, ((_HEADER, bottom), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
    draw_text(page, f"hrda_ros demo, model {model}", (_MARGIN, 50), 1.0)
    draw_text(page, subtitle, (_MARGIN, 82), 0.55, SOFT_INK)
    draw_legend(page, space, classes, (_MARGIN, _HEADER + height), width)
    return page


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
    canvas = np.full((height + legend + (height + legend) % 2, width, 3), 255, np.uint8)
    draw_legend(canvas, space, classes, (_LEGEND_MARGIN, height), width - 2 * _LEGEND_MARGIN)
    for stamp in stamps:
        # Frames of another size than the first are fitted to it: a video has one size.
        canvas[:height] = cv2.resize(np.hstack([camera[stamp], overlays[stamp]]), (width, height))
        draw_tag(canvas, _caption(recording, stamp), (0, 0))
        yield canvas.copy()
