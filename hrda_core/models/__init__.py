"""Networks of the DAFormer and HRDA papers as plain `nn.Module`s: `create_model("hrda_lite", num_classes=19)`.

The names are in `presets.py`; beside it is one file for each encoder and decoder, and docs/research/networks.md has the
table. Names that need torch load it when they are first used, so that the table can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hrda_core.models.presets import PRESETS, NetworkConfig, list_presets, resolve_preset

if TYPE_CHECKING:
    from hrda_core.models.attention_heads import DAHead, ISAHead
    from hrda_core.models.create import build_network, create_model
    from hrda_core.models.daformer_head import DAFormerHead
    from hrda_core.models.deeplab_heads import DeepLabV2Head, DeepLabV3PlusHead
    from hrda_core.models.hrda import HRDA, ContextOutput, TrainOutput
    from hrda_core.models.mix_transformer import MixTransformer
    from hrda_core.models.segformer_head import SegFormerHead
    from hrda_core.models.segmenter import Segmenter
    from hrda_core.models.timm_encoder import TimmEncoder
    from hrda_core.models.uper_head import UPerHead

__all__ = [
    "HRDA",
    "PRESETS",
    "ContextOutput",
    "DAFormerHead",
    "DAHead",
    "DeepLabV2Head",
    "DeepLabV3PlusHead",
    "ISAHead",
    "MixTransformer",
    "NetworkConfig",
    "SegFormerHead",
    "Segmenter",
    "TimmEncoder",
    "TrainOutput",
    "UPerHead",
    "build_network",
    "create_model",
    "list_presets",
    "resolve_preset",
]

_NEEDS_TORCH = {
    "DAFormerHead": "daformer_head",
    "DAHead": "attention_heads",
    "DeepLabV2Head": "deeplab_heads",
    "DeepLabV3PlusHead": "deeplab_heads",
    "HRDA": "hrda",
    "ContextOutput": "hrda",
    "TrainOutput": "hrda",
    "ISAHead": "attention_heads",
    "MixTransformer": "mix_transformer",
    "SegFormerHead": "segformer_head",
    "Segmenter": "segmenter",
    "TimmEncoder": "timm_encoder",
    "UPerHead": "uper_head",
    "build_network": "create",
    "create_model": "create",
}
"""Name -> module of this package that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
