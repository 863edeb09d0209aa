"""Convolutions with TensorFlow's padding, as one operation."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from hrda_core.deploy.onnx_writing import trace
from hrda_core.deploy.same_padding import pad_inside_convolutions

STRIDE = 32


def _encoder(name: str = "tf_efficientnet_lite0") -> torch.nn.Module:
    torch.manual_seed(0)
    encoder: torch.nn.Module = timm.create_model(name, features_only=True, pretrained=False)
    return encoder.eval()


@pytest.mark.parametrize("size", [(STRIDE, STRIDE), (3 * STRIDE, 2 * STRIDE)])
def test_maps_are_the_same_for_images_on_the_grid(size: tuple[int, int]) -> None:
    encoder, image = _encoder(), torch.randn(1, 3, *size)
    changed = copy.deepcopy(encoder)
    pad_inside_convolutions(changed)
    with torch.no_grad():
        for found, expected in zip(changed(image), encoder(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_image_off_the_grid_would_give_other_maps() -> None:
    # The reason why the graph's images are padded to `multiple_of`: there the rule pads both sides alike.
    encoder, image = _encoder(), torch.randn(1, 3, STRIDE + 1, STRIDE)
    changed = copy.deepcopy(encoder)
    pad_inside_convolutions(changed)
    with torch.no_grad():
        assert changed(image)[0].shape != encoder(image)[0].shape


def test_the_graph_for_any_size_has_no_step_that_pads() -> None:
    operations = []
    for inside in (False, True):
        encoder = _encoder()
        if inside:
            pad_inside_convolutions(encoder)
        names = [f"map{level}" for level in range(5)]
        sides = {"image": {2: "height", 3: "width"}}
        graph = trace(encoder, {"image": torch.zeros(1, 3, 64, 64)}, names, opset=17, any_size=sides).graph
        operations.append([node.op_type for node in graph.node])
    before, after = operations
    assert before.count("Pad") == 5
    assert not {"Pad", "Shape"} & set(after)
    assert after.count("Conv") == before.count("Conv")
