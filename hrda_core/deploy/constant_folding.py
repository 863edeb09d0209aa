"""What ONNX Runtime can compute of a graph before it runs: shapes, paddings, casts of weights. Needs onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from hrda_core.errors import require

__all__ = ["basic_optimisations"]


def basic_optimisations(model: onnx.ModelProto, *, without: Sequence[str] = ()) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic optimisations; they use standard operators only, so it runs everywhere.

    Args:
        model: a graph with its weights, not those in files beside it.
        without: names of optimisations that are left out.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        Exception: ONNX Runtime refuses the graph; its classes of errors are not exported.
    """
    ort = require("onnxruntime", "runtime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="hrda_fold_") as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        providers = ["CPUExecutionProvider"]
        ort.InferenceSession(model.SerializeToString(), options, providers=providers, disabled_optimizers=list(without))
        folded = onnx.load(path)
    used = {node.domain for node in folded.graph.node}
    kept = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    folded.ir_version, folded.producer_name = model.ir_version, model.producer_name
    return folded
