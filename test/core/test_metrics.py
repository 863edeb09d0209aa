"""Scores from the confusion matrix."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from golden import Golden, golden_fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import CAMVID11, CITYSCAPES19, EVALUATION_GROUPS, SYNTHIA13, SYNTHIA16, ClassGroups
from hrda_core.metrics import BOUNDARY_TOLERANCE, Boundaries, Confusion, score

load = golden_fixture()


def test_scores_of_a_case_small_enough_to_count_by_hand() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0], [1, 1]], np.uint8), np.array([[0, 1], [1, 255]], np.uint8))
    scores = confusion.scores()
    assert scores.iou[:2].tolist() == [1 / 2, 1 / 2]
    assert scores.accuracy[:2].tolist() == [1, 1 / 2]
    assert np.isnan(scores.iou[2])
    assert scores.mean_iou == 0.5
    assert scores.pixel_accuracy == pytest.approx(2 / 3)


def test_a_prediction_outside_the_classes_counts_as_wrong() -> None:
    confusion = Confusion(2)
    confusion.add(np.array([255, 7, 1], np.uint8), np.array([0, 1, 1], np.uint8))
    scores = confusion.scores()
    assert scores.iou.tolist() == [0, 1 / 2]
    assert scores.pixel_accuracy == pytest.approx(1 / 3)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, (3, 20), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_adding_in_pieces_equals_adding_at_once(maps: np.ndarray) -> None:
    label, prediction = maps[0], np.minimum(maps[1], 3)
    whole, pieces = Confusion(4), Confusion(4)
    whole.add(prediction, label)
    pieces.add(prediction[:7], label[:7])
    pieces.add(prediction[7:], label[7:])
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    assert whole.counts.sum() == (label != 255).sum()


def test_other_sizes_and_foreign_ids_are_refused() -> None:
    with pytest.raises(DataError, match="same size"):
        Confusion(2).add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="label id 5"):
        Confusion(2).add(np.zeros(1, np.uint8), np.full(1, 5, np.uint8))


def test_an_empty_set_has_no_score() -> None:
    assert np.isnan(Confusion(2).scores().mean_iou)


def test_scores_equal_the_reference(load: Callable[[str], Golden]) -> None:
    expected = load("miou")
    confusion = Confusion(19)
    for index in range(4):
        confusion.add(expected[f"pred{index}"], expected[f"gt{index}"])
    scores = confusion.scores()
    np.testing.assert_allclose(scores.iou, expected["iou"], rtol=1e-12)
    np.testing.assert_allclose(scores.accuracy, expected["acc"], rtol=1e-12)
    assert np.isnan(scores.iou).tolist() == [index == 16 for index in range(19)]
    assert scores.mean_iou == pytest.approx(float(expected["miou_nanmean"]), rel=1e-12)
    assert scores.pixel_accuracy == pytest.approx(float(expected["aacc"]), rel=1e-12)


def test_a_dropped_class_has_no_score_but_its_pixels_are_still_mistaken_for_others() -> None:
    confusion = Confusion(3)
    # Two pixels of class 2, one of them predicted as 0; class 0 and 1 are otherwise right.
    confusion.add(np.array([0, 0, 1, 0, 2], np.uint8), np.array([0, 0, 1, 2, 2], np.uint8))
    scores = confusion.scores().of((0, 1))
    assert scores.iou.tolist() == [2 / 3, 1]
    assert scores.mean_iou == pytest.approx((2 / 3 + 1) / 2)
    assert scores.pixel_accuracy == 4 / 5


@pytest.mark.parametrize(
    ("groups", "kept", "dropped"),
    [(SYNTHIA16, 16, {"terrain", "truck", "train"}), (SYNTHIA13, 13, {3, 4, 5, 9, 14, 16})],
)
def test_synthia_groups_leave_out_the_classes_of_the_literature(groups: ClassGroups, kept: int, dropped: set) -> None:
    assert len(groups.scored) == kept
    names = {name if isinstance(name, str) else CITYSCAPES19.classes[name] for name in dropped}
    assert {groups.names[group] for group in set(range(19)) - set(groups.scored)} == names
    np.testing.assert_array_equal(groups.table()[:19], np.arange(19))


def test_sixteen_classes_are_nineteen_where_the_dropped_ones_score_zero() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 19, 4000).astype(np.uint8)
    prediction = np.where(rng.random(4000) < 0.7, label, 0).astype(np.uint8)
    prediction[np.isin(label, (9, 14, 16))] = 1
    confusion = Confusion(19)
    confusion.add(prediction, label)
    scores = confusion.scores()
    assert scores.of(SYNTHIA16.scored).mean_iou == pytest.approx(scores.mean_iou * 19 / 16, rel=1e-12)


def _square(left: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    labels[20:40, left : left + 20] = 1
    return labels


def _boundary_f(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, tolerance: float = BOUNDARY_TOLERANCE
) -> np.ndarray:
    boundaries = Boundaries(num_classes, tolerance)
    boundaries.add(prediction, label)
    return boundaries.scores()


def test_boundaries_of_equal_maps_agree_fully() -> None:
    scores = _boundary_f(_square(30), _square(30), 3)
    assert scores[:2].tolist() == [1, 1]
    assert np.isnan(scores[2])


def test_boundary_f_falls_with_the_shift_and_reaches_what_is_counted_by_hand() -> None:
    # Tolerance of one pixel: diagonal 100, share 0.01.
    shifted = [_boundary_f(_square(30 + shift), _square(30), 2, 0.01)[1] for shift in (0, 1, 2, 5, 30)]
    assert shifted[:2] == [1, 1]
    assert shifted[1] > shifted[2] > shifted[3] > shifted[4]
    assert shifted[-1] == 0
    # Two pixels aside, of the 76 on the square's edge: 19 each of its upper and lower side lie within reach of the
    # other's, and one each of the near vertical side, just below and above the other's corner rows.
    assert shifted[2] == pytest.approx((2 * 19 + 2) / 76)


def _counted_one_by_one(prediction: np.ndarray, label: np.ndarray, index: int, reach: float) -> float:
    """The definition of the boundary F, pixel by pixel."""
    height, width = label.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    hidden = [place for place in places if label[place] == 255]

    def near(place: tuple[int, int], others: list[tuple[int, int]]) -> bool:
        return any((place[0] - row) ** 2 + (place[1] - column) ** 2 <= reach**2 for row, column in others)

    def boundary(ids: np.ndarray) -> list[tuple[int, int]]:
        known = [place for place in places if ids[place] == index and label[place] != 255]
        sides = ((0, 1), (0, -1), (1, 0), (-1, 0))
        around = {place: [(place[0] + y, place[1] + x) for y, x in sides] for place in known}
        return [
            place
            for place in known
            if any(other in places and label[other] != 255 and ids[other] != index for other in around[place])
        ]

    edges = boundary(prediction), boundary(label)
    judged = [[place for place in edge if not near(place, hidden)] for edge in edges]
    if not judged[0] and not judged[1]:
        return float("nan")
    shares = [
        sum(near(place, other) for place in mine) / max(1, len(mine))
        for mine, other in zip(judged, edges[::-1], strict=True)
    ]
    return 2 * shares[0] * shares[1] / sum(shares) if all(shares) else 0.0


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(np.uint8, (2, 6, 8), elements=st.sampled_from([0, 0, 0, 1, 2])),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=3),
    st.sampled_from([0.1, 0.15, 0.25]),
)
def test_boundary_f_is_that_of_the_definition_pixel_by_pixel(
    maps: np.ndarray, hidden: set[tuple[int, int]], tolerance: float
) -> None:
    prediction, label = maps[0], maps[1].copy()
    for place in hidden:
        label[place] = 255
    expected = [_counted_one_by_one(prediction, label, index, max(1, 10 * tolerance)) for index in range(3)]
    np.testing.assert_allclose(_boundary_f(prediction, label, 3, tolerance), expected, rtol=1e-12)


def test_a_wider_tolerance_accepts_a_larger_shift() -> None:
    inside, outside = (_boundary_f(_square(34), _square(30), 2, share)[1] for share in (0.04, 0.039))
    assert inside == 1
    assert outside < 1


def test_a_class_that_only_one_map_has_scores_zero() -> None:
    assert _boundary_f(_square(30), np.zeros((60, 80), np.uint8), 2)[1] == 0
    assert _boundary_f(np.zeros((60, 80), np.uint8), _square(30), 2)[1] == 0


def test_the_border_of_unlabelled_pixels_is_neither_boundary_nor_judged() -> None:
    label = _square(30)
    label[15:45, 25:55] = 255
    assert np.isnan(_boundary_f(_square(30), label, 2)).all()
    # One label boundary left, two columns beside the unlabelled block: within reach of what is hidden there.
    label = np.zeros((60, 80), np.uint8)
    label[:, 40:] = 1
    label[:, 43:] = 255
    prediction = np.zeros((60, 80), np.uint8)
    assert np.isnan(_boundary_f(prediction, label, 2, 0.03)[1])
    assert _boundary_f(prediction, label, 2, 0.01)[1] == 0


def test_a_tolerance_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="tolerance"):
        _boundary_f(_square(30), _square(30), 2, 0)


class _Pairs:
    """Labels of four columns; the image holds them in its red channel."""

    def __init__(self, *labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(self.labels[index][..., None], 3, axis=2), self.labels[index]


def _columns(*ids: int) -> np.ndarray:
    return np.repeat(np.repeat(np.array(ids, np.uint8), 8)[None], 16, axis=0)


def test_scoring_maps_prediction_and_labels_through_the_groups() -> None:
    steps: list[tuple[int, int]] = []
    pairs = _Pairs(_columns(0, 13, 10, 255), _columns(0, 0, 2, 8))
    # Wall for building, truck for car, terrain for vegetation: one group each in CamVid.
    other = np.arange(256, dtype=np.uint8)
    other[[2, 13, 8]] = (3, 14, 9)
    result = score(lambda rgb: other[rgb[..., 0]], pairs, CAMVID11, progress=lambda *step: steps.append(step))
    assert result.mean_iou == 1
    assert result.boundary_f == 1
    assert result.iou["car"] == 1
    assert result.iou["pole"] is None
    assert steps == [(1, 2), (2, 2)]
    fine = score(lambda rgb: other[rgb[..., 0]], pairs, EVALUATION_GROUPS["cityscapes19"])
    assert fine.iou["car"] == fine.iou["building"] == 0


def test_a_subset_is_scored_from_the_whole_confusion() -> None:
    # Half of road is labelled train, a class without a score, and predicted as road.
    result = score(lambda rgb: _columns(0, 0, 10, 10), _Pairs(_columns(0, 16, 10, 10)), SYNTHIA16)
    assert result.iou["road"] == 1 / 2
    assert "train" not in result.iou
    assert result.classes == list(CITYSCAPES19.classes)
    assert np.array(result.confusion)[16, 0] == 8 * 16


def test_a_prediction_of_another_size_is_brought_to_the_labels() -> None:
    labels = _columns(0, 13, 10, 2)
    assert score(lambda rgb: rgb[::2, ::2, 0], _Pairs(labels), EVALUATION_GROUPS["cityscapes19"]).mean_iou == 1


def test_scores_without_labelled_pixels_are_written_as_null() -> None:
    pairs = _Pairs(_columns(255, 255, 255, 255))
    result = score(lambda rgb: rgb[..., 0], pairs, EVALUATION_GROUPS["cityscapes19"], boundary=False)
    assert np.isnan(result.mean_iou)
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["mean_iou"] is None
    assert values["boundary_f"] is None
