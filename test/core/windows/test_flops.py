"""What window plans cost, against the cost model of the design (performance.md, section 1, and algorithm.md, 19)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hrda_core.errors import BackendError
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.segmenter import Segmenter
from hrda_core.windows.flops import FlopCounter, PlanFlops, plan_flops
from hrda_core.windows.torch_windows import predict_logits

SIZES = ((1080, 1920), (1024, 2048))

# GFLOP a frame at 1080 x 1920 and 1024 x 2048. `nested`: as the reference runs it, shared detail crops every time.
# `context`: encoder and decoder of the half-size image, which algorithm.md lists apart; the attention does not run.
EXPECTED = {
    "b0": {"nested": (7235, 3618), "overlap": (3609, 2775), "tiles": (1218, 1219), "context": (16.6 + 225, 17 + 227.5)},
    "b5": {
        "nested": (15214, 7607),
        "overlap": (7633, 5870),
        "tiles": (2626, 2586),
        "context": (315.7 + 225.0, 318.2 + 227.5),
    },
}


def network(variant: str = "b0") -> HRDA:
    """The paper's network at full width, without data."""
    with torch.device("meta"):
        encoder = MixTransformer(variant)
        attention = DAFormerHead(encoder.channels, 19, fusion="conv1")
        return HRDA(encoder, DAFormerHead(encoder.channels, 19), attention)


@pytest.mark.parametrize("variant", ["b0", "b5"])
def test_plans_cost_what_the_cost_model_says(variant: str) -> None:
    count = FlopCounter(network(variant))
    for plan, figures in EXPECTED[variant].items():
        for size, expected in zip(SIZES, figures, strict=True):
            found = count(plan, *size, share_detail=False)
            assert found.giga == pytest.approx(expected, rel=0.01), f"{plan} at {size}"


def test_shared_detail_crops_are_saved() -> None:
    count = FlopCounter(network())
    shared, apart = (count("nested", 1024, 2048, share_detail=share) for share in (True, False))
    assert (shared.windows, shared.crops, apart.crops) == (3, 21, 27)
    assert (shared.window, shared.crop) == (apart.window, apart.crop)
    assert apart.total - shared.total == 6 * shared.crop


def test_the_sum_is_windows_and_crops() -> None:
    cost = PlanFlops(windows=2, crops=3, window=10, crop=100)
    assert cost.total == 320
    assert cost.giga == 320e-9


def test_single_scale_networks_count_too() -> None:
    with torch.device("meta"):
        encoder = MixTransformer("b0")
        model = Segmenter(encoder, DAFormerHead(encoder.channels, 19))
    whole = plan_flops(model, "whole", 512, 1024)
    slide = plan_flops(model, "slide", 512, 1024)
    assert whole.giga == pytest.approx(17.0 + 227.5, rel=0.01)
    assert (slide.windows, slide.crops) == (3, 0)
    with pytest.raises(BackendError, match="whole, slide"):
        plan_flops(model, "nested", 512, 1024)


def test_a_network_with_data_is_counted_without_copying_or_changing_it() -> None:
    torch.manual_seed(0)
    encoder = MixTransformer("b0")
    model = HRDA(encoder, DAFormerHead(encoder.channels, 19), None, fixed_attention=0.5, detail_crop=(64, 64)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert plan_flops(model, "tiles", 128, 128).total > 0
    assert model.training
    for name, value in model.state_dict().items():
        assert not value.is_meta
        torch.testing.assert_close(value, before[name])


def test_a_known_convolution_is_counted_by_hand() -> None:
    class Backbone(nn.Module):
        channels = (5,)

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 4, stride=4)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [self.conv(image)]

    class Head(nn.Module):
        stride = 4

        def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
            return maps[0]

    model = HRDA(Backbone(), Head(), None, fixed_attention=0.5, detail_crop=(64, 64))
    cost = plan_flops(model, "tiles", 128, 128)
    a_cell = 2 * 3 * 5 * 4 * 4
    assert cost == PlanFlops(windows=1, crops=4, window=16 * 16 * a_cell, crop=16 * 16 * a_cell)


@pytest.mark.parametrize("plan", ["nested", "overlap", "tiles", "context"])
def test_the_count_is_that_of_a_prediction(plan: str) -> None:
    with torch.device("meta"):
        encoder = MixTransformer("b0")
        attention = DAFormerHead(encoder.channels, 19, fusion="conv1")
        model = HRDA(encoder, DAFormerHead(encoder.channels, 19), attention, detail_crop=(64, 64)).eval()
        image = torch.empty(1, 3, 128, 192)
    with FlopCounterMode(display=False) as counter:
        logits = predict_logits(model, image, plan)
    assert logits.shape == (1, 19, 128, 192)
    assert counter.get_total_flops() == plan_flops(model, plan, 128, 192).total
