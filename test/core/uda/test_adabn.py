"""New BatchNorm statistics: exactly the target's, nothing else moves, and a failure leaves the network as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_network import TINY
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hrda_core.errors import BackendError, DataError
from hrda_core.inference import predict_logits
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.uda.adabn import reestimate_batchnorm


class _Backbone(nn.Module):
    """One BatchNorm on the image itself: what it must hold is known."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(3) if norm else nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.norm(image)[:, :, ::4, ::4]]


class _Head(nn.Module):
    stride = 4

    def __init__(self, pools: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.pools = pools

    def forward(self, maps: list[Tensor]) -> Tensor:
        context: Tensor = self.norm(maps[0].mean((2, 3), keepdim=True) if self.pools else maps[0])
        return context.expand_as(maps[0])


def _known(norm: bool = True, pools: bool = False) -> Segmenter:
    return Segmenter(_Backbone(norm), _Head(pools)).eval()


def _tiny(hrda: bool = True) -> HRDA | Segmenter:
    torch.manual_seed(0)
    return create_model("hrda_lite", 5, **TINY, hrda=hrda).eval()


def _images(batches: int = 3, size: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [2 + 3 * torch.randn(2, 3, size, size, generator=generator) for _ in range(batches)]


def _layers(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_statistics_become_the_plain_average_over_the_images() -> None:
    network, images = _known(), _images()
    assert reestimate_batchnorm(network, images) == 2
    layer = network.backbone.norm
    everything = torch.stack(images)  # (batches, B, 3, H, W)
    torch.testing.assert_close(layer.running_mean, everything.mean((0, 1, 3, 4)))
    per_batch = everything.transpose(1, 2).flatten(2).var(2)
    torch.testing.assert_close(layer.running_var, per_batch.mean(0))
    # Normalised by the new statistics, the target is centred.
    assert network.backbone(images[0])[0].mean().abs() < 0.1


@pytest.mark.parametrize("hrda", [True, False])
def test_weights_modes_and_momentum_stay(hrda: bool) -> None:
    network = _tiny(hrda).train()
    resting = _layers(network.backbone)[0].eval()
    modes = [module.training for module in network.modules()]
    momentum = [layer.momentum for layer in _layers(network)]
    before = _state(network)
    assert reestimate_batchnorm(network, _images()) == len(_layers(network))
    assert [module.training for module in network.modules()] == modes
    assert not resting.training
    assert [layer.momentum for layer in _layers(network)] == momentum
    after = network.state_dict()
    moved = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_same_images_give_the_same_network_twice() -> None:
    network = _tiny()
    reestimate_batchnorm(network, _images())
    once = _state(network)
    reestimate_batchnorm(network, _images())
    assert all(torch.equal(once[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("plan", ["tiles", "overlap", None])
def test_context_and_detail_of_hrda_count_alike(plan: str | None) -> None:
    """A layer of the shared encoder holds the mean of what the context and the detail call show it."""
    network = _tiny()
    first = next(module for module in network.backbone.modules() if isinstance(module, _BatchNorm))
    seen: list[Tensor] = []
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    reestimate_batchnorm(network, _images(2), plan=plan)
    handle.remove()
    assert len(seen) == 4
    torch.testing.assert_close(first.running_mean, torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)


def test_the_encoder_can_be_kept() -> None:
    network = _tiny()
    before = _state(network)
    count = reestimate_batchnorm(network, _images(), keep_encoder=True)
    assert count == len(_layers(network)) - len(_layers(network.backbone)) > 0
    after = network.state_dict()
    different = [name for name in before if not torch.equal(before[name], after[name])]
    assert different
    assert not any(name.startswith("backbone.") for name in different)


def test_layers_that_a_plan_does_not_run_keep_their_statistics() -> None:
    network = _tiny()
    attention = _layers(network.decode_head.scale_attention)
    kept = [layer.running_var.fill_(3).clone() for layer in attention if layer.running_var is not None]
    assert reestimate_batchnorm(network, _images(), plan="context") == len(_layers(network)) - len(attention)
    assert kept
    assert all(torch.equal(layer.running_var, old) for layer, old in zip(attention, kept, strict=True))  # type: ignore[arg-type]


def test_a_changed_camera_is_made_up_for() -> None:
    """Statistics from images of another gain and offset bring the prediction back to that of the old camera."""
    network, images = _tiny(hrda=False), _images(1)
    reestimate_batchnorm(network, images)
    old = predict_logits(network, images[0], "whole")
    changed = [0.4 * batch - 1 for batch in images]
    unadapted = (predict_logits(network, changed[0], "whole") - old).abs().mean()
    reestimate_batchnorm(network, changed)
    adapted = (predict_logits(network, changed[0], "whole") - old).abs().mean()
    assert adapted < 0.3 * unadapted


def test_a_network_without_batchnorm_reads_no_image() -> None:
    def forbidden() -> Iterator[Tensor]:
        raise AssertionError("an image was read")
        yield

    network = _known(norm=False)
    network.decode_head = nn.Identity()
    assert reestimate_batchnorm(network, forbidden()) == 0


def _breaks() -> Iterator[Tensor]:
    yield _images()[0]
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("images", "plan", "error"),
    [
        ([], "whole", DataError),
        ([_images(1)[0][:1]], "whole", DataError),
        (_images(1), "no such plan", BackendError),
        (_breaks(), "whole", OSError),
    ],
    ids=["no image", "one value a channel", "unknown plan", "reading breaks off"],
)
def test_after_a_failure_the_network_is_as_before(images: Any, plan: str, error: type[Exception]) -> None:
    network = _known(pools=True)
    reestimate_batchnorm(network, _images())
    network.train()
    before = _state(network)
    with pytest.raises(error):
        reestimate_batchnorm(network, images, plan=plan)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(layer.training and layer.momentum == 0.1 for layer in _layers(network))
