"""Figures of the report: that what was given is drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hrda_core.report.figures import draw_bars, draw_confusion, draw_curves, smooth


def _pixels(picture: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _has(picture: bytes, colour: str) -> bool:
    rgb = [int(colour[start : start + 2], 16) for start in (0, 2, 4)]
    return bool((np.abs(_pixels(picture).astype(int) - rgb).max(axis=2) <= 3).sum() > 20)


def test_smoothing_keeps_length_and_level_and_passes_over_gaps() -> None:
    np.testing.assert_allclose(smooth(np.full(9, 2.0), 5), 2)
    assert smooth(np.array([0, 3, 0, 3, 0, 3.0]), 3).tolist() == [1.5, 1, 2, 1, 2, 1.5]
    assert smooth(np.array([1, np.nan, 3, np.inf]), 3).tolist() == [1, 2, 3, 3]
    assert np.isnan(smooth(np.array([np.nan]), 3)).all()


@pytest.mark.parametrize("options", [{}, {"smoothed": True, "log_scale": True}, {"markers": True, "share": True}])
def test_each_curve_has_its_own_colour(options: dict[str, bool]) -> None:
    iterations = np.arange(1.0, 60)
    one = draw_curves({"a": (iterations, iterations / 60)}, "share", **options)
    two = draw_curves({"a": (iterations, iterations / 60), "b": (iterations, 1 / iterations)}, "share", **options)
    assert _has(one, "0072B2")
    assert not _has(one, "D55E00")
    assert _has(two, "D55E00")


def test_values_of_zero_keep_the_axis_linear_instead_of_failing() -> None:
    assert _has(draw_curves({"a": (np.arange(5.0), np.zeros(5))}, "loss", log_scale=True), "0072B2")


def test_bars_are_as_long_as_the_share() -> None:
    widths = []
    for share in (0.25, 0.5):
        pixels = _pixels(draw_bars(["road", "car"], {"x": [share, float("nan")]})).astype(int)
        widths.append((np.abs(pixels - [0, 0x72, 0xB2]).max(axis=2) <= 3).any(axis=0).sum())
    assert widths[1] == pytest.approx(2 * widths[0], abs=4)


def test_the_confusion_is_normalised_by_row_and_leaves_empty_rows_grey() -> None:
    dark = "08306B"
    assert _has(draw_confusion([[1, 0], [0, 9]], ["a", "b"]), dark)
    assert not _has(draw_confusion([[1, 1], [5, 5]], ["a", "b"]), dark)
    assert _has(draw_confusion([[1, 0], [0, 0]], ["a", "b"]), "DDDDDD")


def test_the_matrix_of_many_classes_stays_a_picture_for_a_page() -> None:
    many = _pixels(draw_confusion(np.eye(150), [f"class {number}" for number in range(150)]))
    assert max(many.shape) < 2500


def test_the_column_without_a_class_is_drawn_if_it_has_pixels() -> None:
    names = ["a", "b", "c"]
    with_it = _pixels(draw_confusion(np.eye(3, 4), names))
    np.testing.assert_array_equal(with_it, _pixels(draw_confusion(np.eye(3), names)))
    counts = np.eye(3, 4)
    counts[0, 3] = 1
    assert not np.array_equal(_pixels(draw_confusion(counts, names)), with_it)
