"""The chosen bundle goes to its place whole, and as it was judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core.adaptation.stages.adopt import adopt_bundle
from hrda_core.deploy.samples import Samples
from hrda_core.errors import BundleError
from hrda_core.inference.bundle import Bundle


def test_a_given_model_that_is_replaced_meanwhile_is_not_taken_for_the_one_that_was_judged(tmp_path: Path) -> None:
    """Its files would lie under the manifest, and the provenance, of the old one."""
    given, samples = (
        Bundle.open(write_tiny_bundle(tmp_path / "given")),
        Samples((np.zeros((64, 64, 3), np.uint8),), "made up"),
    )
    adopt_bundle(given, tmp_path / "out", {"choice": "given"}, None, samples)
    kept = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    write_tiny_bundle(tmp_path / "given", weights_mb=1)
    with pytest.raises(BundleError, match=r"model.onnx was changed since the bundle was opened; start again"):
        adopt_bundle(given, tmp_path / "out", {"choice": "given"}, None, samples)
    assert kept == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "out"]
