"""HRDA's fusion, its training forward, and tiles."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_network import TINY

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
    [{"detail_crop": [30, 32]}, {"context_scale": 1.5}, {"fixed_attention": 2.0}, {"fusion": "magic"}],
)
def test_impossible_overrides_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        create_model("hrda_lite", **{**TINY, **overrides})
