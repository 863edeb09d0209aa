"""The picture of a frame selection."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from made_scan import camera, quality, scan_of, street

from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.frame_selection.selected_frames import REASONS, Selection
from hrda_core.report.selection_page import draw_selection
from hrda_core.report.time_figures import REASON_COLOURS


def _selection() -> Selection:
    frames = [quality(number) for number in range(60)]
    frames[10] = quality(10, dark=0.99)
    return select_frames(scan_of(camera(frames), camera(frames, topic="/rear")), SelectionConfig(budget=20))


def _write_files(selection: Selection, folder: Path) -> None:
    for number, row in enumerate(row for row in selection.rows if row.file):
        (folder / row.file).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / row.file), street(number))


def _height(picture: bytes) -> int:
    return int(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[0])


def test_the_picture_has_a_timeline_and_frames_of_each_kind(tmp_path: Path) -> None:
    selection = _selection()
    timeline = _height(draw_selection(selection, tmp_path))
    _write_files(selection, tmp_path)

    whole = _height(draw_selection(selection, tmp_path))
    for row in selection.rows:
        if row.file.startswith("rejected/"):
            (tmp_path / row.file).unlink()

    assert timeline < _height(draw_selection(selection, tmp_path)) < whole


def test_every_reason_has_a_colour() -> None:
    assert list(REASON_COLOURS) == list(REASONS)
