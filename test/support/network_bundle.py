"""A bundle of a real network small enough for tests, with weights and a graph for any size: torch, onnx, a few seconds.

Unlike `export_bundle` it compares nothing; what it writes is right by test_export.py.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from tiny_network import TINY

from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.onnx_writing import trace
from hrda_core.inference.bundle import write_manifest
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_core.models import HRDA, create_model
from hrda_core.window_plan import PlanChoice

CHOICES = (PlanChoice("tiles", (2, 2)), PlanChoice("context"))
MEAN = (127.5, 127.5, 127.5)


def write_network_bundle(folder: Path, space: LabelSpace = CITYSCAPES19) -> Path:
    """HRDA with random weights, window plans `tiles` (the default) and `context`; sides are multiples of 64."""
    torch.manual_seed(0)
    network = create_model("hrda_lite", len(space), **TINY).eval()
    assert isinstance(network, HRDA)
    with torch.no_grad():  # spread the logits, so that the winner does not hang on the last digit
        network.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    for choice in CHOICES:
        _write_graph(DeployGraph.for_any_size(folded(network), choice, MEAN, MEAN), folder / f"{choice.name}.onnx")
    manifest = {
        "name": "small",
        "preset": "hrda_lite",
        "overrides": TINY,
        "label_space": space.to_dict(),
        "normalisation": {"mean": list(MEAN), "std": list(MEAN)},
        "input": {"multiple_of": 64, "long_side": 0},
        "context_scale": 0.5,
        "default_plan": "tiles",
        "graphs": {
            choice.name: {"file": f"{choice.name}.onnx", "grid": list(choice.grid or (1, 1))} for choice in CHOICES
        },
        "provenance": {},
    }
    write_manifest(folder, manifest)
    return folder


def _write_graph(graph: DeployGraph, path: Path) -> None:
    names = ("labels", "confidence")
    sizes = {name: {1: "height", 2: "width"} for name in ("image", *names)}
    inputs = {"image": torch.zeros((1, 64, 128, 3), dtype=torch.uint8)}
    onnx.save(trace(graph, inputs, names, opset=17, any_size=sizes), path)
