"""Checkpoints: one safetensors file, written whole or not at all, and read without running code.

Tensors are named by what they belong to: `student/...`, `teacher/...`, `optimizer/PARAMETER/exp_avg`,
`generator/torch`. What is not a tensor (recipe, iteration) is JSON in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hrda_core.errors import DataError, TextError, reason_of
from hrda_core.plain_files import check_file
from hrda_core.untrusted_text import parse_json
from hrda_core.whole_files import whole_file

__all__ = [
    "CHECKPOINT_NAME",
    "Checkpoint",
    "load_checkpoint",
    "optimizer_tensors",
    "restore_optimizer",
    "save_checkpoint",
    "save_tensors",
]

CHECKPOINT_NAME = "checkpoint.safetensors"

_FORMAT = "hrda_ros training checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        tensors: tensors by name, on the CPU.
        values: plain values.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose name starts with `prefix/`, with the prefix removed."""
        return {
            name.removeprefix(f"{prefix}/"): value
            for name, value in self.tensors.items()
            if name.startswith(f"{prefix}/")
        }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill at any moment, or a full disk, leaves the old file or the new one, whole.

    Raises:
        DataError: the disk is full or the folder is not writable; the old file is kept.
    """
    metadata = {"format": _FORMAT, "values": json.dumps(checkpoint.values)}
    save_tensors(path, _apart(checkpoint.tensors), metadata)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file durably; if that fails, the old file stays whole.

    Raises:
        DataError: as `save_checkpoint`.
    """
    with whole_file(path, durable=True) as part:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        DataError: the file is missing, cut off, or holds something else.
    """
    if not path.exists():
        raise DataError(f"checkpoint '{path}' does not exist; give the folder of a training run")
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise DataError(f"'{path}' is no checkpoint of this version; start a new run")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            values = parse_json(metadata["values"])
            if not isinstance(values, dict):
                raise TextError("its values have no names")
            return Checkpoint(tensors, values)
    except (OSError, SafetensorError, KeyError, TextError) as error:
        reason = reason_of(error)[:120]
        raise DataError(f"checkpoint '{path}' cannot be read ({reason}); it is damaged: start a new run") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, none of which shares memory with another, as a file of safetensors wants them: student
    and teacher hold in common what rests (`resting.py`), and the file has it for each."""
    apart: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        kept = value.detach().cpu().contiguous()
        place = kept.untyped_storage().data_ptr()
        apart[name] = kept.clone() if place in places else kept
        places.add(place)
    return apart


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return the state of an optimiser as tensors named by the network's parameters: `PREFIX/NAME/exp_avg`."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        f"{prefix}/{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned, with the prefix removed.

    Raises:
        LookupError, ValueError: a tensor is of no parameter of the network, or has not its shape.
    """
    parameters = dict(network.named_parameters())
    for name, value in tensors.items():
        parameter, key = parameters[name.rpartition("/")[0]], name.rpartition("/")[2]
        if value.ndim and value.shape != parameter.shape:
            raise ValueError(f"'{name}' has the shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
        # Counters stay on the CPU, as the optimiser keeps them; moments go where the parameter is.
        optimizer.state[parameter][key] = value if value.ndim == 0 else value.to(parameter.device)
