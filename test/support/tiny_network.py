"""A network small enough for tests: 0.1 M parameters, 64-pixel images in milliseconds."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "encoder": "test_efficientnet",
    "decoder_channels": 8,
    "embed_channels": 8,
    "attention_channels": 8,
    "detail_crop": [32, 32],
}
"""Overrides of the preset `hrda_lite`."""
