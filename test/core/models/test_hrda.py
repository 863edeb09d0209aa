"""HRDA's fusion, its training forward, and tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_network import TINY
from torch import nn

from hrda_core.errors import RecipeError
from hrda_core.models import HRDA, create_model
from hrda_core.models.hrda import ContextOutput, merge_tiles, split_tiles
from hrda_core.window_plan import CropBox


@pytest.fixture(scope="module")
def model() -> HRDA:
    torch.manual_seed(0)
    network = create_model("hrda_lite", num_classes=5, **TINY)
    assert isinstance(network, HRDA)
    return network.eval()


def _image(batch: int = 2, height: int = 64, width: int = 128) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_logits_have_stride_4(model: HRDA) -> None:
    with torch.inference_mode():
        assert model(_image()).shape == (2, 5, 16, 32)


def test_products_come_before_the_upsampling(model: HRDA) -> None:
    context = ContextOutput(torch.randn(1, 5, 4, 4), torch.rand(1, 5, 4, 4), [])
    detail = torch.randn(1, 5, 8, 8)

    def up(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    expected = up(context.attention) * detail + up((1 - context.attention) * context.logits)
    torch.testing.assert_close(model.fuse(context, detail), expected)
    other_order = up(context.attention) * detail + (1 - up(context.attention)) * up(context.logits)
    assert not torch.allclose(expected, other_order)


def test_fixed_attention_0_gives_the_context_and_1_the_detail() -> None:
    image = _image(1)
    for fixed in (0.0, 1.0):
        network = create_model("hrda_lite", num_classes=5, **TINY, fixed_attention=fixed).eval()
        assert isinstance(network, HRDA)
        with torch.inference_mode():
            detail = merge_tiles(network.detail(split_tiles(image, (2, 2))), (2, 2))
            context = F.interpolate(network.context(image).logits, scale_factor=2.0, mode="bilinear")
            torch.testing.assert_close(network(image), detail if fixed else context)


def test_attention_lies_in_0_to_1_with_one_map_a_class_or_one_for_all(model: HRDA) -> None:
    single = create_model("hrda_lite", num_classes=5, **TINY, classwise_attention=False).eval()
    assert isinstance(single, HRDA)
    with torch.inference_mode():
        for network, channels in ((model, 5), (single, 1)):
            attention = network.context(_image()).attention
            assert attention.shape == (2, channels, 8, 16)
            assert 0 <= float(attention.min()) <= float(attention.max()) <= 1


def test_outside_the_detail_crop_only_the_context_counts(model: HRDA) -> None:
    with torch.inference_mode():
        output = model.forward_train(_image(), CropBox(16, 48, 32, 64))
        context = model.context(_image()).logits
        far = (slice(None), slice(None), slice(0, 2), slice(20, 32))  # more than one context cell from the crop
        plain = F.interpolate(context, scale_factor=2.0, mode="bilinear", align_corners=False)
        torch.testing.assert_close(output.fused[far], plain[far])
    assert output.detail.shape == (2, 5, 8, 8)
    assert output.context.shape == (2, 5, 8, 16)


def test_a_crop_of_the_whole_image_equals_inference_with_one_tile(model: HRDA) -> None:
    with torch.inference_mode():
        output = model.forward_train(_image(), CropBox(0, 64, 0, 128))
        torch.testing.assert_close(output.fused, model(_image(), (1, 1)))


def test_all_parts_get_gradients_from_the_fused_prediction() -> None:
    network = create_model("hrda_lite", num_classes=5, **TINY)
    assert isinstance(network, HRDA)
    network.forward_train(_image(), CropBox(0, 32, 0, 32)).fused.square().mean().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not [name for name in silent if not name.endswith("bias")]


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (1, 4), (4, 2)])
def test_merging_undoes_splitting(grid: tuple[int, int]) -> None:
    image = _image()
    torch.testing.assert_close(merge_tiles(split_tiles(image, grid), grid), image)


def test_tiles_of_a_batch_stay_with_their_image() -> None:
    image = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    tiles = split_tiles(image, (2, 2))
    assert tiles[:4].eq(0).all()
    assert tiles[4:].eq(1).all()


def test_parameter_names_follow_the_released_checkpoints(model: HRDA) -> None:
    names = set(model.state_dict())
    for expected in (
        "decode_head.head.embed_layers.3.proj.weight",
        "decode_head.head.fuse_layer.aspp_modules.0.conv.weight",
        "decode_head.head.fuse_layer.aspp_modules.3.pointwise_conv.bn.running_var",
        "decode_head.head.fuse_layer.bottleneck.bn.weight",
        "decode_head.head.conv_seg.bias",
        "decode_head.scale_attention.fuse_layer.conv.weight",
        "decode_head.scale_attention.conv_seg.weight",
    ):
        assert expected in names


@pytest.mark.parametrize(
    "overrides",
    [
        {"detail_crop": [30, 32]},
        {"detail_crop": [0, 32]},
        {"context_scale": 1.5},
        {"context_scale": 0.0},
        {"fixed_attention": 2.0},
        {"fusion": "magic"},
    ],
)
def test_impossible_overrides_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        create_model("hrda_lite", **{**TINY, **overrides})


class _Encoder(nn.Module):
    """Two maps, at strides 4 and 8."""

    channels = (4, 6)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(image)
        return [first, self.second(first)]


class _Head(nn.Module):
    """Logits of one of the maps."""

    def __init__(self, level: int = 0, outputs: int = 5) -> None:
        super().__init__()
        self.level, self.stride = level, (4, 8)[level]
        self.conv = nn.Conv2d(_Encoder.channels[level], outputs, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.conv(maps[self.level])
        return out


def _small(level: int = 0, attention: bool = True, **switches: Any) -> HRDA:
    torch.manual_seed(0)
    switches = {"detail_crop": (32, 32), **switches}
    return HRDA(_Encoder(), _Head(level), _Head(level) if attention else None, **switches).eval()


@pytest.mark.parametrize(
    ("level", "switches", "multiple"),
    [
        (0, {}, 8),
        (1, {}, 16),
        (0, {"context_scale": 0.25}, 16),
        (0, {"context_scale": 0.75}, 16),
        (0, {"context_scale": 1.0}, 4),
        (0, {"context_scale": 0.25, "detail_scale": 0.5}, 16),
        (1, {"context_scale": 0.5, "detail_scale": 0.5}, 16),
    ],
)
def test_any_two_scales_train_and_predict_on_the_grid_of_the_detail_image(
    level: int, switches: dict[str, float], multiple: int
) -> None:
    network = _small(level, **switches)
    assert network.multiple_of == multiple
    detail_scale, context_scale = network.detail_scale, network.context_scale
    image, box = _image(2, 64, 96), CropBox(16, 48, 32, 64)
    height, width = (int(side * detail_scale / network.stride) for side in (64, 96))
    with torch.inference_mode():
        output = network.forward_train(image, box)
        assert output.fused.shape == (2, 5, height, width) == network(image).shape
        cells = int(32 * detail_scale / network.stride)
        assert output.detail.shape == (2, 5, cells, cells)
        small = (int(64 * context_scale / network.stride), int(96 * context_scale / network.stride))
        assert output.context.shape[2:] == small


@pytest.mark.parametrize(("level", "stride"), [(0, 4), (1, 8)])
def test_the_mask_of_the_attention_is_the_box_on_the_context_grid(level: int, stride: int) -> None:
    for switches in ({}, {"context_scale": 0.75}, {"context_scale": 0.25}, {"context_scale": 1.0}):
        network = _small(level, attention=False, fixed_attention=1.0, **switches)
        with torch.inference_mode():
            output = network.forward_train(_image(1, 64, 96), CropBox(32, 64, 32, 64))
        inside = CropBox(32, 64, 32, 64).scaled(network.context_scale / stride)
        assert output.context[inside.index].eq(0).all()
        assert output.context.ne(0).any(dim=1).sum() == output.context[0, 0].numel() - inside.height * inside.width


def test_equal_scales_need_no_enlarging() -> None:
    network = _small(context_scale=1.0)
    with torch.inference_mode():
        context, image = network.context(_image(1, 32, 32)), _image(1, 32, 32)
        detail = network.detail(image)
        expected = context.attention * detail + (1 - context.attention) * context.logits
        torch.testing.assert_close(network(image, (1, 1)), expected)


def test_a_blurred_detail_image_is_halved_and_doubled_before_cropping() -> None:
    network, image, box = _small(blur_detail=True), _image(1, 64, 96), CropBox(16, 48, 32, 64)
    half = F.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False)
    blurred = F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(network.detail_image(image), blurred)
    with torch.inference_mode():
        torch.testing.assert_close(network.forward_train(image, box).detail, network.detail(blurred[box.index]))
    sharp = _small()
    torch.testing.assert_close(sharp.detail_image(image), image)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: _small(attention=False), "one of the two"),
        (lambda: _small(fixed_attention=0.5), "one of the two"),
        (lambda: _small(context_scale=0.5, detail_scale=0.25), r"detail_scale must lie in context_scale..2"),
        (lambda: _small(context_scale=0.75, detail_crop=(40, 48)), "two multiples of 16"),
        (lambda: _small(level=1, detail_crop=(32, 40)), "two multiples of 16"),
        (lambda: HRDA(_Encoder(), _Head(0), _Head(1)), "attention has stride 8, the decoder 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_reason(build: Callable[[], HRDA], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build()
