"""The recording of test_replay.py through `hrda predict`, where the packages of the commands are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay import CUT_OFF, line, write_replay
from rosbags.highlevel import AnyReader

pytest.importorskip("jsonargparse")

from hrda_training.predict import main

STORED = (Path(__file__).with_name("replay.txt")).read_text().splitlines()


def test_r1_the_command_gives_the_same_stamps_and_masks(tiny_bundle: Path, tmp_path: Path) -> None:
    recording, out = write_replay(tmp_path / "drive"), tmp_path / "masks"
    assert main([str(recording), "--model", str(tiny_bundle), "--out", str(out), "--outputs", "labels"]) == 0
    with AnyReader([out]) as reader:
        kept = [connection for connection in reader.connections if connection.topic.endswith("/labels")]
        masks = [reader.deserialize(raw, connection.msgtype) for connection, _, raw in reader.messages(kept)]
    found = [
        line(
            mask.header.stamp.sec * 10**9 + mask.header.stamp.nanosec,
            "published",
            np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width),
        )
        for mask in masks
    ]
    assert found == [stored for number, stored in enumerate(STORED) if number != CUT_OFF]
