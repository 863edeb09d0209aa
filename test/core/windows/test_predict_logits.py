"""Whole images through a network by window plan, against plain loops that run one crop at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hrda_core import inference
from hrda_core.errors import BackendError, ImageError, RecipeError
from hrda_core.inference import predict_logits, predict_probs
from hrda_core.models.hrda import HRDA, ContextOutput
from hrda_core.models.segmenter import Segmenter
from hrda_core.window_plan import HRDA_PLANS, SINGLE_SCALE_PLANS, CropBox, sliding_windows
from hrda_core.windows.torch_windows import plan_for, run_plan

CLASSES = 4


class CountingEncoder(nn.Module):
    """Two maps at strides 4 and 8 that depend on a neighbourhood; keeps the batch sizes that it saw."""

    channels = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 7, stride=4, padding=3)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        self.batches.append(len(image))
        first = self.first(image).tanh()
        return [first, self.second(first).tanh()]


class LastMapHead(nn.Module):
    """Takes one map of the list and leaves the others."""

    def __init__(self, level: int, outputs: int = CLASSES) -> None:
        super().__init__()
        self.level, self.stride = level, (4, 8)[level]
        self.classify = nn.Conv2d(CountingEncoder.channels[level], outputs, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        out: Tensor = self.classify(maps[self.level])
        return out


def network(level: int = 0, **switches: Any) -> HRDA:
    """An HRDA network of a few hundred weights, detail crop 32 x 32."""
    torch.manual_seed(0)
    attention = None if switches.get("fixed_attention") is not None else LastMapHead(level)
    switches = {"detail_crop": (32, 32), **switches}
    return HRDA(CountingEncoder(), LastMapHead(level), attention, **switches).eval()


def single_scale() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(CountingEncoder(), LastMapHead(0)).eval()


def picture(height: int = 64, width: int = 128, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def seen(model: nn.Module) -> list[int]:
    batches: list[int] = model.backbone.batches  # type: ignore[assignment,union-attr]
    return batches


def windows_of(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> Iterator[CropBox]:
    yield from sliding_windows(size, crop, stride)


@torch.no_grad()
def plainly_overlapping(model: HRDA, image: Tensor, stride: tuple[int, int]) -> Tensor:
    """Steps 1 to 5 of the specification's section 5.1, one image and one crop at a time."""
    outs = []
    for single in image.split(1):
        context, source = model.context(single), model.detail_image(single)
        scale = model.detail_scale
        size = (int(single.shape[2] * scale / model.stride), int(single.shape[3] * scale / model.stride))
        total, count = torch.zeros(1, CLASSES, *size), torch.zeros(1, 1, *size)
        for box in windows_of((single.shape[2], single.shape[3]), model.detail_crop, stride):
            fine, cell = box.scaled(scale), box.scaled(scale / model.stride)
            total[cell.index] += model.detail(source[fine.index])
            count[cell.index] += 1
        fused = model.fuse(context, total / count)
        outs.append(F.interpolate(fused, size=single.shape[2:], mode="bilinear", align_corners=False))
    return torch.cat(outs)


