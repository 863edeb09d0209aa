"""Context fused with detail that may be missing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_network import TINY

from hrda_core.models import HRDA, create_model
from hrda_core.models.hrda import ContextOutput
from hrda_core.window_plan import PlanChoice, SizeRules, plan_windows
from hrda_core.windows.detail_tiles import TileFusion, tile_scores


def _parts(overlap: int) -> tuple[TileFusion, ContextOutput, torch.Tensor]:
    torch.manual_seed(0)
    model = create_model("hrda_lite", **TINY)
    assert isinstance(model, HRDA)
    plan = plan_windows(PlanChoice("topk", (2, 2), overlap), 128, 192, SizeRules(tile_multiple=32))
    fusion = TileFusion(model, plan)
    context = ContextOutput(torch.randn(1, 19, 16, 24), torch.rand(1, 19, 16, 24), [])
    tile = plan.detail[0].scaled(0.25)
    return fusion, context, torch.randn(4, 19, tile.height, tile.width)


@pytest.mark.parametrize("overlap", [0, 8])
def test_with_all_tiles_it_is_the_papers_fusion(overlap: int) -> None:
    fusion, context, detail = _parts(overlap)
    found = fusion.some_tiles(context, detail, torch.ones(4))
    torch.testing.assert_close(found, fusion.all_tiles(context, detail), atol=1e-5, rtol=0)


@pytest.mark.parametrize("overlap", [0, 8])
def test_without_tiles_it_is_the_plain_context_not_the_weighted_one(overlap: int) -> None:
    fusion, context, detail = _parts(overlap)
    found = fusion.some_tiles(context, torch.zeros_like(detail), torch.zeros(4))
    expected = F.interpolate(context.logits, scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_missing_tile_changes_nothing_in_the_others() -> None:
    fusion, context, detail = _parts(0)
    present = torch.tensor([1.0, 0, 1, 1])
    found = fusion.some_tiles(context, detail * present.view(-1, 1, 1, 1), present)
    everything = fusion.all_tiles(context, detail)
    torch.testing.assert_close(found[..., 16:, :], everything[..., 16:, :])
    torch.testing.assert_close(found[..., :16, :24], everything[..., :16, :24])
    assert not torch.allclose(found[..., :16, 24:], everything[..., :16, 24:])


def test_overlapping_tiles_of_one_constant_give_that_constant() -> None:
    fusion, context, detail = _parts(8)
    whole = ContextOutput(context.logits, torch.ones_like(context.attention), [])
    found = fusion.all_tiles(whole, torch.full_like(detail, 3.0))
    torch.testing.assert_close(found, torch.full_like(found, 3.0))


def test_a_tile_is_worth_more_where_the_context_is_unsure_and_attention_asks_for_detail() -> None:
    plan = plan_windows(PlanChoice("topk", (2, 2)), 128, 192)
    sure = torch.zeros(1, 19, 16, 24)
    sure[:, 3] = 12.0
    logits = sure.clone()
    logits[:, :, :8, 12:] = 0  # unsure in tile 1
    logits[:, :, 8:, :12] = 0  # and in tile 2, where nobody listens to the detail
    attention = torch.ones(1, 19, 16, 24)
    attention[:, :, 8:, :12] = 0
    scores = tile_scores(ContextOutput(logits, attention, []), plan)
    assert scores.argmax() == 1
    assert scores[2] == 0
    assert scores[0] < 0.01 > scores[3]
    assert 0 < scores[1] <= 1
