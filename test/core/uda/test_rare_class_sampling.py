"""Rare Class Sampling."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden_scalars

from hrda_core.errors import DataError
from hrda_core.uda.rare_class_sampling import RareClassSampler, class_probabilities


def test_probabilities_equal_the_reference() -> None:
    golden = golden_scalars()["rcs"]
    counts = np.zeros(19, np.int64)
    for record in golden["sample_class_stats"]:
        for label, pixels in record.items():
            if label != "file":
                counts[int(label)] += pixels
    for temperature, expected in golden["probs"].items():
        classes, probabilities = class_probabilities(counts, float(temperature))
        assert classes.tolist() == expected["classes"]
        np.testing.assert_allclose(probabilities, expected["prob"], rtol=2e-5)


def test_a_class_that_never_occurs_is_never_drawn() -> None:
    classes, probabilities = class_probabilities(np.array([900, 0, 100]), 0.1)
    assert classes.tolist() == [2, 0]
    assert probabilities[0] > probabilities[1]
    assert probabilities.sum() == pytest.approx(1)


def test_an_image_counts_only_with_more_than_the_minimum_of_pixels() -> None:
    counts = np.array([[50, 3000], [50, 3001], [50, 0]])
    sampler = RareClassSampler.from_counts(counts, 0.01, 3000)
    assert sampler.classes.tolist() == [1]
    assert {sampler.draw(np.random.RandomState(seed)) for seed in range(10)} == {(1, 1)}


def test_no_usable_image_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(DataError, match="rcs_min_pixels"):
        RareClassSampler.from_counts(np.array([[5, 5]]), 0.01, 3000)
    with pytest.raises(DataError, match="no labelled pixel"):
        class_probabilities(np.zeros(3, np.int64), 0.01)
