"""Weights with NaN or infinite values are found, whatever their number format is."""

from __future__ import annotations

import pytest
import torch

from hrda_core.models.finite_weights import not_finite


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float32]
)
def test_m11_values_that_are_not_finite_are_found_in_every_number_format(dtype: torch.dtype) -> None:
    whole, broken = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
    assert not_finite({"whole": whole.to(dtype), "broken": broken.to(dtype), "none": whole[:0].to(dtype)}) == ["broken"]
