"""Measures without labels: what raises them, what lowers them, and what must not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrda_core.adaptation.verdict.measures import (
    Candidate,
    divergence,
    effective_classes,
    flicker,
    measure_frame,
    mutual_information,
)
from hrda_core.inference import Prediction

COUNTS = arrays.arrays(np.int64, 19, elements=st.integers(0, 10**9)).filter(lambda counts: counts.sum() > 0)
HISTOGRAMS = COUNTS.map(lambda counts: counts.astype(np.float64))
RNG = np.random.default_rng(0)
TEXTURE = cv2.resize(RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)


def by_brightness(rgb: np.ndarray) -> Prediction:
    """Two classes by the grey value of the pixel alone: agrees with itself when mirrored."""
    labels = (rgb.mean(axis=-1) > 127).astype(np.uint8)
    return Prediction(labels, np.full(labels.shape, 204, np.uint8))


def by_column(rgb: np.ndarray) -> Prediction:
    """Class 0 left, 1 right, whatever the image shows: never agrees with itself when mirrored."""
    labels = np.zeros(rgb.shape[:2], np.uint8)
    labels[:, rgb.shape[1] // 2 :] = 1
    return Prediction(labels, np.full(labels.shape, 255, np.uint8))


def test_a_model_that_looks_at_pixels_agrees_with_itself_when_mirrored() -> None:
    found = measure_frame(Candidate("given", by_brightness), TEXTURE, 19)
    assert found.flip == 1.0
    assert 0.8 < found.scale < 1.0
    assert found.confidence == pytest.approx(0.8)
    assert found.counts.sum() == TEXTURE.shape[0] * TEXTURE.shape[1]


def test_a_model_that_looks_at_the_place_does_not() -> None:
    found = measure_frame(Candidate("given", by_column), TEXTURE, 19)
    assert found.flip == 0.0
    assert found.scale > 0.99


def test_plan_and_network_are_measured_where_there_is_another() -> None:
    alone = Candidate("given", by_column)
    assert (measure_frame(alone, TEXTURE, 19).plan, measure_frame(alone, TEXTURE, 19).network) == (None, None)
    found = measure_frame(replace(alone, other_plan=by_column, other_network=by_brightness), TEXTURE, 19)
    assert found.plan == 1.0
    assert found.network is not None
    assert found.network < 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 53)])
def test_frames_of_any_size_can_be_measured(size: tuple[int, int]) -> None:
    found = measure_frame(Candidate("given", by_brightness), np.full((*size, 3), 200, np.uint8), 19)
    assert (found.flip, found.scale) == (1.0, 1.0)


def test_masks_that_move_with_the_image_do_not_flicker() -> None:
    big = cv2.resize(TEXTURE, (320, 240), interpolation=cv2.INTER_CUBIC)
    before, after = big[:, :312], big[:, 8:]  # 8 pixels of motion
    labels = [(cv2.GaussianBlur(image, (0, 0), 5).mean(axis=-1) > 127).astype(np.uint8) for image in (before, after)]
    moved = flicker(before, after, *labels)
    assert moved is not None
    assert moved < 0.03
    assert (labels[0] != labels[1]).mean() > 3 * moved  # what it would be with the motion left in


def test_masks_that_change_while_the_image_rests_flicker() -> None:
    labels = by_brightness(TEXTURE).labels
    wrong = RNG.random(labels.shape) < 0.25
    found = flicker(TEXTURE, TEXTURE, labels, np.where(wrong, 5, labels).astype(np.uint8))
    assert found == pytest.approx(wrong.mean(), abs=0.02)


def test_an_image_that_flow_cannot_explain_says_nothing_of_flicker() -> None:
    other = RNG.integers(0, 256, TEXTURE.shape).astype(np.uint8)
    labels = by_brightness(TEXTURE).labels
    assert flicker(TEXTURE, other, labels, labels) is None


@given(HISTOGRAMS, HISTOGRAMS)
def test_divergence_is_symmetric_and_between_0_and_1_bit(one: np.ndarray, two: np.ndarray) -> None:
    found = divergence(one, two)
    assert -1e-9 <= found <= 1 + 1e-9
    assert found == pytest.approx(divergence(two, one), abs=1e-9)
    assert divergence(one, 3 * one) == pytest.approx(0, abs=1e-9)


def test_histograms_with_nothing_in_common_are_a_bit_apart() -> None:
    assert divergence(np.array([5.0, 0.0]), np.array([0.0, 2.0])) == pytest.approx(1.0)


TABLES = arrays.arrays(np.int64, (5, 5), elements=st.integers(0, 10**6)).filter(lambda table: table.sum() > 0)


@given(TABLES)
def test_information_lies_between_nothing_and_all_classes_and_has_no_order(table: np.ndarray) -> None:
    found = mutual_information(table)
    assert -1e-9 <= found <= np.log2(5) + 1e-9
    assert found == pytest.approx(mutual_information(table.T), abs=1e-9)
    names = np.array([3, 0, 4, 1, 2])
    assert found == pytest.approx(mutual_information(table[names][:, names]), abs=1e-9)


def test_views_that_agree_tell_the_entropy_of_the_classes_and_a_constant_tells_nothing() -> None:
    assert mutual_information(np.diag([8, 8, 8, 8])) == pytest.approx(2)
    assert mutual_information(np.diag([0, 99])) == 0
    assert mutual_information(np.full((4, 4), 7)) == pytest.approx(0, abs=1e-12)


def test_neither_of_two_views_comes_first() -> None:
    table = np.array([[8, 8], [0, 0]])  # the first view says one class of everything, the second one two
    assert mutual_information(table) == pytest.approx(mutual_information(table + table.T))
    assert mutual_information(table) == pytest.approx(0.5 * np.log2(8 / 9) + 0.5 * np.log2(4 / 3))


def test_information_is_counted_over_both_other_views() -> None:
    found = measure_frame(Candidate("given", by_column), TEXTURE, 19)
    assert found.joint.sum() == 2 * TEXTURE.shape[0] * TEXTURE.shape[1]
    # The mirrored view always says the other class, the smaller one the same: together they tell nothing.
    assert mutual_information(found.joint) == pytest.approx(0, abs=0.01)


@given(HISTOGRAMS)
def test_effective_classes_lie_between_one_and_those_that_occur(histogram: np.ndarray) -> None:
    assert 1 - 1e-9 <= effective_classes(histogram) <= np.count_nonzero(histogram) + 1e-9


def test_classes_of_equal_size_count_one_each() -> None:
    assert effective_classes(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_classes(np.array([0.0, 9.0, 0.0])) == pytest.approx(1)
