"""Plain vision transformers of timm under HRDA's decoders."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from hrda_core.deploy.onnx_writing import trace
from hrda_core.errors import CheckpointError, RecipeError
from hrda_core.interop import load_backbone
from hrda_core.models import create_model
from hrda_core.models.plain_vit import PlainViT, is_plain_vit

TINY = "test_vit"  # timm's own test network: patches of 16 pixels
DINOV2 = "vit_small_patch14_dinov2"
SMALL = {"decoder_channels": 8, "embed_channels": 8, "attention_channels": 8, "detail_crop": (32, 32)}


def _encoder(name: str = TINY) -> PlainViT:
    torch.manual_seed(0)
    return PlainViT(name).eval()


@pytest.mark.parametrize("size", [(64, 96), (33, 1), (90, 134)])
def test_maps_have_the_strides_of_every_encoder(size: tuple[int, int]) -> None:
    encoder = _encoder()
    with torch.no_grad():
        maps = encoder(torch.randn(2, 3, *size))
    expected = [
        (2, channels, *(-(-side // stride) for side in size))
        for channels, stride in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(found.shape) for found in maps] == expected


@pytest.mark.parametrize(("name", "patch"), [(TINY, 16), (DINOV2, 14)])
def test_the_third_map_is_that_of_timms_network_on_an_image_of_its_own_grid(name: str, patch: int) -> None:
    theirs = timm.create_model(name, pretrained=False).eval()
    ours = _encoder(name)
    load_backbone(ours, theirs.state_dict())
    rows, columns = theirs.patch_embed.grid_size
    rows, columns = rows // 2 * 2, columns // 2 * 2
    image = torch.randn(1, 3, rows * 16, columns * 16)
    blocks = len(theirs.blocks)
    with torch.no_grad():
        theirs.pos_embed = torch.nn.Parameter(_of_grid(theirs, rows, columns))
        theirs.patch_embed.grid_size, theirs.patch_embed.img_size = (rows, columns), (rows * patch, columns * patch)
        resized = F.interpolate(image, size=(rows * patch, columns * patch), mode="bilinear", align_corners=False)
        expected = theirs.forward_intermediates(
            resized if patch != 16 else image, indices=[blocks * 3 // 4 - 1], intermediates_only=True
        )[0]
        torch.testing.assert_close(ours(image)[2], expected, rtol=1e-4, atol=1e-4)


def _of_grid(network: torch.nn.Module, rows: int, columns: int) -> torch.Tensor:
    height, width = network.patch_embed.grid_size  # type: ignore[union-attr]
    learned = network.pos_embed
    prefix = learned.shape[1] - height * width  # type: ignore[index,operator]
    grid = learned[:, prefix:].reshape(1, height, width, -1).permute(0, 3, 1, 2)  # type: ignore[index,operator]
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([learned[:, :prefix], grid.flatten(2).transpose(1, 2)], 1)  # type: ignore[index]


def test_a_graph_for_any_size_gives_the_maps_of_another_size_than_that_of_the_example() -> None:
    encoder, names = _encoder(), ["a", "b", "c", "d"]
    example, sides = {"image": torch.zeros(1, 3, 64, 96)}, {"image": {2: "height", 3: "width"}}
    graph = trace(encoder, example, names, opset=17, any_size=sides)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    image = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        for found, expected in zip(session.run(names, {"image": image.numpy()}), encoder(image), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_positions_and_pyramid_learn_and_a_used_network_can_be_copied() -> None:
    network = create_model("hrda_dinov2_s", 5, encoder=TINY, **SMALL).train()
    network(torch.randn(2, 3, 64, 64), (2, 2)).square().mean().backward()
    backbone = network.backbone
    assert isinstance(backbone, PlainViT)
    assert backbone.pos_embed is not None
    assert backbone.pos_embed.grad is not None
    assert backbone.pos_embed.grad.abs().sum() > 0
    again = copy.deepcopy(network)
    assert again.state_dict().keys() == network.state_dict().keys()


def test_a_file_of_timm_fills_the_encoder_but_for_the_pyramid(tmp_path: Path) -> None:
    theirs, ours = timm.create_model(TINY, pretrained=False), _encoder()
    for value in theirs.state_dict().values():
        value.normal_()
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    report = load_backbone(ours, tmp_path / "vit.safetensors")
    assert all(name.startswith("enlarge.") for name in report.random)
    assert report.random
    torch.testing.assert_close(ours.pos_embed, theirs.pos_embed)
    torch.testing.assert_close(
        ours.state_dict()["body.model.blocks.0.attn.qkv.weight"], theirs.state_dict()["blocks.0.attn.qkv.weight"]
    )


def test_a_file_of_another_network_is_refused() -> None:
    other = timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict()
    with pytest.raises(CheckpointError, match="of another shape"):
        load_backbone(_encoder(), other)


def test_what_is_no_plain_vit_is_told() -> None:
    assert is_plain_vit(DINOV2)
    assert not is_plain_vit("tf_efficientnet_lite0")
    assert not is_plain_vit("swin_tiny_patch4_window7_224")
    with pytest.raises(RecipeError, match="no plain vision transformer"):
        PlainViT("resnet18")
    with pytest.raises(RecipeError, match="'samvit_base_patch16' of SAM has relative positions of one image size"):
        create_model("hrda_dinov2_s", encoder="samvit_base_patch16")
    with pytest.raises(RecipeError, match="no encoder 'vit_none'"):
        PlainViT("vit_none")
