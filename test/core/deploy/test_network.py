"""The PyTorch network of a bundle, and the plan in which it sees images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY

from hrda_core.deploy.network import plan_as_run
from hrda_core.inference import Bundle
from hrda_core.models import create_model
from hrda_core.window_plan import PlanChoice

CONTEXT = {"context": {"file": "context.onnx"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"graphs": {"tiles": {"file": "model.onnx", "grid": [1, 1]}}}, PlanChoice("tiles", (1, 1))),
        ({"graphs": {"tiles": {"file": "model.onnx", "grid": [2, 3]}, **CONTEXT}}, PlanChoice("tiles", (2, 3))),
        (
            {"graphs": {"tiles": {"file": "model.onnx", "grid": [2, 2], "overlap": 16}}},
            PlanChoice("tiles", (2, 2), 16),
        ),
        ({"graphs": CONTEXT, "default_plan": "context"}, PlanChoice("tiles", (1, 1))),
    ],
)
def test_an_hrda_network_sees_the_tiles_of_the_bundles_graph(
    changes: dict[str, Any], expected: PlanChoice, tmp_path: Path
) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "bundle", **changes))
    assert plan_as_run(bundle, create_model("hrda_lite", 19, **TINY)) == expected


def test_a_single_scale_network_sees_the_whole_image(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "bundle"))
    single = {key: value for key, value in TINY.items() if key not in ("detail_crop", "attention_channels")}
    assert plan_as_run(bundle, create_model("hrda_lite", 19, **single, hrda=False)) == PlanChoice("whole")
