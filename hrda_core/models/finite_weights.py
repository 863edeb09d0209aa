"""Refuses tensors with NaN or infinite values: they load and run without an error, and every pixel becomes class 0."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hrda_core.errors import HrdaError

__all__ = ["check_finite", "not_finite"]

_SHOWN = 3


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinite values; those without values hold none."""
    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point()
        and value.layout is torch.strided
        and not value.is_meta
        # PyTorch has no `isfinite` for numbers of one byte, which become larger ones as they are.
        and not bool(torch.isfinite(value.float() if value.element_size() == 1 else value).all())
    ]


def check_finite(tensors: Mapping[str, Tensor], what: str, todo: str, error: type[HrdaError]) -> None:
    """Check that all values are finite.

    Args:
        what: begin of the sentence: whose tensors they are.
        todo: its end: what to do.
        error: class of the error.

    Raises:
        HrdaError: they are not, as `error`; the first names are in the sentence.
    """
    if bad := not_finite(tensors):
        more = f" ... and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise error(
            f"{what} {len(bad)} of {len(tensors)} tensors with NaN or infinite values "
            f"({', '.join(bad[:_SHOWN])}{more}); {todo}"
        )
