"""Scores from the confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hrda_core.errors import DataError
from hrda_core.metrics import Confusion


def test_scores_of_a_case_small_enough_to_count_by_hand() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0], [1, 1]], np.uint8), np.array([[0, 1], [1, 255]], np.uint8))
    scores = confusion.scores()
    assert scores.iou[:2].tolist() == [1 / 2, 1 / 2]
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


def test_scores_equal_the_reference(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "golden" / "miou.npz")
    confusion = Confusion(19)
    for index in range(4):
        confusion.add(golden[f"pred{index}"], golden[f"gt{index}"])
    scores = confusion.scores()
    np.testing.assert_allclose(scores.iou, golden["iou"], rtol=1e-12)
    np.testing.assert_allclose(scores.accuracy, golden["acc"], rtol=1e-12)
    assert scores.mean_iou == pytest.approx(float(golden["miou_nanmean"]), rel=1e-12)
    assert scores.pixel_accuracy == pytest.approx(float(golden["aacc"]), rel=1e-12)
