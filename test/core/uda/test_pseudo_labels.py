"""Pseudo-labels: the reference's labels, quality and margins."""

from __future__ import annotations

import numpy as np
import torch
from golden import argmax_agreement, golden_fixture, relative_error

from hrda_core.uda.pseudo_labels import pseudo_labels
from hrda_core.uda.step import StepContext

load = golden_fixture()


def test_labels_quality_and_margins_equal_the_reference(load) -> None:  # type: ignore[no-untyped-def]
    expected = load("pseudo_label")
    logits = torch.from_numpy(expected["pl_logits"].astype(np.float32))
    trust = torch.ones(2, 96, 128, dtype=torch.bool)
    trust[:, :15] = False
    trust[:, -20:] = False
    found = pseudo_labels(logits, 0.968, trust)
    assert argmax_agreement(found.labels, expected["pl_label"]) == 1
    assert relative_error(expected.sample("pl_prob", found.probability), expected["pl_prob"]) <= 1e-6
    assert float(found.quality) == np.float32(expected["pl_weight_scalar"])
    name = "pl_weight_top15_bottom20"
    assert relative_error(expected.sample(name, found.weight), expected[name]) <= 1e-6


def test_without_margins_every_pixel_weighs_the_quality() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    logits[0, 1] = 20
    found = pseudo_labels(logits, 0.968)
    assert float(found.quality) == 0.5
    assert found.weight.unique().tolist() == [0.5]


def test_the_quality_is_that_of_all_processes() -> None:
    logits = torch.zeros(1, 3, 4, 4)
    other = StepContext(reduce=lambda sure: sure + 8, processes=2)
    assert float(pseudo_labels(logits, 0.968, context=other).quality) == 0.25
