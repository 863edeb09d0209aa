"""The decoders of the papers' benchmark: equal to the reference, and what is particular to each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import relative_error
from golden_heads import CHANNELS, HEADS, golden_features, golden_head_weights, golden_logits, sample
from torch import Tensor, nn

from hrda_core.models import (
    DAFormerHead,
    DAHead,
    DeepLabV2Head,
    DeepLabV3PlusHead,
    ISAHead,
    SegFormerHead,
    UPerHead,
)
from hrda_core.models.attention_heads import ChannelAttention, PositionAttention
from hrda_core.models.isa_layer import interlaced_attention
from hrda_core.models.neck import deepest_map

WIDTH = {"decoder_channels": 8}
FINEST = {
    "daformer": lambda **options: DAFormerHead((4, 6, 8, 10), 3, embed_channels=8, **WIDTH, **options),
    "segformer": lambda **options: SegFormerHead((4, 6, 8, 10), 3, **WIDTH, **options),
    "uper": lambda **options: UPerHead((4, 6, 8, 10), 3, **WIDTH, **options),
    "dlv3plus": lambda **options: DeepLabV3PlusHead((4, 6, 8, 10), 3, **WIDTH, **options),
}
DEEPEST = {
    "dlv2": lambda **options: DeepLabV2Head((4, 6, 8, 10), 3, **{k: v for k, v in options.items() if k != "norm"}),
    "danet": lambda **options: DAHead((4, 6, 8, 10), 3, **WIDTH, **options),
    "isanet": lambda **options: ISAHead((4, 6, 8, 10), 3, **WIDTH, **options),
}


def _maps(batch: int = 2) -> list[Tensor]:
    """An image of 70 x 90 at strides 4, 8, 16, 32."""
    random = torch.Generator().manual_seed(0)
    sizes = [(18, 23), (9, 12), (5, 6), (3, 3)]
    return [torch.randn(batch, c, *size, generator=random) for c, size in zip((4, 6, 8, 10), sizes, strict=True)]


@pytest.mark.parametrize("name", HEADS)
def test_logits_equal_the_reference(name: str) -> None:
    head = HEADS[name].build().eval()
    head.load_state_dict(golden_head_weights(name))
    with torch.inference_mode():
        logits = head(golden_features()).numpy()
    assert relative_error(sample(logits), golden_logits(name)) <= 1e-4


@pytest.mark.parametrize("name", HEADS)
def test_the_committed_values_are_those_of_the_full_set(shared_dir: Path, name: str) -> None:
    from safetensors.torch import load_file

    with np.load(shared_dir / "golden" / "heads.npz") as full:
        np.testing.assert_array_equal(sample(full[f"logits_{name}"]), golden_logits(name))
        for level, feature in enumerate(golden_features()):
            np.testing.assert_array_equal(full[f"feat{level}"].astype(np.float32), feature.numpy())
    stored = load_file(shared_dir / "golden" / "heads_weights.safetensors")
    weights = golden_head_weights(name)
    names = {key.removeprefix(f"{name}/") for key in stored if key.startswith(f"{name}/")}
    assert names == set(weights)
    assert not [key for key, value in weights.items() if not torch.equal(stored[f"{name}/{key}"].view_as(value), value)]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", FINEST)
def test_pyramid_decoders_answer_on_the_finest_grid(name: str, norm: bool) -> None:
    head = FINEST[name](norm=norm).eval()
    assert head.stride == 4
    with torch.inference_mode():
        assert head(_maps()).shape == (2, 3, 18, 23)


@pytest.mark.parametrize("name", DEEPEST)
def test_the_other_decoders_answer_on_the_deepest_grid(name: str) -> None:
    head = DEEPEST[name]().eval()
    assert head.stride == 32
    assert DEEPEST[name](strides=(4, 8, 8, 8)).stride == 8
    with torch.inference_mode():
        assert head(_maps()).shape == (2, 3, 3, 3)


@pytest.mark.parametrize("name", [*DEEPEST, "dlv3plus"])
def test_a_coarse_deepest_map_is_upsampled_first(name: str) -> None:
    head = (DEEPEST | FINEST)[name](upsample=4).eval()
    features = _maps()
    fine = [*features[:-1], nn.functional.interpolate(features[-1], scale_factor=4, mode="bilinear")[..., :9, :12]]
    with torch.inference_mode():
        logits = head(features)
        head.upsample = 1
        torch.testing.assert_close(logits, head(fine))
    if name in DEEPEST:
        assert head.stride == 8
        assert logits.shape == (2, 3, 9, 12)


@pytest.mark.parametrize("name", [*FINEST, *DEEPEST])
def test_without_norm_there_is_no_batch_norm_and_convolutions_have_a_bias(name: str) -> None:
    head = (FINEST | DEEPEST)[name](norm=False)
    assert not [m for m in head.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.bias is not None for m in head.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", [*FINEST, *DEEPEST])
def test_the_images_of_a_batch_do_not_mix(name: str) -> None:
    torch.manual_seed(0)
    head = (FINEST | DEEPEST)[name]().eval()
    for gate in (m for m in head.modules() if hasattr(m, "gamma")):
        nn.init.ones_(gate.gamma)
    both = _maps()
    with torch.inference_mode():
        torch.testing.assert_close(head(both)[1:], head([feature[1:] for feature in both]))


def test_segformers_unused_classifier_is_in_the_state_but_not_trained() -> None:
    head = SegFormerHead(CHANNELS, 19)
    assert head.state_dict()["conv_seg.weight"].shape == (19, 128, 1, 1)
    assert not head.conv_seg.weight.requires_grad
    assert head.linear_pred.weight.requires_grad


def test_deeplabv2_is_the_sum_of_its_branches() -> None:
    head = DeepLabV2Head((4, 10), 3, dilations=(6, 12, 18, 24)).eval()
    assert [branch.conv.dilation for branch in head.aspp_modules] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    x = torch.randn(1, 10, 9, 9)
    with torch.inference_mode():
        torch.testing.assert_close(head([x, x]), torch.stack([branch(x) for branch in head.aspp_modules]).sum(0))


def test_danet_attends_as_its_equations_say() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 4)
    flat = x.flatten(2)
    position, channel = PositionAttention(8, 2), ChannelAttention()
    for gate in (position.gamma, channel.gamma):
        nn.init.constant_(gate, 0.7)
    with torch.inference_mode():
        query, key, value = (conv(x).flatten(2) for conv in (position.query, position.key, position.value))
        weights = torch.einsum("bci,bcj->bij", query, key).softmax(dim=-1)  # i attends to j
        expected = 0.7 * torch.einsum("bij,bcj->bci", weights, value).view_as(x) + x
        torch.testing.assert_close(position(x), expected)
        # Softmax of (maximum - energy) is softmax of -energy.
        weights = (-torch.einsum("bcn,bdn->bcd", flat, flat)).softmax(dim=-1)
        torch.testing.assert_close(channel(x), 0.7 * torch.einsum("bcd,bdn->bcn", weights, flat).view_as(x) + x)


def test_both_relations_together_reach_every_position_and_each_alone_its_own_set() -> None:
    def mean(x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True).expand_as(x)

    spike = torch.zeros(1, 1, 16, 24)
    spike[0, 0, 3, 5] = 1
    far = interlaced_attention(spike, mean, nn.Identity())  # type: ignore[arg-type]
    assert far.nonzero()[:, 2:].tolist() == [[y, x] for y in (3, 11) for x in (5, 13, 21)]
    near = interlaced_attention(spike, nn.Identity(), mean)  # type: ignore[arg-type]
    assert near[0, 0, :8, :8].gt(0).all()
    assert int(near.gt(0).sum()) == 64
    assert interlaced_attention(spike, mean, mean).gt(0).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (13, 9), (3, 40)])
def test_interlaced_attention_keeps_any_map_size(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(interlaced_attention(x, nn.Identity(), nn.Identity()), x)


def test_the_deepest_map_is_left_alone_without_upsampling() -> None:
    features = _maps()
    assert deepest_map(features, (4, 8, 16, 32)) is features[-1]
