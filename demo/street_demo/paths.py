"""Paths in the source tree: the demo runs from it and is not installed."""

from __future__ import annotations

from pathlib import Path

DEMO = Path(__file__).resolve().parents[1]
ROOT = DEMO.parent

BAG = DEMO / "street_day_dusk"
DEFAULT_MODEL = ROOT / "models" / "hrda_lite"
FASTDDS_PROFILE = ROOT / "config" / "fastdds_large_images.xml"
