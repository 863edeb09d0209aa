"""BatchNorm over processes: two halves normalise as the whole does, and so do their gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import torchrun
from sync_norm_process import make_network

from hrda_core.trainer.sync_norm import SyncBatchNorm2d, synchronise_norms


@pytest.mark.timeout(200)
def test_two_processes_normalise_as_one_with_the_whole_batch(tmp_path: Path, repository: Path) -> None:
    images = torch.randn(4, 3, 8, 9, generator=torch.Generator().manual_seed(1)) + torch.arange(4).view(4, 1, 1, 1)
    torch.save(images, tmp_path / "images.pt")
    torchrun(2, [str(repository / "test" / "support" / "sync_norm_process.py"), str(tmp_path)])
    whole = make_network().train()
    whole(images).square().mean().backward()
    (grads0, state0), (grads1, state1) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for ours, one, two in zip(whole.parameters(), grads0, grads1, strict=True):
        assert ours.grad is not None
        torch.testing.assert_close((one + two) / 2, ours.grad, rtol=1e-5, atol=1e-6)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(state0[name], value)
        torch.testing.assert_close(state1[name], value)


def test_names_stay_and_evaluation_needs_no_other_process() -> None:
    network = make_network().eval()
    images = torch.randn(2, 3, 8, 9)
    expected, names = network(images), list(network.state_dict())
    replaced = synchronise_norms(network)
    assert list(replaced.state_dict()) == names
    torch.testing.assert_close(replaced(images), expected)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_process_normalises_as_pytorchs_layer_does(
    dtype: torch.dtype, relative: float, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(2)
    plain = torch.nn.BatchNorm2d(6, dtype=torch.float64)
    torch.nn.init.normal_(plain.weight)
    ours = SyncBatchNorm2d(copy.deepcopy(plain).to(torch.promote_types(dtype, torch.float32)))
    images, upstream = 3 + torch.randn(3, 6, 5, 7), torch.randn(3, 6, 5, 7)
    outcomes = []
    for norm, kind in ((plain, torch.float64), (ours, dtype)):
        x = images.to(dtype).to(kind, memory_format=memory_format).requires_grad_()
        out = norm(x)
        (out * upstream).sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == out.dtype == kind
        outcomes.append([out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    for expected, found in zip(*outcomes, strict=True):
        assert float((found.double() - expected).abs().max() / expected.abs().max()) < relative
