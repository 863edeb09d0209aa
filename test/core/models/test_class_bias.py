"""What the logit adjustment adds to the logits of rare classes, and how a weights file says so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hrda_core.models.class_bias import bias_in, class_bias, metadata_of


def test_a_class_rises_by_the_strength_times_the_logarithm_of_its_rareness() -> None:
    found = class_bias(0.25, (0.8, 0.1, 0.1, 0.0))
    assert found == (0.0, round(0.25 * math.log(8), 4), round(0.25 * math.log(8), 4), 0.0)
    assert class_bias(0.5, (0.8, 0.1, 0.1, 0.0))[1] == pytest.approx(2 * found[1], abs=1e-4)


def test_without_strength_or_labels_nothing_is_added() -> None:
    assert class_bias(0.0, (0.8, 0.2)) == ()
    assert class_bias(0.5, (0.0, 0.0)) == (0.0, 0.0)


def test_a_weights_file_says_what_it_holds(tmp_path: Path) -> None:
    for number, bias in enumerate([(0.0, 0.5199, 1.25), ()]):
        file = tmp_path / f"{number}.safetensors"
        save_file({"a": torch.zeros(2)}, file, metadata_of(bias))
        assert bias_in(file) == bias


@pytest.mark.parametrize("text", ["", "{", "7", '{"a": 1}', '["x"]', "[null]", "[" * 5000, "[1" + "0" * 400 + "]"])
def test_f5_metadata_that_are_no_list_of_numbers_are_none(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"class_bias": text})
    assert bias_in(tmp_path / "a.safetensors") == ()
