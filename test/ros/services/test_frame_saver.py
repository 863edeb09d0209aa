"""Saving the next frame: who gets it, when a call is answered, and what lies in the folder. No ROS."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hrda_core.errors import DataError, ImageError
from hrda_core.inference import Prediction
from hrda_ros.frames.pipeline import StaleFrameError
from hrda_ros.model.hot_swap import Outcome
from hrda_ros.services.frame_files import MOST_FRAMES, frames_folder, save_frame
from hrda_ros.services.frame_saver import FrameSaver, Shot


class Answers:
    """Collects outcomes, and waits for them."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._came = threading.Condition()

    def __call__(self, outcome: Outcome) -> None:
        with self._came:
            self.outcomes.append(outcome)
            self._came.notify_all()

    def next(self) -> Outcome:
        with self._came:
            assert self._came.wait_for(lambda: self.outcomes, 20.0)
            return self.outcomes.pop(0)


def message(stamp: int = 7) -> Any:
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp, nanosec=42), frame_id='eye "1"\n'))


def shot(stamp: int = 7, **fields: Any) -> Shot:
    return Shot(message(stamp), **fields)


# Requests.


def test_the_next_frame_is_lent_to_the_request_and_no_other() -> None:
    saver, answers, written = FrameSaver(), Answers(), []
    with saver.frame("before") as none:
        assert none is None
    saver.request(lambda shot: written.append(shot) or "saved", answers)
    assert saver.waits
    with saver.frame("this") as lent:
        lent.rgb = "pixels"
    assert answers.next() == Outcome(True, "saved")
    assert [(shot.message, shot.rgb, shot.error) for shot in written] == [("this", "pixels", "")]
    with saver.frame("after") as none:
        assert none is None


def test_a_frame_that_is_dropped_leaves_the_request_to_the_next_one() -> None:
    saver, answers = FrameSaver(), Answers()
    saver.request(lambda shot: shot.message, answers)
    with pytest.raises(StaleFrameError), saver.frame("stale"):
        raise StaleFrameError("too_old")
    assert saver.waits
    with saver.frame("fresh"):
        pass
    assert answers.next() == Outcome(True, "fresh")


def test_p3_a_frame_that_is_refused_or_fails_is_saved_with_its_error() -> None:
    saver, answers = FrameSaver(), Answers()
    saver.request(lambda shot: shot.error, answers)
    with pytest.raises(ImageError), saver.frame("bad"):
        raise ImageError("encoding 'x' is not known", "encoding")
    assert answers.next() == Outcome(True, "encoding 'x' is not known")


def test_a_second_call_is_refused_while_one_waits_and_a_drop_answers_the_first() -> None:
    saver, first, second = FrameSaver(), Answers(), Answers()
    saver.request(lambda shot: "", first)
    saver.request(lambda shot: "", second)
    assert "another call waits" in second.next().message
    saver.drop("the node was deactivated")
    assert first.next() == Outcome(False, "the node was deactivated")
    saver.drop("again")
    assert not first.outcomes


def test_a_call_is_answered_when_no_frame_comes_and_a_late_frame_is_not_saved() -> None:
    saver, answers, written = FrameSaver(timeout_s=0.01), Answers(), []
    saver.request(written.append, answers)
    with saver.frame("hangs"):
        assert answers.next().message.startswith("no frame was worked on within 0.01 s")
    assert written == []
    assert not saver.waits


def test_what_goes_wrong_in_writing_is_the_answer() -> None:
    saver, answers = FrameSaver(), Answers()
    saver.request(lambda shot: 1 / 0, answers)
    with saver.frame("frame"):
        pass
    assert answers.next() == Outcome(False, "the frame was not saved: ZeroDivisionError: division by zero")


# Files.


