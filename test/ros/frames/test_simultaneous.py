"""Images of several cameras in one run of the back end, without ROS and without threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter

from hrda_core.errors import AnswerError, BackendError, ImageError
from hrda_core.inference import Prediction
from hrda_ros.frames.pipeline import OUTCOMES, Ending, Pipeline, StaleFrameError
from hrda_ros.frames.simultaneous import Steps, alone, check_batch, stamps_within, together
from hrda_ros.frames.worker import Batch, Worker


def steps_of(frame: Any, got: list[int]) -> Steps:
    """A frame is the value of its pixels, or what goes wrong before there are any."""
    if isinstance(frame, BaseException):
        raise frame
    prediction = yield np.full((2 if frame < 100 else 4, 3, 3), frame, np.uint8)
    got.append(int(prediction.labels[0, 0]))
    return {"infer": 0.1}


def predict(rgb: np.ndarray) -> Prediction:
    if rgb[0, 0, 0] == 13:
        raise AnswerError("it is 13", "non_finite")
    return Prediction(rgb[..., 0], rgb[..., 0])


class Runs:
    """Counts the pictures of each run of several; one with 13 in it fails as a whole."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Prediction]:
        self.sizes.append(len(pictures))
        return [predict(picture) for picture in pictures]


def ends(frames: Sequence[Any]) -> tuple[list[tuple[str, str]], list[int], list[int]]:
    """How each frame ended, the masks that went out, and the sizes of the runs."""
    got: list[int] = []
    runs = Runs()
    endings = together([steps_of(frame, got) for frame in frames], predict, runs)
    return [(ending.outcome, ending.cause) for ending in endings], got, runs.sizes


def test_pictures_of_one_size_go_in_one_run_and_each_frame_gets_its_own_masks() -> None:
    assert ends([5, 6, 101, 7]) == ([("published", "")] * 4, [5, 6, 7, 101], [3])


def test_p1_a_frame_that_ends_before_there_is_a_picture_leaves_the_others_alone() -> None:
    frames = [5, StaleFrameError("too_old"), ImageError("bad", "short"), SystemExit(3), 6]
    outcomes = [
        ("published", ""),
        ("stale", "too_old"),
        ("refused", "short"),
        ("failed", "SystemExit"),
        ("published", ""),
    ]
    assert ends(frames) == (outcomes, [5, 6], [2])


def test_p1_where_a_run_of_several_fails_each_gets_its_masks_or_its_own_error() -> None:
    outcomes = [("published", ""), ("failed", "non_finite"), ("published", "")]
    assert ends([5, 13, 6]) == (outcomes, [5, 6], [3])


def test_an_error_of_the_model_passes_through_the_steps() -> None:
    seen: list[BaseException] = []

    def watched() -> Steps:
        try:
            yield np.full((2, 3, 3), 13, np.uint8)
        except AnswerError as error:
            seen.append(error)
            raise
        return {}

    with pytest.raises(AnswerError, match="it is 13"):
        alone(watched(), predict)
    assert together([watched(), watched()], predict, Runs())[1].cause == "non_finite"
    assert len(seen) == 3
    assert alone(steps_of(5, []), predict) == {"infer": 0.1}


@pytest.mark.parametrize(("apart_ns", "belong"), [(0, True), (20_000_000, True), (20_000_001, False)])
def test_stamps_belong_together_up_to_the_slop_and_across_a_second(apart_ns: int, belong: bool) -> None:
    def message(stamp_ns: int) -> Any:
        sec, nanosec = divmod(stamp_ns, 10**9)
        return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)))

    first, other = message(1_999_999_999), message(1_999_999_999 + apart_ns)
    assert stamps_within(0.02)(first, other) is belong
    assert stamps_within(0.02)(other, first) is belong


def test_p8_a_model_that_takes_one_image_at_a_time_is_refused_and_closed() -> None:
    model: Any = FakeSegmenter("single")
    model.takes_batch = False
    with pytest.raises(
        BackendError, match=r"batch_slop_s is 0\.02, but the graph of plan 'tiles' takes one image"
    ) as caught:
        check_batch(0.02, model)
    assert "\n" not in str(caught.value)
    assert model.closed == 1


def test_p1_l7_the_worker_takes_what_belongs_together_and_counts_each_for_its_camera() -> None:
    runs: list[list[int]] = []

    def run(frames: Sequence[tuple[Any, int]]) -> list[Ending]:
        assert all(pipeline.counts().in_flight == 1 for pipeline, _ in frames)
        runs.append([frame for _, frame in frames])
        return [Ending("published") if frame % 2 == 0 else Ending("stale", "too_old") for _, frame in frames]

    def one(frame: int) -> Mapping[str, float]:
        runs.append([frame])
        return {}

    worker = Worker()
    worker.batch = Batch(lambda first, other: abs(first - other) <= 2, run)
    pipelines = [Pipeline(one, worker=worker) for _ in range(4)]
    worker.open()
    for pipeline, frame in zip(pipelines, (10, 20, 11, 12), strict=True):
        pipeline.offer(frame)
    assert worker.step()
    pipelines[0].offer(21)
    assert worker.step()
    pipelines[2].offer(30)
    assert worker.step()
    assert runs == [[10, 11, 12], [20, 21], [30]]
    for pipeline in pipelines:
        counts = pipeline.counts()
        assert counts.received == sum(getattr(counts, name) for name in OUTCOMES)
    assert [pipeline.counts().published for pipeline in pipelines] == [1, 1, 1, 1]
    assert [pipeline.counts().stale for pipeline in pipelines] == [1, 0, 1, 0]
