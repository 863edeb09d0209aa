"""Judging: each image is read once, scores are those of `hrda evaluate`, and what was not given is not made up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from two_domains import draw_street

from hrda_core.adaptation.verdict.judgement import Judgement, expected_miou, judge, mean_iou
from hrda_core.adaptation.verdict.measures import (
    CONFIDENCE_BINS,
    Candidate,
    Predict,
    calibrated,
    expected_overlaps,
    seen_below,
    sureness,
)
from hrda_core.inference import Prediction
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, IGNORE_LABEL, ClassGroups, LabelSpace
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


class Source(list[tuple[np.ndarray, np.ndarray]]):
    """Labelled images that are at hand."""

    def load(self, index: int, /) -> tuple[np.ndarray, np.ndarray]:
        return self[index]


def guess(rgb: np.ndarray) -> Prediction:
    """By the strongest colour: some right, some wrong; terrain and truck, which the groups merge with others, too."""
    labels = np.array([0, 9, 14], np.uint8)[rgb.argmax(axis=-1)]
    return Prediction(labels, np.full(labels.shape, 128, np.uint8))


def dark(rgb: np.ndarray) -> Prediction:
    labels = np.where(rgb.mean(axis=-1) > 100, 10, 0).astype(np.uint8)
    return Prediction(labels, np.full(labels.shape, 200, np.uint8))


CANDIDATES = [Candidate("given", guess), Candidate("adapted", dark, other_network=guess)]


def test_mean_iou_is_that_of_the_evaluation_command() -> None:
    found = judge(CANDIDATES, [], [], Streets([]), None, CITYSCAPES19, GROUPS)
    for candidate in CANDIDATES:
        expected = score(lambda rgb, c=candidate: c.predict(rgb).labels, Streets([]), GROUPS, boundary=False)
        rows = np.asarray(found.candidates[candidate.name].source).sum(axis=0)
        there = {name for name, labelled in zip(GROUPS.names, rows[2], strict=True) if labelled}
        wanted = np.mean([value for name, value in expected.iou.items() if name in there and value is not None])
        assert mean_iou(found.candidates[candidate.name].source) == pytest.approx(wanted)


@pytest.mark.parametrize("predict", [guess, dark])
def test_on_the_source_itself_the_expected_overlaps_are_those_of_its_labels(predict: Predict) -> None:
    big = [draw_street(np.random.default_rng(index), (480, 640), target=False) for index in range(3)]
    seen = [(predict(image), GROUPS.table()[labels]) for image, labels in big]
    counts = np.stack([sureness(found, 19) for found, _ in seen])
    shares = calibrated(sum(seen_below(found, truth, 19, 11) for found, truth in seen), GROUPS)
    assert shares.sum(axis=0) == pytest.approx(1)
    total = expected_overlaps(counts, shares, GROUPS).sum(axis=0)
    told = judge([Candidate("given", predict)], [], [], Source(big), None, CITYSCAPES19, GROUPS).candidates["given"]
    assert total == pytest.approx(np.asarray(told.source).sum(axis=0), rel=0.01, abs=300)


def test_what_is_expected_by_class_does_not_change_where_a_model_is_surer() -> None:
    """Of the drive alone: of the source it is as sure as before, and what is right there counts."""
    source = Source(draw_street(np.random.default_rng(index), (480, 640), target=False) for index in range(3))
    frame = draw_street(np.random.default_rng(7), (480, 640), target=True)[0]

    def unsure(rgb: np.ndarray) -> Prediction:  # right where it is sure
        found, truth = guess(rgb), next((labels for image, labels in source if image is rgb), None)
        right = rgb[..., 0] > 100 if truth is None else truth == found.labels
        return Prediction(found.labels, np.where(right, 255, 60).astype(np.uint8))

    def surer(rgb: np.ndarray) -> Prediction:
        found = unsure(rgb)
        return Prediction(found.labels, np.full_like(found.confidence, 255) if rgb is frame else found.confidence)

    both = [Candidate("given", unsure), Candidate("adapted", surer)]
    given, found = judge(both, [lambda: frame], [], source, None, CITYSCAPES19, GROUPS).candidates.values()
    assert found.by_class == given.by_class
    assert expected_miou(found.expected) > expected_miou(given.expected) + 0.05  # type: ignore[operator]


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
        CITYSCAPES19,
        GROUPS,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (read, source.read, labelled.read) == ([0, 1, 1, 2], [0, 1, 2], [0, 1, 2])
    assert steps == [(step, 9) for step in range(1, 10)]


def test_what_was_not_given_is_not_measured() -> None:
    summary = judge(CANDIDATES, [lambda: STREETS[0][0]], [], None, None, CITYSCAPES19, GROUPS).summary()["candidates"][
        "given"
    ]
    for key in ("network_agreement", "plan_agreement", "flicker", "source_miou", "source_iou", "eval_miou", "eval_iou"):
        assert summary[key] is None
    assert summary["drift"] == pytest.approx(0, abs=1e-9)
    assert sum(summary["histogram"]) == pytest.approx(1)
    assert len(summary["histogram"]) == len(CITYSCAPES19)


def test_the_frame_that_changed_most_can_be_found() -> None:
    night = np.zeros_like(STREETS[0][0])  # both call black road
    found = judge(CANDIDATES, [lambda: night, lambda: STREETS[1][0]], [], None, None, CITYSCAPES19, GROUPS)
    changed = found.candidates["adapted"].changed
    assert changed[0] == 0
    assert changed[1] > 0.3
    assert found.candidates["given"].changed == [0, 0]
    assert found.candidates["adapted"].network == pytest.approx([1 - share for share in changed])


def test_150_classes_are_counted_in_one_table_for_all_frames_and_keep_their_names() -> None:
    many = LabelSpace("many", tuple(f"thing {number}" for number in range(150)))

    def shades(rgb: np.ndarray) -> Prediction:
        labels = (rgb[..., 0] % 150).astype(np.uint8)
        return Prediction(labels, np.full(labels.shape, 128, np.uint8))

    frames = [lambda i=i: STREETS[i][0] for i in range(3)]
    candidates = [Candidate("given", shades), Candidate("adapted", shades)]
    found = judge(candidates, frames, [], Streets([]), None, many, ClassGroups.of(many))
    measures = found.candidates["adapted"]
    assert np.asarray(measures.joint).shape == (150, 150)
    assert np.asarray(measures.joint).sum() == 3 * 2 * STREETS[0][1].size
    assert len(measures.histogram) == 150
    assert np.asarray(measures.counts).shape == (3, 150, CONFIDENCE_BINS)
    assert np.asarray(measures.expected).shape == (3, 3, 150)
    again = Judgement.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.classes == again.groups == many.classes
    assert set(again.summary()["candidates"]["given"]["source_iou"]) == set(many.classes)


def test_what_is_said_with_doubt_is_expected_to_be_right_less_often() -> None:
    groups = ClassGroups.of(LabelSpace("two", ("free", "full")))
    sure, doubt = np.full((100, 100), 250, np.uint8), np.full((100, 100), 100, np.uint8)
    labels = np.zeros((100, 100), np.uint8)
    often, seldom = (np.arange(10_000).reshape(100, 100) % 100 >= share for share in (95, 30))
    seen = sum(
        seen_below(Prediction(labels, confidence), truth.astype(np.uint8), 2, 2)
        for confidence, truth in ((sure, often), (doubt, seldom))
    )
    shares = calibrated(seen, groups)
    for confidence, right in ((sure, 0.95), (doubt, 0.30)):
        drive = sureness(Prediction(labels, confidence), 2)
        expected = expected_overlaps(drive[None], shares, groups)[0]
        assert expected[:, 0] / 10_000 == pytest.approx([right, 1.0, right], abs=0.02)
