"""Judging: each image is read once, scores are those of `hrda evaluate`, and what was not given is not made up."""

from __future__ import annotations

import numpy as np
import pytest
from two_domains import draw_street

from hrda_core.adaptation.verdict.judgement import judge, mean_iou
from hrda_core.adaptation.verdict.measures import Candidate
from hrda_core.inference import Prediction
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, IGNORE_LABEL
from hrda_core.metrics import score

GROUPS = EVALUATION_GROUPS["camvid11"]
STREETS = [draw_street(np.random.default_rng(index), (32, 48), target=False) for index in range(3)]


class Streets:
    """Labelled images, the first with a corner that has no label; counts how often each is read."""

    def __init__(self, read: list[int]) -> None:
        self.read = read

    def __len__(self) -> int:
        return len(STREETS)

    def load(self, index: int, /) -> tuple[np.ndarray, np.ndarray]:
        self.read.append(index)
        image, labels = STREETS[index]
        labels = labels.copy()
        labels[: 8 if index == 0 else 0] = IGNORE_LABEL
        return image, labels


def guess(rgb: np.ndarray) -> Prediction:
    """By the strongest colour: some right, some wrong; terrain and truck, which the groups merge with others, too."""
    labels = np.array([0, 9, 14], np.uint8)[rgb.argmax(axis=-1)]
    return Prediction(labels, np.full(labels.shape, 128, np.uint8))


def dark(rgb: np.ndarray) -> Prediction:
    labels = np.where(rgb.mean(axis=-1) > 100, 10, 0).astype(np.uint8)
    return Prediction(labels, np.full(labels.shape, 200, np.uint8))


CANDIDATES = [Candidate("given", guess), Candidate("adapted", dark, other_network=guess)]


def test_mean_iou_is_that_of_the_evaluation_command() -> None:
    found = judge(CANDIDATES, [], [], Streets([]), None, GROUPS)
    for candidate in CANDIDATES:
        expected = score(lambda rgb, c=candidate: c.predict(rgb).labels, Streets([]), GROUPS, boundary=False)
        rows = np.asarray(found.candidates[candidate.name].source).sum(axis=0)
        there = {name for name, labelled in zip(GROUPS.names, rows[2], strict=True) if labelled}
        wanted = np.mean([value for name, value in expected.iou.items() if name in there and value is not None])
        assert mean_iou(found.candidates[candidate.name].source) == pytest.approx(wanted)


def test_every_image_is_read_once_for_all_candidates() -> None:
    source, labelled, read = Streets([]), Streets([]), []
    frames = [lambda i=i: (read.append(i), STREETS[i][0])[1] for i in range(3)]
    steps: list[tuple[int, int]] = []
    judge(
        CANDIDATES,
        frames[:2],
        [(frames[1], frames[2])],
        source,
        labelled,
        GROUPS,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (read, source.read, labelled.read) == ([0, 1, 1, 2], [0, 1, 2], [0, 1, 2])
    assert steps == [(step, 9) for step in range(1, 10)]


def test_what_was_not_given_is_not_measured() -> None:
    summary = judge(CANDIDATES, [lambda: STREETS[0][0]], [], None, None, GROUPS).summary()["candidates"]["given"]
    for key in ("network_agreement", "plan_agreement", "flicker", "source_miou", "source_iou", "eval_miou", "eval_iou"):
        assert summary[key] is None
    assert summary["drift"] == pytest.approx(0, abs=1e-9)
    assert sum(summary["histogram"]) == pytest.approx(1)
    assert len(summary["histogram"]) == len(CITYSCAPES19)


def test_the_frame_that_changed_most_can_be_found() -> None:
    night = np.zeros_like(STREETS[0][0])  # both call black road
    found = judge(CANDIDATES, [lambda: night, lambda: STREETS[1][0]], [], None, None, GROUPS)
    changed = found.candidates["adapted"].changed
    assert changed[0] == 0
    assert changed[1] > 0.3
    assert found.candidates["given"].changed == [0, 0]
    assert found.candidates["adapted"].network == pytest.approx([1 - share for share in changed])
