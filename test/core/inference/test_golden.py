"""The comparison of an engine with ONNX Runtime; here arrays stand for what an engine returns."""

from __future__ import annotations

import numpy as np
import pytest

from hrda_core.errors import BackendError
from hrda_core.inference.golden import MIN_EQUAL_LABELS, check_golden, make_golden
from hrda_core.inference.made_image import golden_image

SIZE = (100, 200)
LABELS = np.arange(SIZE[0] * SIZE[1], dtype=np.int64).reshape(1, *SIZE).astype(np.uint8)
CONFIDENCE = np.full((1, *SIZE), 200, np.uint8)
IMAGE = golden_image(*SIZE)


def _with_wrong(share: float) -> np.ndarray:
    labels = LABELS.copy()
    wrong = round(share * labels.size)
    labels.reshape(-1)[:wrong] ^= 1
    return labels


def _check(labels: np.ndarray, confidence: np.ndarray, precision: str, reference: np.ndarray = CONFIDENCE) -> float:
    """The check of an engine that gives these masks, where the reference has `LABELS` and a confidence."""
    golden = make_golden(IMAGE, LABELS, reference)
    return check_golden(golden, lambda image: (labels, confidence), precision)


def test_the_stored_image_reaches_the_engine_as_it_was() -> None:
    seen: list[np.ndarray] = []

    def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(image)
        return LABELS, CONFIDENCE

    assert check_golden(make_golden(IMAGE, LABELS, CONFIDENCE), run, "fp16") == 1.0
    np.testing.assert_array_equal(seen[0], IMAGE)
    assert seen[0].dtype == np.uint8


@pytest.mark.parametrize("precision", sorted(MIN_EQUAL_LABELS))
def test_the_bar_is_at_the_share_of_its_precision(precision: str) -> None:
    allowed = 1 - MIN_EQUAL_LABELS[precision]
    assert _check(_with_wrong(0.9 * allowed), CONFIDENCE, precision) > MIN_EQUAL_LABELS[precision]
    with pytest.raises(BackendError, match="gives other labels than ONNX Runtime"):
        _check(_with_wrong(1.2 * allowed), CONFIDENCE, precision)


def test_pixels_between_two_classes_do_not_count_unless_there_is_little_else() -> None:
    """Wrong labels where the reference has no class above one half: 5 % of the pixels, then nearly all."""
    for undecided, refused in ((0.05, False), (0.95, True)):
        confidence = CONFIDENCE.copy()
        confidence.reshape(-1)[: round(undecided * confidence.size)] = 100
        if refused:
            with pytest.raises(BackendError, match="gives other labels"):
                _check(_with_wrong(undecided), confidence, "fp16", confidence)
        else:
            assert _check(_with_wrong(undecided), confidence, "fp16", confidence) == 1.0


def test_a_confidence_that_is_far_off_is_refused_though_the_labels_are_right() -> None:
    with pytest.raises(BackendError, match=r"10\.0 of 255 away in the mean"):
        _check(LABELS, np.full_like(CONFIDENCE, 190), "fp16")


def test_confidence_of_small_numbers_does_not_wrap_around() -> None:
    zero, one = np.zeros((1, *SIZE), np.uint8), np.ones((1, *SIZE), np.uint8)
    assert _check(LABELS, one, "fp32", zero) == 1.0
    assert _check(LABELS, zero, "fp32", one) == 1.0


def test_the_made_image_is_always_the_same_and_small_on_disk() -> None:
    np.testing.assert_array_equal(golden_image(*SIZE), golden_image(*SIZE))
    assert golden_image(540, 960).shape == (1, 540, 960, 3)
