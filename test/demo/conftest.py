"""The demo is not installed: its folder goes on the path, as it does when one of its scripts is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

DEMO = Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(DEMO))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model bundle that needs no training."""
    return write_tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")
