"""Checkpoints: one file, written whole or not at all, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from hrda_core.errors import DataError

__all__ = ["CHECKPOINT_NAME", "load_checkpoint", "save_checkpoint"]

CHECKPOINT_NAME = "checkpoint.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; a kill at any moment leaves the old file or the new one, whole."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; anything but tensors and plain values is refused.

    Raises:
        DataError: the file is missing, cut off, or holds something else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"checkpoint '{path}' does not exist; give the folder of a training run") from None
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError ... for damaged files
        raise DataError(f"checkpoint '{path}' cannot be read ({str(error).splitlines()[0][:120]})") from error
    return state
