"""What becomes of frames under load and with odd headers: the real node in this process, without DDS between."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from served_node import WAIT_S, HeldSegmenter, ServedNode, served_node
from service_manager import service_manager

from hrda_core.errors import BackendError
from hrda_core.inference import Prediction
from hrda_ros.health.diagnostics import ERROR, OK, STALE, WARN, assess


class SeventhFails(FakeSegmenter):
    """Fails at each seventh frame."""

    calls = 0

    def __call__(self, rgb: np.ndarray) -> Prediction:
        self.calls += 1
        if self.calls % 7 == 0:
            raise BackendError("the seventh")
        return super().__call__(rgb)


@pytest.fixture(scope="module")
def plain(ros: Any) -> Iterator[ServedNode]:
    with served_node("plain_frames", lazy=False) as served:
        yield served


def grey(value: int, image_message: Callable[..., Any]) -> Any:
    return image_message(np.full((2, 3, 3), value, np.uint8))


def test_p1_p2_l1_of_twelve_frames_for_each_mask_the_newest_is_taken_and_the_others_are_counted(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    segmenter, rounds, rate = HeldSegmenter(), 20, 12
    with served_node("overrun", lambda _: segmenter, lazy=False) as served:
        messages = [grey(value, image_message) for value in range(1 + rounds * rate)]
        served.give(messages[0], wait=False)
        assert segmenter.entered.acquire(timeout=WAIT_S)
        for index in range(rounds):  # one frame is in work while twelve come
            for message in messages[1 + index * rate : 1 + (index + 1) * rate]:
                served.give(message, wait=False)
                assert served.counts().in_flight == 2
            segmenter.leave.release()
            assert segmenter.entered.acquire(timeout=WAIT_S)
        segmenter.leave.release()
        served.wait()
        counts = served.counts()
    assert (counts.received, counts.published) == (1 + rounds * rate, 1 + rounds)
    assert counts.superseded == rounds * (rate - 1)
    assert served.masks.headers == [message.header for message in messages[::rate]], "the newest, in order"
    assert [int(mask[0, 0]) for mask in served.masks.pixels] == list(range(0, 1 + rounds * rate, rate))


def test_p1_p3_p7_l3_a_back_end_that_fails_at_each_seventh_frame_serves_the_other_six(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    with served_node("seventh", lambda _: SeventhFails("seventh"), lazy=False) as served:
        messages = [grey(index, image_message) for index in range(70)]
        before = served.counts()
        for message in messages:
            served.give(message)
        counts = served.counts()
        level, text = assess(served.report(100.0, 0.0), before)
        assert (counts.published, counts.failed, counts.causes) == (60, 10, {("failed", "BackendError"): 10})
        assert served.masks.headers == [message.header for index, message in enumerate(messages, 1) if index % 7]
        assert (level, text) == (WARN, "10 frame(s) failed (BackendError): the seventh")
        served.give(grey(1, image_message))
        assert assess(served.report(100.0, 0.0), counts)[0] == OK, "it recovers"


def test_p7_l4_after_a_silence_frames_are_served_as_before_and_diagnostics_recover(
    plain: ServedNode, image_message: Callable[..., Any]
) -> None:
    plain.give(grey(1, image_message))
    before = plain.counts()
    plain.node.cameras[0].watch._last_image_s -= 60.0
    assert assess(plain.report(100.0, 60.0), before)[0] == STALE
    for _ in range(3):
        plain.give(grey(1, image_message))
    after = plain.counts()
    assert after.published == before.published + 3
    level, text = assess(plain.report(100.0, 0.0), before)
    assert (level, "masks a second" in text) == (OK, True)
    assert plain.node.cameras[0].watch._last_image_s > plain.node.cameras[0].watch._active_since_s


def test_p7_a_back_end_that_hangs_is_not_alive_to_systemd_until_it_comes_back(
    ros: Any, image_message: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSegmenter()
    with service_manager(tmp_path, without_file=True) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
        with served_node("hanging", lambda _: held, lazy=False, timeout_s=0.05) as served:
            look = served.node._monitor._on_second
            held.leave.release()
            served.give(grey(1, image_message))
            systemd.heard()
            look()
            (told,) = systemd.heard()
            assert told.endswith("\nWATCHDOG=1")
            served.give(grey(1, image_message), wait=False)
            deadline = time.monotonic() + WAIT_S
            while "WATCHDOG=1" in told and time.monotonic() < deadline:
                time.sleep(0.01)
                look()
                (told,) = systemd.heard()
            assert told.startswith("STATUS=the back end has not come back")
            held.leave.release()
            served.wait()
            look()
            assert systemd.heard()[0].endswith("WATCHDOG=1")


class WatchedSegmenter(FakeSegmenter):
    """Notes what is asked of it."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__("watched")
        self._calls = calls

    def warm_up(self, height: int, width: int) -> None:
        self._calls.append("warm up")

    def __call__(self, rgb: np.ndarray) -> Prediction:
        self._calls.append("frame")
        return super().__call__(rgb)


