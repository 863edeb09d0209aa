"""A recording of 60 frames that is the same on every machine, and what must come out of it.

Three encodings take turns, the size changes once, there are two gaps, and the data of one frame are cut off. Every
pixel has the middle of a sixteenth of the red values, so that the class which the tiny bundle reads from it (red // 16)
does not hang on how a processor rounds.

    python test/support/replay.py > test/ros/replay.txt      # after a change of the recording
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from made_bag import START_NS, STORE, TOPIC
from rosbags.rosbag2 import StoragePlugin, Writer

FRAMES, CUT_OFF = 60, 31
PERIOD_NS = 10**9 // 30
GAPS_NS = {20: 2 * 10**9, 40: 5 * 10**9}
"""Number of a frame -> time that passed before it, beside the period of the camera, ns."""

_BLOCK = 8
_IMAGE = "sensor_msgs/msg/Image"


def stamps() -> list[int]:
    """Stamps of the frames, ns."""
    return [
        START_NS + number * PERIOD_NS + sum(gap for first, gap in GAPS_NS.items() if number >= first)
        for number in range(FRAMES)
    ]


def classes(number: int) -> np.ndarray:
    """The class of each pixel of a frame, 0 to 15: uint8 (H, W)."""
    height, width = (96, 160) if number < 45 else (72, 128)
    rows, columns = np.indices((height // _BLOCK, width // _BLOCK))
    blocks = (5 * rows + 3 * columns + 7 * number + rows * columns) % 16
    return blocks.astype(np.uint8).repeat(_BLOCK, 0).repeat(_BLOCK, 1)


def expected() -> list[str]:
    """A line for each frame: its stamp, what becomes of it, and the start of the sha256 of its mask."""
    return [
        line(stamp, "refused/short") if number == CUT_OFF else line(stamp, "published", classes(number))
        for number, stamp in enumerate(stamps())
    ]


def line(stamp_ns: int, outcome: str, mask: np.ndarray | None = None) -> str:
    """The line of a frame; `mask` is uint8 (H, W)."""
    digest = "-"
    if mask is not None:
        size = "{}x{}:".format(*mask.shape)
        digest = hashlib.sha256(size.encode() + np.ascontiguousarray(mask).tobytes()).hexdigest()[:16]
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d} {outcome} {digest}"


def write_replay(path: Path) -> Path:
    """Write the recording (rosbag2, mcap); returns its folder."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, _IMAGE, typestore=STORE)
        for stamp, message in zip(stamps(), _messages(), strict=True):
            writer.write(connection, stamp, STORE.serialize_cdr(message, _IMAGE))
    return path


def _messages() -> Iterator[object]:
    encodings: tuple[Callable[[np.ndarray], tuple[str, np.ndarray]], ...] = (_rgb8, _bgr8, _yuyv)
    for number, stamp in enumerate(stamps()):
        encoding, rows = encodings[number % 3](classes(number))
        data = rows.reshape(-1)
        time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        yield STORE.types[_IMAGE](
            header=STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera"),
            height=classes(number).shape[0],
            width=classes(number).shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=data[: data.size // 2] if number == CUT_OFF else data,
        )


def _rgb8(found: np.ndarray) -> tuple[str, np.ndarray]:
    pixels = np.stack([16 * found + 8, 16 * (15 - found) + 8, np.full_like(found, 100)], -1)
    return "rgb8", pixels.reshape(len(found), -1)


def _bgr8(found: np.ndarray) -> tuple[str, np.ndarray]:
    """Rows with five bytes of padding."""
    pixels = np.stack([np.full_like(found, 200), found, 16 * found + 8], -1).reshape(len(found), -1)
    return "bgr8", np.pad(pixels, ((0, 0), (0, 5)), constant_values=77)


def _yuyv(found: np.ndarray) -> tuple[str, np.ndarray]:
    """Grey, by the integers of BT.601: brightness 16 to 235, and 128 for no colour."""
    brightness = 16 + ((16 * found.astype(np.int64) + 8) * 219 + 127) // 255
    pixels = np.stack([brightness.astype(np.uint8), np.full_like(found, 128)], -1)
    return "yuv422_yuy2", pixels.reshape(len(found), -1)


if __name__ == "__main__":
    print("\n".join(expected()))
