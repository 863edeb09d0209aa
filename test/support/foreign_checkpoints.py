"""Checkpoints as other codes write them, made up: names and shapes are real, values are not."""

from __future__ import annotations

import gzip
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def manifest(name: str) -> dict[str, Any]:
    """A committed list of names and shapes, `test/golden/NAME.json.gz`."""
    content: dict[str, Any] = json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))
    return content


def constants(shapes: Mapping[str, Iterable[int]], seed: int = 0) -> dict[str, Tensor]:
    """One value for each tensor, all different, spread over its shape without using memory."""
    tensors = {}
    for index, (name, shape) in enumerate(shapes.items()):
        dtype = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        tensors[name] = torch.tensor(1 + index + 10_000 * seed, dtype=dtype).expand(tuple(shape))
    return tensors


def uda_state(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], imnet: Mapping[str, Tensor]) -> OrderedDict:
    """The three networks of a self-training checkpoint under their prefixes."""
    networks = (("model.", student), ("ema_model.", teacher), ("imnet_model.", imnet))
    return OrderedDict((prefix + name, value) for prefix, state in networks for name, value in state.items())


def container(state: Mapping[str, Tensor], **meta: object) -> dict[str, object]:
    """The layout of mmcv: metadata, weights, optimizer."""
    return {"meta": {"epoch": 1, "iter": 40000, **meta}, "state_dict": state, "optimizer": {"state": {}}}


def build_empty(build: Callable[[], nn.Module]) -> Any:
    """A network whose values are whatever the memory held: no time for initialisation."""
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all values."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
