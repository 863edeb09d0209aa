"""Classes made a band of rows at a time are those of the whole image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_network import TINY
from torch import Tensor, nn

from hrda_core.errors import ImageError, RecipeError
from hrda_core.inference import predict_logits
from hrda_core.models import create_model
from hrda_core.window_plan import HRDA_PLANS, SINGLE_SCALE_PLANS
from hrda_core.windows import class_bands
from hrda_core.windows.class_bands import predict_classes


def _network(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = create_model("hrda_lite", 19, **{**TINY, **changes}).eval()
    return network


HRDA_NETWORK, PLAIN_NETWORK = _network(), _network(hrda=False)
OPTIONS: dict[str, dict[str, Any]] = {
    "topk": {"grid": (2, 2), "keep": 2},
    "slide": {"crop": (64, 96), "stride": (32, 64)},
}


def _whole(network: nn.Module, image: Tensor, plan: str) -> tuple[Tensor, Tensor]:
    top = predict_logits(network, image, plan, **OPTIONS.get(plan, {})).softmax(1).max(1)
    return top.indices, top.values


@pytest.mark.parametrize("plan", [*HRDA_PLANS, *SINGLE_SCALE_PLANS])
def test_bands_give_the_classes_and_confidence_of_the_whole_image(plan: str) -> None:
    network = HRDA_NETWORK if plan in HRDA_PLANS else PLAIN_NETWORK
    image = torch.randn(2, 3, 136, 200)
    labels, confidence = _whole(network, image, plan)
    found, sure = predict_classes(network, image, plan, band=37, **OPTIONS.get(plan, {}))
    torch.testing.assert_close(sure, confidence, rtol=1e-4, atol=1e-5)
    assert found.dtype == torch.uint8
    assert (found == labels).float().mean() > 0.9999


@settings(max_examples=15, deadline=None)
@given(band=st.integers(1, 200), height=st.integers(64, 130), width=st.integers(64, 130))
def test_no_height_of_a_band_and_no_size_of_an_image_shows(band: int, height: int, width: int) -> None:
    image = torch.randn(1, 3, height, width)
    labels, confidence = _whole(PLAIN_NETWORK, image, "whole")
    found, sure = predict_classes(PLAIN_NETWORK, image, "whole", band=band)
    torch.testing.assert_close(sure, confidence, rtol=1e-4, atol=1e-5)
    assert (found == labels).float().mean() > 0.999


def test_no_more_than_a_band_of_logits_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    whole = class_bands._band

    def counted(*arguments: Any) -> Tensor:
        logits = whole(*arguments)
        made.append(logits.numel())
        return logits

    monkeypatch.setattr(class_bands, "_band", counted)
    monkeypatch.setattr(class_bands, "_BAND_VALUES", 19 * 256 * 10)
    predict_classes(HRDA_NETWORK, torch.zeros(1, 3, 192, 256), "tiles")
    assert max(made) == 19 * 256 * 10
    assert sum(made) == 19 * 256 * 192


def test_nothing_is_kept_for_gradients() -> None:
    labels, confidence = predict_classes(HRDA_NETWORK, torch.zeros(1, 3, 64, 64), "overlap")
    assert not labels.requires_grad
    assert not confidence.requires_grad
    assert not predict_logits(HRDA_NETWORK, torch.zeros(1, 3, 64, 64), "overlap").requires_grad


def test_bands_without_rows_and_what_is_no_image_are_refused() -> None:
    with pytest.raises(RecipeError, match="band must be 1 row or more"):
        predict_classes(PLAIN_NETWORK, torch.zeros(1, 3, 64, 64), "whole", band=0)
    with pytest.raises(ImageError, match="float tensor"):
        predict_classes(PLAIN_NETWORK, torch.zeros(3, 64, 64), "whole")
