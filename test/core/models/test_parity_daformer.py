"""DAFormer with MiT-B0 against the reference: embeddings, logits, classes, loss, accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden import Golden, argmax_agreement, golden, golden_fixture, relative_error
from golden_weights import golden_weights
from torch import Tensor

from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.segmenter import Segmenter
from hrda_core.uda.losses import pixel_accuracy, segmentation_loss

load = golden_fixture()
Load = Callable[[str], Golden]
FILE = "daformer_mitb0"


@pytest.fixture(scope="module")
def outputs() -> dict[str, Tensor]:
    """Logits at stride 4, and `embed0` to `embed3`."""
    backbone = MixTransformer("b0")
    network = Segmenter(backbone, DAFormerHead(backbone.channels, 19))
    network.load_state_dict(golden_weights("daformer"))
    collected: dict[str, Tensor] = {}
    for level in range(4):

        def keep(module: Any, inputs: Any, output: Tensor, name: str = f"embed{level}") -> None:
            collected[name] = output

        network.get_submodule(f"decode_head.embed_layers.{level}").register_forward_hook(keep)
    with torch.inference_mode():
        collected["logits"] = network.eval()(torch.from_numpy(golden(FILE)["image"]).float())
    return collected


def test_the_embedded_levels_equal_the_reference(load: Load, outputs: dict[str, Tensor]) -> None:
    expected = load(FILE)
    for level in range(4):
        tokens = outputs[f"embed{level}"].flatten(2).transpose(1, 2)[:1, :8]
        assert relative_error(tokens, expected[f"embed{level}_tokens"]) <= 1e-4


def test_logits_and_classes_equal_the_reference(load: Load, outputs: dict[str, Tensor]) -> None:
    expected = load(FILE)
    assert relative_error(expected.sample("logits", outputs["logits"]), expected["logits"]) <= 1e-4
    size = expected["image"].shape[2:]
    upsampled = F.interpolate(outputs["logits"], size=size, mode="bilinear", align_corners=False)
    assert relative_error(upsampled[..., 3::16, 5::16], expected["up_logits_sample"]) <= 1e-4
    assert argmax_agreement(expected.sample("argmax", upsampled.argmax(1)), expected["argmax"]) >= 0.999


def test_loss_and_accuracy_equal_the_reference(load: Load, outputs: dict[str, Tensor]) -> None:
    expected = load(FILE)
    labels = torch.from_numpy(expected["label"][:, 0]).long()
    weight = torch.from_numpy(expected["weight"]).float()
    assert float(segmentation_loss(outputs["logits"], labels)) == pytest.approx(float(expected["loss"]), rel=1e-5)
    weighted = float(segmentation_loss(outputs["logits"], labels, weight))
    assert weighted == pytest.approx(float(expected["loss_weighted"]), rel=1e-5)
    # One pixel of 2 x 128 x 160 is 0.0024 %.
    assert 100 * pixel_accuracy(outputs["logits"], labels) == pytest.approx(expected["acc"].item(), abs=0.01)
