"""The comparison of an engine with ONNX Runtime; here arrays stand for what an engine returns."""

from __future__ import annotations

import numpy as np
import pytest

from hrda_core.errors import BackendError
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.tensorrt.golden import MIN_EQUAL_LABELS, check_golden, make_golden

SIZE = (100, 200)
REFERENCE = {
    "labels": np.arange(SIZE[0] * SIZE[1], dtype=np.int64).reshape(1, *SIZE).astype(np.uint8),
    "confidence": np.full((1, *SIZE), 200, np.uint8),
}
FEEDS = {"image": golden_image(*SIZE), "age": np.ones(3, np.float32)}


def _with_wrong(share: float) -> dict[str, np.ndarray]:
    labels = REFERENCE["labels"].copy()
    wrong = round(share * labels.size)
    labels.reshape(-1)[:wrong] ^= 1
    return {**REFERENCE, "labels": labels}


def test_the_stored_inputs_reach_the_engine_as_they_were() -> None:
    seen = {}

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.update(feeds)
        return REFERENCE

    assert check_golden(make_golden(FEEDS, REFERENCE), run, "fp16") == 1.0
    assert seen.keys() == FEEDS.keys()
    for name, value in FEEDS.items():
        np.testing.assert_array_equal(seen[name], value)
        assert seen[name].dtype == value.dtype


@pytest.mark.parametrize("precision", sorted(MIN_EQUAL_LABELS))
def test_the_bar_is_at_the_share_of_its_precision(precision: str) -> None:
    golden, allowed = make_golden(FEEDS, REFERENCE), 1 - MIN_EQUAL_LABELS[precision]
    assert check_golden(golden, lambda feeds: _with_wrong(0.9 * allowed), precision) > MIN_EQUAL_LABELS[precision]
    with pytest.raises(BackendError, match="gives other labels than ONNX Runtime"):
        check_golden(golden, lambda feeds: _with_wrong(1.2 * allowed), precision)


def test_pixels_between_two_classes_do_not_count_unless_there_is_little_else() -> None:
    """Wrong labels where the reference has no class above one half: 5 % of the pixels, then nearly all."""
    for undecided, refused in ((0.05, False), (0.95, True)):
        confidence = REFERENCE["confidence"].copy()
        confidence.reshape(-1)[: round(undecided * confidence.size)] = 100
        golden = make_golden(FEEDS, {**REFERENCE, "confidence": confidence})
        found = {**_with_wrong(undecided), "confidence": confidence}
        if refused:
            with pytest.raises(BackendError, match="gives other labels"):
                check_golden(golden, lambda feeds, found=found: found, "fp16")
        else:
            assert check_golden(golden, lambda feeds, found=found: found, "fp16") == 1.0


def test_a_confidence_that_is_far_off_is_refused_though_the_labels_are_right() -> None:
    off = {**REFERENCE, "confidence": np.full_like(REFERENCE["confidence"], 190)}
    with pytest.raises(BackendError, match=r"10\.0 of 255 away in the mean"):
        check_golden(make_golden(FEEDS, REFERENCE), lambda feeds: off, "fp16")


def test_confidence_of_small_numbers_does_not_wrap_around() -> None:
    zero, one = np.zeros((1, *SIZE), np.uint8), np.ones((1, *SIZE), np.uint8)
    golden = make_golden(FEEDS, {**REFERENCE, "confidence": zero})
    assert check_golden(golden, lambda feeds: {**REFERENCE, "confidence": one}, "fp32") == 1.0


def test_the_made_image_is_always_the_same_and_small_on_disk() -> None:
    np.testing.assert_array_equal(golden_image(*SIZE), golden_image(*SIZE))
    assert golden_image(540, 960).shape == (1, 540, 960, 3)
