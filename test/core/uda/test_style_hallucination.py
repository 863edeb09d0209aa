"""Style hallucination: the reference's values, and how it enters encoders without leaving a trace in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import golden_fixture, relative_error
from tiny_network import TINY
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.models import HRDA, MixTransformer, Segmenter, create_model
from hrda_core.uda.style_hallucination import (
    StyleHallucination,
    attach_styles,
    attached_styles,
    collect_style_prototypes,
    draw_style_weights,
    farthest_point_sampling,
    load_style_tensors,
    style_statistics,
    style_tensors,
)
from hrda_core.window_plan import CropBox

load = golden_fixture()

COUNT = 4


def _network(encoder: str = "mit_b0", hrda: bool = False) -> HRDA | Segmenter:
    torch.manual_seed(0)
    network = create_model("hrda_lite", 5, **TINY | {"encoder": encoder}, hrda=hrda)
    for module in network.modules():
        if isinstance(getattr(module, "drop_path", None), float):
            module.drop_path = 0.0
    return network


def _with_styles(network: HRDA | Segmenter) -> StyleHallucination:
    styles = attach_styles(network, COUNT)
    generator = torch.Generator().manual_seed(1)
    mean, std = torch.rand(2, *styles.proto_mean.shape, generator=generator)
    styles.set_prototypes(mean, std + 0.5)
    return styles


def _weights(seed: int, images: int = 2) -> Tensor:
    return draw_style_weights([np.random.RandomState(seed + image) for image in range(images)], COUNT, 1.0)


def _images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_farthest_points_equal_the_reference(load: Any) -> None:
    expected = load("dg_style")
    points = torch.from_numpy(expected["fps_points"])
    chosen = farthest_point_sampling(points, len(expected["fps_index"]), int(expected["fps_start"]))
    np.testing.assert_array_equal(chosen.numpy(), expected["fps_index"])
    np.testing.assert_array_equal(points[chosen].numpy(), expected["fps_selected"])


def test_stylised_maps_equal_the_reference(load: Any) -> None:
    expected = load("dg_style")
    mean, std = (torch.from_numpy(expected[f"sh_proto_{name}"]) for name in ("mean", "std"))
    styles = StyleHallucination(mean.shape[1], len(mean)).train()
    styles.set_prototypes(mean, std)
    features = torch.from_numpy(expected["sh_x"])
    with styles.drawn([torch.from_numpy(expected["sh_weights"])]):
        doubled = styles(features)
    assert torch.equal(doubled[:2], features)
    assert relative_error(doubled[2:], expected["sh_x_new"]) <= 1e-5


def test_the_new_map_has_the_mixed_statistics_and_keeps_the_content() -> None:
    styles = StyleHallucination(3, 2)
    styles.set_prototypes(torch.tensor([[1.0, 2, 3], [5, 6, 7]]), torch.tensor([[0.5, 1, 2], [1.5, 2, 3]]))
    features = torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    mean, std = style_statistics(styles.stylised(features, torch.tensor([[0.25, 0.75]])))
    torch.testing.assert_close(mean, torch.tensor([[4.0, 5, 6]]))
    torch.testing.assert_close(std, torch.tensor([[1.25, 1.75, 2.75]]))
    correlation = torch.corrcoef(torch.cat([features, styles.stylised(features, torch.tensor([[1.0, 0]]))]).flatten(1))
    assert float(correlation[0, 1]) > 0.5


def test_no_gradient_passes_through_the_statistics() -> None:
    styles = StyleHallucination(1, 1)
    styles.set_prototypes(torch.zeros(1, 1), torch.full((1, 1), 3.0))
    features = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    styles.stylised(features, torch.ones(1, 1)).sum().backward()
    # With the mean's own gradient the sum would not change with the input at all.
    expected = 3 / style_statistics(features)[1]
    torch.testing.assert_close(features.grad, expected[..., None, None].expand(1, 1, 4, 4))


def test_a_constant_channel_stays_finite() -> None:
    styles = StyleHallucination(1, 1)
    styles.set_prototypes(torch.ones(1, 1), torch.ones(1, 1))
    assert torch.isfinite(styles.stylised(torch.full((1, 1, 4, 4), 0.1), torch.ones(1, 1))).all()


@pytest.mark.parametrize(
    "encoder", ["mit_b0", "test_efficientnet", "test_resnet", "test_convnext", "pvt_v2_b0", "densenet121"]
)
def test_from_the_first_map_on_the_batch_is_doubled(encoder: str) -> None:
    network = _network(encoder).train()
    styles, images = _with_styles(network), _images()
    for module in network.backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    plain, weights = network.backbone(images), _weights(7)
    with styles.drawn([weights]):
        maps = network.backbone(images)
    assert [m.shape[0] for m in maps] == [4] * 4
    for level in range(4):
        torch.testing.assert_close(maps[level][:2], plain[level], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[0][2:], styles.stylised(plain[0], weights), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(maps[3][2:], plain[3], rtol=1e-2)


@pytest.mark.parametrize("encoder", ["mit_b0", "test_efficientnet"])
def test_eval_mode_and_passes_outside_are_untouched(encoder: str) -> None:
    network, images = _network(encoder).eval(), _images()
    plain = network.backbone(images)
    styles = _with_styles(network)
    with styles.drawn([_weights(7)]):
        inside = network.backbone(images)
    network.train()
    outside = network.backbone(images)
    assert all(torch.equal(*pair) for pair in zip(plain, inside, strict=True))
    assert all(ours.shape == theirs.shape for ours, theirs in zip(plain, outside, strict=True))


@pytest.mark.parametrize("encoder", ["mit_b0", "test_efficientnet"])
def test_context_and_detail_of_hrda_have_weights_of_their_own(encoder: str) -> None:
    network = _network(encoder, hrda=True).train()
    styles = _with_styles(network)
    assert isinstance(network, HRDA)
    weights = [_weights(7), _weights(8)]
    with styles.drawn(weights):
        output = network.forward_train(_images(), CropBox(16, 48, 0, 32))
    assert output.fused.shape == (4, 5, 16, 16)
    for maps, drawn in ((output.context_features, weights[0]), (output.detail_features, weights[1])):
        torch.testing.assert_close(maps[0][2:], styles.stylised(maps[0][:2], drawn), rtol=1e-4, atol=1e-4)


def test_more_passes_than_weights_and_empty_or_other_prototypes_are_refused() -> None:
    network = _network().train()
    styles = attach_styles(network, COUNT)
    with pytest.raises(RecipeError, match="no prototypes yet"), styles.drawn([_weights(7)]):
        pass
    _with_styles(network)
    filled = attached_styles(network)
    assert filled is not None
    with pytest.raises(RuntimeError, match="more passes"), filled.drawn([]):
        network.backbone(_images())
    with pytest.raises(RecipeError, match="there are 4"), filled.drawn([torch.ones(2, 3)]):
        pass
    with pytest.raises(RecipeError, match="two tensors"):
        filled.set_prototypes(torch.ones(3, 32), torch.ones(3, 32))


def test_weights_and_their_names_stay_and_prototypes_travel_apart() -> None:
    network, other = _network(), _network()
    names = list(network.state_dict())
    assert style_tensors(network) == {}
    styles = _with_styles(network)
    assert list(network.state_dict()) == names
    kept = style_tensors(network)
    assert set(kept) == {f"backbone.style_hallucination.proto_{name}" for name in ("mean", "std")}
    load_style_tensors(other, kept)
    load_style_tensors(_network(), {})
    restored = attached_styles(other)
    assert restored is not None
    assert torch.equal(restored.proto_mean, styles.proto_mean)
    assert torch.equal(restored.proto_std, styles.proto_std)


def test_a_body_that_recomputes_its_stages_is_refused() -> None:
    network = _network("test_efficientnet").train()
    styles = _with_styles(network)
    network.backbone.body.set_grad_checkpointing(True)  # type: ignore[operator,union-attr]
    with pytest.raises(RecipeError, match="gradient_checkpointing"), styles.drawn([_weights(7)]):
        network.backbone(_images())


def test_mit_with_checkpointed_blocks_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        network = _network().train()
        encoder = network.backbone
        assert isinstance(encoder, MixTransformer)
        encoder.checkpoint_blocks = checkpointed
        with _with_styles(network).drawn([_weights(7)]):
            encoder(_images())[3].square().mean().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) > 100
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_weights_follow_the_generators_and_mix_a_few_styles() -> None:
    def generators() -> list[np.random.RandomState]:
        return [np.random.RandomState(seed) for seed in range(500)]

    weights = draw_style_weights(generators(), 64)
    assert weights.shape == (500, 64)
    torch.testing.assert_close(weights.sum(1), torch.ones(500))
    assert torch.equal(weights, draw_style_weights(generators(), 64))
    assert float(weights.amax(1).mean()) == pytest.approx(0.624, abs=0.03)  # Golomb-Dickman constant
    assert len(weights.argmax(1).unique()) > 60
    even = draw_style_weights(generators(), 64, concentration=100.0)
    assert float(even.amax()) < 0.05


@pytest.mark.parametrize("encoder", ["mit_b0", "test_efficientnet"])
def test_prototypes_are_styles_of_training_images(encoder: str) -> None:
    network = _network(encoder).train()
    resting = list(network.backbone.modules())[-1].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [_images() * (1 + step) + step for step in range(4)]
    mean, std = collect_style_prototypes(network.backbone, batches, COUNT, np.random.RandomState(0), scale=0.5)  # type: ignore[arg-type]
    assert mean.shape == std.shape == (COUNT, network.backbone.channels[0])  # type: ignore[index,union-attr]
    assert [module.training for module in network.modules()] == modes
    assert not resting.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.eval()
    halves = nn.functional.interpolate(torch.cat(batches), scale_factor=0.5, mode="bilinear")
    styles = torch.cat(style_statistics(network.backbone(halves)[0]), dim=1)
    nearest = torch.cdist(torch.cat([mean, std], dim=1), styles).min(1)
    assert float(nearest.values.max()) < 1e-2 * float(styles.norm(dim=1).min())
    assert len(nearest.indices.unique()) == COUNT


def test_fewer_images_than_prototypes_are_refused() -> None:
    with pytest.raises(RecipeError, match="5 style prototypes need as many training images, not 2"):
        collect_style_prototypes(MixTransformer("b0"), [_images()], 5, np.random.RandomState(0))
