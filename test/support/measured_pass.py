"""By how much one pass, forwards and backwards, lets a process grow on the CPU: run alone, prints bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from hrda_core.models import HRDA, create_model
from hrda_core.trainer.recipe import ModelConfig
from hrda_core.trainer.resting import rest_weights
from hrda_core.uda.supervised import LossConfig, forward_losses
from hrda_core.window_plan import CropBox


def main(preset: str, overrides: str, batch: str, side: str) -> None:
    """No pass before, whose memory this one would take again."""
    torch.set_num_threads(1)
    values = json.loads(overrides)
    network = create_model(preset, 19, **values).train()
    rest_weights(network, ModelConfig(preset, values))
    before = _peak()
    _run(network, int(batch), int(side))
    print(_peak() - before)


def _peak() -> int:
    """Most bytes so far; `getrusage` would begin with those of the process that started this one."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _run(network: HRDA, batch: int, side: int) -> None:
    height, width = network.detail_crop
    images, labels = torch.randn(batch, 3, side, side), torch.zeros(batch, side, side, dtype=torch.long)
    found = forward_losses(network, images, labels, CropBox(0, height, 0, width), LossConfig())
    torch.autograd.backward(found.total)


if __name__ == "__main__":
    main(*sys.argv[1:])
