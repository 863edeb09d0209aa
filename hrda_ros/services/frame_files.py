"""Writes one frame into a folder, to be attached to a bug report. Needs no rclpy.

message.cdr     the camera message, byte for byte, as ROS serialises it
image.png       the picture that was decoded from it, RGB; absent if the message was refused
labels.png      class ids; absent if there are no masks
confidence.png  probability of the class times 255; likewise
manifest.yaml   manifest of the model bundle
frame.json      stamp, frame_id, parameters, model, what ran, versions, and the error if there was one
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, shown
from hrda_core.plain_files import copy_file
from hrda_core.whole_files import replaced_folder, write_whole
from hrda_ros.services.frame_saver import Shot

__all__ = ["MOST_FRAMES", "frames_folder", "save_frame"]

MOST_FRAMES = 20
"""Saved frames that a folder holds at most."""

_MARKER = "frame.json"
_LONGEST_NAME = 150


def frames_folder(parameter: str) -> Path:
    """Return the folder for saved frames: the parameter, else `hrda_frames` in $ROS_HOME (~/.ros).

    Raises:
        DataError: it begins with the `~` of a user who has no home folder here, as in many containers.
    """
    given = parameter or os.path.join(os.environ.get("ROS_HOME") or "~/.ros", "hrda_frames")
    folder = os.path.expanduser(given)
    if "\0" in folder:
        raise DataError(f"'{shown(given)}' is no path; set save_folder to a full path")
    if folder.startswith("~"):
        raise DataError(f"'{given}' names the home folder of a user who has none here; set save_folder to a full path")
    return Path(folder)


def save_frame(folder: Path, source: str, shot: Shot, serialized: bytes) -> Path:
    """Write a frame into a folder of its own, whole or not at all.

    Args:
        folder: where the folders of frames are; it is made where it is missing.
        source: name of the node and of the camera's topic, which begins the name of the frame's folder, with the stamp
            behind it.
        shot: the frame.
        serialized: its message in CDR.

    Returns:
        the frame's folder.

    Raises:
        DataError: the folder cannot be written, or holds `MOST_FRAMES` frames already.
    """
    stamp = shot.message.header.stamp
    named = re.sub(r"[^A-Za-z0-9_]+", "_", source).strip("_")[:_LONGEST_NAME]
    name = f"{named}_{stamp.sec}_{stamp.nanosec:09d}"
    out = folder / name
    try:
        _check_room(folder, out)
        with replaced_folder(out, _MARKER) as work:
            work.mkdir()
            _fill(work, shot, serialized)
    except OSError as error:
        raise DataError(
            f"'{folder}' cannot be written ({error.strerror or error}); set save_folder to a folder that can"
        ) from error
    return out


def _check_room(folder: Path, out: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    held = [entry for entry in folder.iterdir() if (entry / _MARKER).is_file()]
    if len(held) >= MOST_FRAMES and out not in held:
        raise DataError(
            f"'{folder}' holds {len(held)} frames, and no more than {MOST_FRAMES} are kept; move some away, or set "
            f"save_folder to another folder"
        )


def _fill(work: Path, shot: Shot, serialized: bytes) -> None:
    write_whole(work / "message.cdr", serialized)
    if shot.rgb is not None:
        _write_png(work / "image.png", shot.rgb[..., ::-1])
    if shot.prediction is not None:
        _write_png(work / "labels.png", shot.prediction.labels)
        _write_png(work / "confidence.png", shot.prediction.confidence)
    if shot.manifest is not None:
        copy_file(shot.manifest, work / "manifest.yaml")
    write_whole(work / _MARKER, json.dumps(_facts(shot), indent=1) + "\n")


def _facts(shot: Shot) -> dict[str, Any]:
    header = shot.message.header
    return {
        "stamp": {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec},
        "frame_id": header.frame_id,
        "image": None if shot.rgb is None else {"height": shot.rgb.shape[0], "width": shot.rgb.shape[1]},
        "error": shot.error,
        **shot.about,
    }


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".png", pixels)
    write_whole(path, data.tobytes())
