"""Foreign weights: official DAFormer, HRDA and MIC checkpoints; SegFormer of NVlabs, mmsegmentation, Hugging Face.

`load_mmseg` fills a whole network, `load_backbone` an encoder; docs/research/checkpoints.md says which files load. What
needs the networks is imported at first use, because the process that opens untrusted files does without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hrda_core.interop.accounting import LoadReport
from hrda_core.interop.safe_load import Checkpoint, read_checkpoint
from hrda_core.interop.trusted_convert import Conversion, convert_trusted

if TYPE_CHECKING:
    from hrda_core.interop.guess import Guess, guess_network
    from hrda_core.interop.mmseg import load_backbone, load_mmseg, take_network

__all__ = [
    "Checkpoint",
    "Conversion",
    "Guess",
    "LoadReport",
    "convert_trusted",
    "guess_network",
    "load_backbone",
    "load_mmseg",
    "read_checkpoint",
    "take_network",
]

_LATER = {
    "Guess": "hrda_core.interop.guess",
    "guess_network": "hrda_core.interop.guess",
    "load_backbone": "hrda_core.interop.mmseg",
    "load_mmseg": "hrda_core.interop.mmseg",
    "take_network": "hrda_core.interop.mmseg",
}


def __getattr__(name: str) -> Any:
    """Import what stands in `_LATER` when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'hrda_core.interop' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)