def plainly_nested(model: HRDA, image: Tensor, crop: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    detail_stride = (model.detail_crop[0] // 2, model.detail_crop[1] // 2)
    total, count = torch.zeros(len(image), CLASSES, *image.shape[2:]), torch.zeros(1, 1, *image.shape[2:])
    for box in windows_of((image.shape[2], image.shape[3]), crop, stride):
        total[box.index] += plainly_overlapping(model, image[box.index], detail_stride)
        count[box.index] += 1
    return total / count


@pytest.mark.parametrize("size", [(64, 128), (72, 120), (64, 64), (104, 64)])
def test_nested_windows_equal_plain_loops_for_a_batch(size: tuple[int, int]) -> None:
    model, image = network(), picture(*size, batch=2)
    torch.testing.assert_close(
        predict_logits(model, image, "nested"), plainly_nested(model, image, (64, 64), (32, 32)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("size", [(64, 128), (72, 120), (32, 40)])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"level": 1},
        {"context_scale": 1.0},
        {"context_scale": 0.25, "detail_crop": (32, 48)},
        {"context_scale": 0.75, "detail_crop": (32, 48)},
        {"context_scale": 0.25, "detail_scale": 0.5},
        {"context_scale": 0.5, "detail_scale": 0.5},
        {"blur_detail": True},
        {"fixed_attention": 0.5},
    ],
    ids=str,
)
def test_every_switch_equals_plain_loops(switches: dict[str, Any], size: tuple[int, int]) -> None:
    model = network(**switches)
    multiple = model.multiple_of
    smallest = -(-int(32 / model.context_scale) // multiple) * multiple
    height, width = (max(smallest, -(-side // multiple) * multiple) for side in size)
    image = picture(height, width, batch=2)
    stride = (model.detail_crop[0] // 2, model.detail_crop[1] // 2)
    expected = plainly_overlapping(model, image, stride)
    torch.testing.assert_close(predict_logits(model, image, "overlap"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("switches", [{"blur_detail": True}, {"context_scale": 0.5, "detail_scale": 0.5}], ids=str)
def test_nested_windows_of_a_changed_detail_image_equal_plain_loops(switches: dict[str, Any]) -> None:
    model, image = network(**switches), picture(64, 136)
    torch.testing.assert_close(
        predict_logits(model, image, crop=(64, 64), stride=(32, 40)),
        plainly_nested(model, image, (64, 64), (32, 40)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_detail_crops_that_touch_instead_of_overlapping() -> None:
    model, image = network(overlapping_detail=False), picture(64, 120)
    expected = plainly_overlapping(model, image, (32, 32))
    torch.testing.assert_close(predict_logits(model, image, "overlap"), expected, rtol=1e-5, atol=1e-6)
    assert seen(model)[-1] == 8


def test_shared_detail_crops_run_once_and_change_nothing() -> None:
    model, image = network(), picture(64, 128, batch=2)
    shared = predict_logits(model, image)
    assert seen(model) == [3 * 2, 21 * 2]  # contexts, detail crops; times images
    seen(model).clear()
    apart = run_plan(model, image, plan_for(model, "nested", 64, 128, share_detail=False))
    assert seen(model) == [3 * 2, 27 * 2]
    torch.testing.assert_close(shared, apart, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("plan", HRDA_PLANS)
def test_images_of_a_batch_do_not_touch_each_other(plan: str) -> None:
    model, image = network(), picture(64, 96, batch=3)
    each = torch.cat([predict_logits(model, single, plan) for single in image.split(1)])
    torch.testing.assert_close(predict_logits(model, image, plan), each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("plan", ["nested", "overlap", "tiles", "context"])
def test_max_batch_bounds_the_encoder_batch_and_changes_nothing(plan: str, most: int) -> None:
    model, image = network(), picture(batch=2)
    expected = predict_logits(model, image, plan)
    seen(model).clear()
    torch.testing.assert_close(predict_logits(model, image, plan, max_batch=most), expected, rtol=1e-5, atol=1e-6)
    assert max(seen(model)) <= most


@settings(max_examples=40, deadline=None)
@given(plan=st.sampled_from(HRDA_PLANS), height=st.integers(1, 150), width=st.integers(1, 150))
def test_logits_have_the_size_of_any_image(plan: str, height: int, width: int) -> None:
    logits = predict_logits(network(), picture(height, width), plan)
    assert logits.shape == (1, CLASSES, height, width)
    assert logits.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(plan=st.sampled_from(SINGLE_SCALE_PLANS), height=st.integers(1, 150), width=st.integers(1, 150))
def test_single_scale_logits_have_the_size_of_any_image(plan: str, height: int, width: int) -> None:
    logits = predict_logits(single_scale(), picture(height, width), plan, crop=(64, 48) if plan == "slide" else None)
    assert logits.shape == (1, CLASSES, height, width)
    assert logits.isfinite().all()


def test_odd_sizes_are_padded_by_their_border_and_cropped() -> None:
    model, image = network(), picture(67, 93)
    padded = F.pad(image, (0, 96 - 93, 0, 72 - 67), mode="replicate")
    expected = predict_logits(model, padded, "overlap")[..., :67, :93]
    torch.testing.assert_close(predict_logits(model, image, "overlap"), expected)


def test_odd_sizes_above_the_outer_window_are_not_padded() -> None:
    model, image = network(), picture(67, 93)
    expected = plainly_nested(model, image, (64, 64), (32, 32))
    torch.testing.assert_close(predict_logits(model, image), expected, rtol=1e-5, atol=1e-6)


def test_tiles_equal_the_forward_of_the_network() -> None:
    model, image = network(), picture(64, 128)
    for grid in ((1, 1), (2, 2), (2, 4)):
        with torch.no_grad():
            expected = F.interpolate(model(image, grid), size=(64, 128), mode="bilinear", align_corners=False)
        torch.testing.assert_close(predict_logits(model, image, "tiles", grid=grid), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(predict_logits(model, image, "tiles"), expected)  # the detail crop gives 2 x 4


def test_the_context_plan_runs_the_context_alone() -> None:
    model, image = network(), picture(64, 128)
    with torch.no_grad():
        expected = F.interpolate(model.context(image).logits, size=(64, 128), mode="bilinear", align_corners=False)
    seen(model).clear()
    torch.testing.assert_close(predict_logits(model, image, "context"), expected)
    assert seen(model) == [1]


def test_whole_is_the_network_enlarged_and_slide_averages_logits() -> None:
    model, image = single_scale(), picture(60, 100, batch=2)

    def enlarged(part: Tensor) -> Tensor:
        return F.interpolate(model(part), size=part.shape[2:], mode="bilinear", align_corners=False)

    with torch.no_grad():
        torch.testing.assert_close(predict_logits(model, image, "whole"), enlarged(image))
        total, count = torch.zeros(2, CLASSES, 60, 100), torch.zeros(60, 100)
        for box in sliding_windows((60, 100), (48, 40), (20, 30)):
            total[box.index] += enlarged(image[box.index])
            count[box.index] += 1
    slid = predict_logits(model, image, "slide", crop=(48, 40), stride=(20, 30), max_batch=3)
    torch.testing.assert_close(slid, total / count, rtol=1e-5, atol=1e-6)


def test_probabilities_are_the_softmax_of_resized_logits() -> None:
    model, image = network(), picture()
    logits = predict_logits(model, image)
    resized = F.interpolate(logits, size=(70, 150), mode="bilinear", align_corners=False)
    torch.testing.assert_close(predict_probs(model, image, size=(70, 150)), resized.softmax(1))
    torch.testing.assert_close(predict_probs(model, image), logits.softmax(1))


def test_scales_and_flips_average_probabilities() -> None:
    model, image = network(), picture(64, 96)
    views = []
    for size in ((32, 48), (64, 96), (96, 144)):
        scaled = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        for flipped in (False, True):
            logits = predict_logits(model, scaled.flip(3) if flipped else scaled, "overlap")
            probs = F.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False).softmax(1)
            views.append(probs.flip(3) if flipped else probs)
    expected = torch.stack(views).mean(0)
    probs = predict_probs(model, image, "overlap", scales=(0.5, 1.0, 1.5), flip=True)
    torch.testing.assert_close(probs, expected, rtol=1e-5, atol=1e-6)
    logits = predict_logits(model, image, "overlap", scales=(0.5, 1.0, 1.5), flip=True)
    torch.testing.assert_close(logits.softmax(1), expected, rtol=1e-5, atol=1e-6)


def test_with_flips_a_mirrored_image_gives_the_mirrored_result() -> None:
    model, image = network(), picture(64, 96)
    mirrored = predict_logits(model, image.flip(3), flip=True).flip(3)
    torch.testing.assert_close(predict_logits(model, image, flip=True), mirrored, rtol=1e-5, atol=1e-6)


def test_no_gradients_and_the_same_mode_afterwards() -> None:
    model = network().train()
    logits = predict_logits(model, picture().requires_grad_())
    assert not logits.requires_grad
    assert model.training


def test_with_batch_statistics_the_teacher_sees_one_batch_of_contexts_then_one_of_details() -> None:
    model = network().train()
    predict_logits(model, picture(64, 64, batch=2), "overlap")
    assert seen(model) == [2, 9 * 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": torch.zeros(0, 3, 64, 64)}, ImageError, "batch of 0 images"),
        ({"image": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, ImageError, "float tensor .* found torch.uint8"),
        ({"image": torch.zeros(1, 3, 64, 64, dtype=torch.float64)}, ImageError, "float64, the network's weights"),
        ({"image": torch.zeros(3, 64, 64)}, ImageError, r"found torch.float32 \(3, 64, 64\)"),
        ({"image": torch.zeros(1, 1, 64, 64)}, ImageError, "float tensor"),
        ({"image": torch.zeros(1, 3, 0, 64)}, ImageError, "0 x 64 pixels is empty"),
        ({"image": "photo.png"}, ImageError, "found str"),
        ({"plan": "whole"}, BackendError, "'whole' is not one for an HRDA network; .* nested, overlap, tiles, topk"),
        ({"plan": "spiral"}, BackendError, "nested, overlap, tiles, topk, context"),
        ({"crop": (60, 64)}, RecipeError, "multiples of 8, not 60 x 64"),
        ({"stride": (0, 64)}, RecipeError, "stride must lie in"),
        ({"stride": (72, 64)}, RecipeError, "stride must lie in"),
        ({"plan": "tiles", "grid": (0, 1)}, RecipeError, "at least 1 row"),
        ({"scales": ()}, RecipeError, "one or more factors"),
        ({"scales": (1.0, 0.0)}, RecipeError, "one or more factors"),
        ({"max_batch": 0}, RecipeError, "max_batch must be 1 or more"),
    ],
)
def test_bad_input_gets_one_clear_sentence(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"image": picture(), **change}
    with pytest.raises(error, match=message) as raised:
        predict_logits(network(), **arguments)
    assert "\n" not in str(raised.value)


def test_a_single_scale_network_names_its_plans() -> None:
    with pytest.raises(
        BackendError, match="'nested' is not one for a single-scale network; choose one of whole, slide"
    ):
        predict_logits(single_scale(), picture())


def test_half_precision_images_are_fine_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert predict_logits(network(), picture()).isfinite().all()


def test_details_that_cover_no_context_edge_do_not_hide_the_attention() -> None:
    """The merge divides by counts, so equal detail logits everywhere fuse as if there were one crop."""
    model = network()
    constant = torch.ones(1, CLASSES, 8, 8)
    model.detail = lambda crops: constant.expand(len(crops), -1, -1, -1)  # type: ignore[method-assign]
    image = picture(64, 64)
    with torch.no_grad():
        context: ContextOutput = model.context(image)
        expected = model.fuse(context, torch.ones(1, CLASSES, 16, 16))
    found = predict_logits(model, image, "overlap")
    torch.testing.assert_close(found, F.interpolate(expected, size=(64, 64), mode="bilinear", align_corners=False))


def test_importing_inference_loads_no_torch_until_it_is_needed() -> None:
    code = "import sys, hrda_core.inference as inference; sys.exit('torch' in sys.modules or 'torch' in dir(inference))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
    assert all(hasattr(inference, name) for name in inference.__all__)
    assert {"predict_logits", "predict_probs", "plan_flops"} <= set(inference.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = inference.nonsense
