"""BatchNorm over processes: two halves normalise as the whole does, and so do their gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import torchrun
from sync_norm_process import make_network

from hrda_core.trainer.sync_norm import synchronise_norms


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
