"""The newest-wins slot, the worker and the five counters, without ROS."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.errors import AnswerError, BackendError, ImageError
from hrda_ros.frames.meters import Percentiles, RateMeter
from hrda_ros.frames.pipeline import OUTCOMES, Counts, Pipeline, StaleFrameError

WAIT_S = 60.0


def outcomes(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in OUTCOMES if getattr(counts, name)}


def act(frame: Any) -> Mapping[str, float]:
    """Does with a frame what the frame says."""
    if isinstance(frame, Exception):
        raise frame
    return {"infer": 0.01}


def stepped(*frames: Any) -> Pipeline[Any]:
    """A pipeline that has seen the frames one after the other."""
    pipeline: Pipeline[Any] = Pipeline(act)
    pipeline.open()
    for frame in frames:
        pipeline.offer(frame)
        assert pipeline.step()
    return pipeline


def test_p1_each_kind_of_end_has_its_counter_and_cause() -> None:
    pipeline = stepped(
        "good",
        StaleFrameError("too_old"),
        ImageError("bad", "short"),
        BackendError("broken"),
        ValueError("odd"),
        "good",
    )
    counts = pipeline.counts()
    assert outcomes(counts) == {"published": 2, "stale": 1, "refused": 1, "failed": 2}
    assert counts.causes == {
        ("stale", "too_old"): 1,
        ("refused", "short"): 1,
        ("failed", "BackendError"): 1,
        ("failed", "ValueError"): 1,
    }


def test_it_is_known_for_how_long_every_frame_has_been_refused() -> None:
    now, bad = [0.0], ImageError("bad", "encoding")
    pipeline: Pipeline[Any] = Pipeline(act, clock=lambda: now[0])
    pipeline.open()
    lengths = []
    for frame in ("good", bad, bad, "good", bad, StaleFrameError("nobody_subscribed"), bad):
        now[0] += 2.0
        pipeline.offer(frame)
        assert pipeline.step()
        now[0] += 1.0
        lengths.append(pipeline.performance().refused_s)
    assert lengths == [0.0, 1.0, 4.0, 0.0, 1.0, 0.0, 1.0]
    pipeline.start()
    assert pipeline.performance().refused_s == 0.0
    assert pipeline.stop(WAIT_S)


def test_m11_an_answer_that_is_not_finite_is_counted_as_such_and_failures_in_a_row_are_counted() -> None:
    broken = AnswerError("its confidence is 0", "non_finite")
    pipeline = stepped("good", broken, broken, ImageError("bad", "short"), broken)
    assert pipeline.counts().causes["failed", "non_finite"] == 3
    assert pipeline.counts().failed_in_a_row == 3
    pipeline.offer("good")
    assert pipeline.step()
    assert pipeline.counts().failed_in_a_row == 0


def test_p1_newer_frame_takes_the_place_of_the_one_that_waits() -> None:
    seen: list[str] = []
    pipeline: Pipeline[str] = Pipeline(lambda frame: seen.append(frame) or {})  # type: ignore[func-returns-value]
    pipeline.open()
    for frame in ("first", "second", "third"):
        pipeline.offer(frame)
    pipeline.step()
    assert seen == ["third"]
    assert outcomes(pipeline.counts()) == {"published": 1, "superseded": 2}


def test_p1_p4_at_most_two_frames_are_in_flight() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(frame: int) -> Mapping[str, float]:
        entered.set()
        assert leave.wait(WAIT_S)
        return {}

    pipeline: Pipeline[int] = Pipeline(hold)
    pipeline.start()
    pipeline.offer(0)
    assert entered.wait(WAIT_S)
    for frame in range(1, 10):
        pipeline.offer(frame)
        counts = pipeline.counts()
        assert counts.in_flight == 2
        assert counts.received == sum(outcomes(counts).values()) + 2
    leave.set()
    assert pipeline.wait_until_idle(WAIT_S)
    assert outcomes(pipeline.counts()) == {"published": 2, "superseded": 8}
    assert pipeline.stop(WAIT_S)


def test_stop_drops_the_waiting_frame_and_finishes_the_one_at_hand() -> None:
    entered, leave = threading.Event(), threading.Event()
    done: list[int] = []

    def hold(frame: int) -> Mapping[str, float]:
        entered.set()
        assert leave.wait(WAIT_S)
        done.append(frame)
        return {}

    pipeline: Pipeline[int] = Pipeline(hold)
    pipeline.start()
    pipeline.offer(1)
    assert entered.wait(WAIT_S)
    pipeline.offer(2)
    assert not pipeline.stop(0.01), "the worker is still busy"
    leave.set()
    assert pipeline.wait_until_idle(WAIT_S)
    pipeline.offer(3)
    assert done == [1]
    counts = pipeline.counts()
    assert outcomes(counts) == {"published": 1, "stale": 2}
    assert counts.causes == {("stale", "deactivated"): 2}


def test_stopped_pipeline_can_start_again_and_keeps_its_counters() -> None:
    pipeline = stepped("good")
    assert pipeline.stop(WAIT_S)
    pipeline.start()
    pipeline.offer("good")
    assert pipeline.wait_until_idle(WAIT_S)
    assert pipeline.stop(WAIT_S)
    assert outcomes(pipeline.counts()) == {"published": 2}
    assert pipeline.stop(WAIT_S), "stopping twice is harmless"


def test_worker_that_was_given_up_ends_with_its_frame() -> None:
    entered, leave = threading.Event(), threading.Event()
    workers: list[str] = []

    def hold(frame: int) -> Mapping[str, float]:
        workers.append(str(threading.get_ident()))
        entered.set()
        assert leave.wait(WAIT_S)
        return {}

    pipeline: Pipeline[int] = Pipeline(hold)
    pipeline.start()
    pipeline.offer(1)
    assert entered.wait(WAIT_S)
    first = next(thread for thread in threading.enumerate() if str(thread.ident) == workers[0])
    assert not pipeline.stop(0.01)
    pipeline.start()
    leave.set()
    first.join(WAIT_S)
    assert not first.is_alive()
    for frame in range(3):
        pipeline.offer(frame)
        assert pipeline.wait_until_idle(WAIT_S)
    assert len(set(workers)) == 2
    assert pipeline.stop(WAIT_S)


def test_l2_a_worker_that_hangs_is_seen_and_the_next_one_waits_for_it() -> None:
    now, entered, leave = [0.0], threading.Event(), threading.Event()
    inside: list[int] = []
    most: list[int] = []

    def hold(frame: int) -> Mapping[str, float]:
        inside.append(frame)
        most.append(len(inside))
        entered.set()
        assert leave.wait(WAIT_S)
        inside.remove(frame)
        return {}

    pipeline: Pipeline[int] = Pipeline(hold, clock=lambda: now[0])
    pipeline.start()
    assert pipeline.performance().busy_s == 0.0
    pipeline.offer(1)
    assert entered.wait(WAIT_S)
    now[0] += 7.0
    assert pipeline.performance().busy_s == 7.0
    for frame in (2, 3):  # deactivate and activate, twice
        assert not pipeline.stop(0.01)
        pipeline.start()
        pipeline.offer(frame)
    threading.Event().wait(0.1)
    assert most == [1], "nobody else calls the back end that hangs"
    leave.set()
    assert pipeline.wait_until_idle(WAIT_S)
    assert pipeline.performance().busy_s == 0.0
    assert most == [1, 1]
    assert outcomes(pipeline.counts()) == {"published": 2, "stale": 1}
    assert pipeline.stop(WAIT_S)


def test_l2_a_back_end_that_wants_to_end_the_process_ends_no_worker() -> None:
    def leave(frame: int) -> Mapping[str, float]:
        raise SystemExit(3) if frame == 1 else KeyboardInterrupt

    reported: list[str] = []
    pipeline: Pipeline[int] = Pipeline(leave, lambda outcome, cause, error: reported.append(str(error)))
    pipeline.start()
    for frame in (1, 2):
        pipeline.offer(frame)
        assert pipeline.wait_until_idle(WAIT_S)
    assert pipeline.counts().causes == {("failed", "SystemExit"): 1, ("failed", "KeyboardInterrupt"): 1}
    assert pipeline.stop(WAIT_S)
    assert reported == ["SystemExit: 3", "KeyboardInterrupt: "]


def test_refusals_and_failures_are_reported_and_a_broken_reporter_is_survived() -> None:
    reported: list[tuple[str, str, str]] = []

    def report(outcome: str, cause: str, error: Exception) -> None:
        reported.append((outcome, cause, str(error)))
        raise RuntimeError("the logger is gone")

    pipeline: Pipeline[Any] = Pipeline(act, report)
    pipeline.open()
    for frame in (ImageError("bad", "short"), OSError("worse"), StaleFrameError("too_old"), "good"):
        pipeline.offer(frame)
        assert pipeline.step()
    assert reported == [("refused", "short", "bad"), ("failed", "OSError", "worse")]


FRAMES = st.one_of(
    st.just("good"),
    st.sampled_from(["too_old", "nobody_subscribed"]).map(StaleFrameError),
    st.sampled_from(["short", "step"]).map(lambda cause: ImageError("bad", cause)),
    st.sampled_from([BackendError("b"), ValueError("v"), MemoryError("m"), KeyError("k")]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FRAMES, st.sampled_from(["step", "wait", "stop"])), max_size=30))
def test_p1_counters_add_up_after_any_sequence(script: list[tuple[Any, str]]) -> None:
    pipeline: Pipeline[Any] = Pipeline(act)
    pipeline.open()
    for frame, action in script:
        pipeline.offer(frame)
        if action == "step":
            pipeline.step()
        elif action == "stop":
            pipeline.stop()
            pipeline.open()
        counts = pipeline.counts()
        assert counts.received == sum(getattr(counts, name) for name in OUTCOMES) + counts.in_flight
    counts = pipeline.counts()
    assert counts.received == len(script)
    for outcome in ("stale", "refused", "failed"):
        assert getattr(counts, outcome) == sum(n for (kind, _), n in counts.causes.items() if kind == outcome)


# Rates and latencies.


def test_latencies_are_measured_from_offer_to_publication() -> None:
    now = [0.0]

    def slow(frame: float) -> Mapping[str, float]:
        now[0] += frame
        return {"infer": frame}

    pipeline: Pipeline[float] = Pipeline(slow, clock=lambda: now[0])
    pipeline.open()
    for duration in (0.1, 0.2, 0.3):
        pipeline.offer(duration)
        now[0] += 0.05
        pipeline.step()
    speed = pipeline.performance()
    assert speed.latency_s["infer"] == pytest.approx((0.2, 0.29))
    assert speed.latency_s["wait"] == pytest.approx((0.05, 0.05))
    assert speed.latency_s["total"] == pytest.approx((0.25, 0.34))
    assert speed.published_hz == pytest.approx(2 / 0.6)
    pipeline.reset_performance()
    assert pipeline.performance().latency_s == {}
    assert pipeline.counts().published == 3


def test_rate_is_events_a_second_and_decays_when_they_stop() -> None:
    meter = RateMeter(window_s=5.0)
    assert meter.rate(0.0) == 0.0
    for step in range(31):
        meter.add(step / 10)
    assert meter.rate(3.05) == pytest.approx(10.0)
    assert meter.rate(4.0) == pytest.approx(30 / 4.0)
    assert meter.rate(9.0) == 0.0


def test_percentiles_forget_old_values() -> None:
    percentiles = Percentiles(capacity=10)
    assert percentiles.summary() is None
    for value in [1000.0] * 10 + [float(value) for value in range(1, 11)]:
        percentiles.add(value)
    assert percentiles.summary() == pytest.approx((5.5, 9.55))