def test_p6_l9_the_first_frame_after_the_start_is_served_by_a_model_that_has_run_before(
    ros: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrda_ros.segment_node import SegmentNode

    calls: list[str] = []
    activate = SegmentNode._activate
    monkeypatch.setattr(SegmentNode, "_activate", lambda node: calls.append("listen") or activate(node))
    with served_node("first_frame", lambda _: WatchedSegmenter(calls), lazy=False) as served:
        served.give(grey(1, image_message))
        assert calls == ["warm up", "listen", "frame"]
        assert len(served.masks.headers) == served.counts().published == 1


STAMPS = {
    "zero": (0, 0),
    "equal": (0, 0),
    "before 1970": (-(2**31), 0),
    "of the future": (2**31 - 1, 999_999_999),
    "more than a second of nanoseconds": (5, 2**32 - 1),
    "backward": (4, 1),
}


def test_p2_m8_stamps_of_any_kind_come_back_bit_for_bit(plain: ServedNode, image_message: Callable[..., Any]) -> None:
    messages = []
    for sec, nanosec in STAMPS.values():
        message = grey(1, image_message)
        message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
        messages.append(message)
    assert returned(plain, messages) == [message.header for message in messages]


@pytest.mark.parametrize(
    "frame_id", ["", "a b/c", "x" * 100_000, "前カメラ/камера/😀", "../../etc", "new\nline"], ids=range(6)
)
def test_p2_m9_frame_ids_of_any_kind_come_back_bit_for_bit(
    plain: ServedNode, image_message: Callable[..., Any], frame_id: str
) -> None:
    message = grey(1, image_message)
    message.header.frame_id = frame_id
    assert [header.frame_id for header in returned(plain, [message])] == [frame_id]


def test_p2_m9_a_frame_id_that_changes_belongs_to_its_own_mask(
    plain: ServedNode, image_message: Callable[..., Any]
) -> None:
    messages = [grey(1, image_message) for _ in range(50)]
    for index, message in enumerate(messages):
        message.header.frame_id = f"camera_{index % 3}" * (1 + index % 5)
    assert returned(plain, messages) == [message.header for message in messages]


def returned(served: ServedNode, messages: list[Any]) -> list[Any]:
    """Headers of the masks of messages that are given one by one."""
    before = len(served.masks.headers)
    for message in messages:
        served.give(message)
    return served.masks.headers[before:]


class Message(SimpleNamespace):
    """An image message of which it can be told whether it is still held."""


def test_p4_of_five_hundred_frames_at_most_three_are_held(ros: Any) -> None:
    segmenter = HeldSegmenter()
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="camera")
    with served_node("held", lambda _: segmenter, lazy=False) as served:
        held: list[weakref.ref[Message]] = []
        for index in range(500):
            message = Message(header=header, height=2, width=3, step=9, encoding="rgb8", is_bigendian=0, data=bytes(18))
            held.append(weakref.ref(message))
            served.give(message, wait=False)
            del message
            if index == 0:
                assert segmenter.entered.acquire(timeout=WAIT_S)
            assert sum(reference() is not None for reference in held) <= 3
        gc.collect()
        assert sum(reference() is not None for reference in held) == 2, "one in work and one that waits"
        served.node._models.serving.outputs[""].masks.publish = lambda *arguments: None  # its header is no ROS message
        segmenter.leave.release(2)
        served.wait()
        gc.collect()
        assert not any(reference() for reference in held)


# What is refused, in words.

REFUSED = {
    "empty": ({"height": 0}, ["0 x 3", "both sides must be >= 1"]),
    "step": ({"step": 8}, ["needs 9 bytes a row", "step is 8"]),
    "short": ({"height": 9}, ["needs 81 bytes", "holds 18"]),
    "encoding": ({"encoding": "rgb999"}, ["'rgb999' is not known", "known are rgb8"]),
    "long encoding": ({"encoding": "x" * 1024}, ["is not known", "known are rgb8"]),
    "no encoding": ({"encoding": ""}, ["'' is not known", "known are rgb8"]),
    "absurd": ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, ["bytes a row", "step is 4294967295"]),
    "absurdly high": ({"height": 2**32 - 1}, ["needs 38654705655 bytes", "holds 18"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_p3_p8_m1_m2_m3_m4_a_bad_message_is_refused_with_what_was_found_and_expected_and_the_next_is_served(
    plain: ServedNode, image_message: Callable[..., Any], kind: str
) -> None:
    fields, words = REFUSED[kind]
    before, masks = plain.counts(), len(plain.masks.headers)
    plain.give(image_message(np.zeros((2, 3, 3), np.uint8), **fields))
    counts, sentence = plain.counts(), plain.node.cameras[0].errors["refused"]
    assert (counts.refused, counts.published) == (before.refused + 1, before.published)
    assert all(word in sentence for word in words), sentence
    assert len(sentence) < 1000
    assert "\n" not in sentence
    level, text = assess(plain.report(100.0, 0.0), before)
    assert (level, "refused" in text) in ((WARN, True), (ERROR, True))
    good = grey(1, image_message)
    plain.give(good)
    assert plain.masks.headers[masks:] == [good.header]


def test_p4_m3_an_absurd_size_is_refused_before_anything_is_allocated(
    plain: ServedNode, image_message: Callable[..., Any]
) -> None:
    messages = [image_message(np.zeros((2, 3, 3), np.uint8), **fields) for fields, _ in REFUSED.values()]
    for message in messages:  # the first time takes what logging and OpenCV keep
        plain.give(message)
    tracemalloc.start()
    try:
        for message in messages:
            plain.give(message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