def test_the_folder_of_a_frame_holds_all_that_a_bug_report_needs(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text("name: tiny\n")
    rgb = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    frame = shot(manifest=manifest, about={"parameters": {"lazy": True}, "model": "tiny"})
    frame.saw(rgb)
    frame.prediction = Prediction(rgb[..., 0], rgb[..., 1])
    out = save_frame(tmp_path / "new" / "frames", "/front/segment_node", frame, b"cdr")
    assert out == tmp_path / "new" / "frames" / "front_segment_node_7_000000042"
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name], "nothing else is left"
    assert sorted(path.name for path in out.iterdir()) == [
        "confidence.png", "frame.json", "image.png", "labels.png", "manifest.yaml", "message.cdr",
    ]  # fmt: skip
    assert (out / "message.cdr").read_bytes() == b"cdr"
    assert (out / "manifest.yaml").read_text() == "name: tiny\n"
    np.testing.assert_array_equal(cv2.imread(str(out / "image.png"))[..., ::-1], rgb)
    np.testing.assert_array_equal(cv2.imread(str(out / "labels.png"), cv2.IMREAD_UNCHANGED), rgb[..., 0])
    np.testing.assert_array_equal(cv2.imread(str(out / "confidence.png"), cv2.IMREAD_UNCHANGED), rgb[..., 1])
    assert json.loads((out / "frame.json").read_text()) == {
        "stamp": {"sec": 7, "nanosec": 42}, "frame_id": 'eye "1"\n', "image": {"height": 6, "width": 8}, "error": "",
        "parameters": {"lazy": True}, "model": "tiny",
    }  # fmt: skip


def test_a_message_that_was_refused_is_saved_without_a_picture(tmp_path: Path) -> None:
    out = save_frame(tmp_path, "node", shot(error="encoding 'x' is not known"), b"cdr")
    assert sorted(path.name for path in out.iterdir()) == ["frame.json", "message.cdr"]
    facts = json.loads((out / "frame.json").read_text())
    assert (facts["error"], facts["image"]) == ("encoding 'x' is not known", None)


def test_p8_no_more_frames_are_kept_than_a_folder_may_hold(tmp_path: Path) -> None:
    for stamp in range(MOST_FRAMES):
        save_frame(tmp_path, "node", shot(stamp), b"")
    with pytest.raises(DataError, match=f"holds {MOST_FRAMES} frames.*move some away, or set save_folder"):
        save_frame(tmp_path, "node", shot(MOST_FRAMES), b"")
    assert len(list(tmp_path.iterdir())) == MOST_FRAMES
    assert (save_frame(tmp_path, "node", shot(3), b"new") / "message.cdr").read_bytes() == b"new"


def test_p8_a_folder_that_cannot_be_written_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/frames' cannot be written \(Not a directory\); set save_folder"):
        save_frame(tmp_path / "file" / "frames", "node", shot(), b"")


def test_c3_a_frame_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    frame = shot(manifest=tmp_path / "gone.yaml")
    with pytest.raises(DataError, match="cannot be written"):
        save_frame(tmp_path / "frames", "node", frame, b"cdr")
    assert list((tmp_path / "frames").iterdir()) == []


def test_frames_go_where_ros_keeps_its_files_unless_the_parameter_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/robot")
    monkeypatch.delenv("ROS_HOME", raising=False)
    assert frames_folder("") == Path("/home/robot/.ros/hrda_frames")
    assert frames_folder("~/here") == Path("/home/robot/here")
    monkeypatch.setenv("ROS_HOME", "/data/ros")
    assert frames_folder("") == Path("/data/ros/hrda_frames")


def test_c1_the_home_folder_of_a_user_who_has_none_is_refused_and_ends_nothing() -> None:
    with pytest.raises(DataError, match=r"'~nobody_here/frames/hrda_frames' names .*; set save_folder to a full path"):
        frames_folder("~nobody_here/frames/hrda_frames")
    with pytest.raises(DataError, match="'a\ufffdb' is no path"):
        frames_folder("a\0b")
