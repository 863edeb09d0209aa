"""Helpers that several passes over ONNX graphs share. Needs onnx, and `basic_optimisations` onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from hrda_core.errors import require
from hrda_core.scratch import scratch_folder

__all__ = ["basic_optimisations", "drop_unused_operator_sets", "node_name"]


def basic_optimisations(model: onnx.ModelProto, *, without: Sequence[str] = ()) -> onnx.ModelProto:
    """Return the graph after ONNX Runtime's basic optimisations, which use standard operators only.

    Args:
        model: a graph with its weights inside.
        without: names of optimisations that are left out.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        Exception: ONNX Runtime refuses the graph; its classes of errors are not exported.
    """
    ort = require("onnxruntime", "runtime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with scratch_folder("fold") as folder:
        path = folder / "folded.onnx"
        options.optimized_model_filepath = str(path)
        providers = ["CPUExecutionProvider"]
        ort.InferenceSession(model.SerializeToString(), options, providers=providers, disabled_optimizers=list(without))
        folded = onnx.load(path)
    drop_unused_operator_sets(folded)
    folded.ir_version, folded.producer_name = model.ir_version, model.producer_name
    return folded


def drop_unused_operator_sets(model: onnx.ModelProto) -> None:
    """Remove the imports of operator sets that no node uses, since loaders refuse sets that they do not know."""
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def node_name(node: onnx.NodeProto) -> str:
    """Return the name of a node, or of its first result if it has no name."""
    return str(node.name or node.output[0])
