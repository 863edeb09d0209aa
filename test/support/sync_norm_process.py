"""One of two processes of test_sync_norm.py, started by torchrun: half of a batch through synchronised BatchNorms."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

from hrda_core.trainer.sync_norm import synchronise_norms


def make_network() -> nn.Sequential:
    """The same small network for every caller, with both kinds of BatchNorm layers that encoders have."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), BatchNormAct2d(4), nn.Conv2d(4, 2, 1))


def main(folder: Path) -> None:
    """Read FOLDER/images.pt, write gradients and state to FOLDER/RANK.pt."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    network = synchronise_norms(make_network()).train()
    images = torch.load(folder / "images.pt")[2 * rank : 2 * rank + 2]
    network(images).square().mean().backward()
    torch.save(([p.grad for p in network.parameters()], network.state_dict()), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
