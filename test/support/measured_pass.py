"""By how much one pass, forwards and backwards, lets a process grow on the CPU: run alone, prints bytes."""

from __future__ import annotations

import json
import resource
import sys

import torch

from hrda_core.models import HRDA, create_model
from hrda_core.trainer.plain_vits import rest_encoder
from hrda_core.uda.supervised import LossConfig, forward_losses
from hrda_core.window_plan import CropBox


def main(preset: str, overrides: str, batch: str, side: str) -> None:
    """No pass before, whose memory this one would take again."""
    torch.set_num_threads(1)
    values = json.loads(overrides)
    network = create_model(preset, 19, **values).train()
    rest_encoder(network, values.get("tuning", "full"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _run(network, int(batch), int(side))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def _run(network: HRDA, batch: int, side: int) -> None:
    height, width = network.detail_crop
    images, labels = torch.randn(batch, 3, side, side), torch.zeros(batch, side, side, dtype=torch.long)
    found = forward_losses(network, images, labels, CropBox(0, height, 0, width), LossConfig())
    torch.autograd.backward(found.total)


if __name__ == "__main__":
    main(*sys.argv[1:])
