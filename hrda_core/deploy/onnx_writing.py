"""Traces a module into an ONNX graph and simplifies it. Needs torch and onnx, and `with_constants_folded` onnxruntime.

The tracing exporter is used, not the newer one that captures the program: it is 5 to 20 times faster, keeps the names
of modules in the names of nodes (which the choice of precision reads), and after constants are folded both give the
same operations. For any image size the newer one would reason about symbolic sizes through the encoder's strides for
many minutes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hrda_core.deploy.onnx_graph import basic_optimisations

__all__ = ["trace", "with_constants_folded", "with_weights_in_half"]

_HALF_FROM = 1024
"""Tensors with fewer values than this keep single precision: they weigh nothing, and shapes and scales stay exact."""


def trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    opset: int,
    any_size: Mapping[str, Mapping[int, str]] | None = None,
) -> onnx.ModelProto:
    """Run the module once on `inputs` and record the operations as a graph.

    Args:
        inputs: name to example, in the order of the module's arguments.
        outputs: names of the results.
        opset: version of the ONNX operator set.
        any_size: axes that may have another length later: tensor name to axis to name of the length.

    Returns:
        a graph that the ONNX checker accepts.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of shapes that it keeps; the parity check covers them
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes a buffer
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dict(any_size or {}),
            opset_version=opset,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def with_constants_folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a static graph without what can be computed beforehand: shapes, paddings, norms behind convolutions."""
    # Matrix products with a bias stay what they are: as Gemm they would be wrapped in reshapes.
    tidy = basic_optimisations(model, without=["MatMulAddFusion"])
    _cast_to_bytes_from_float(onnx.shape_inference.infer_shapes(tidy, strict_mode=True).graph, tidy.graph)
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(tidy, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def _cast_to_bytes_from_float(typed: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """TensorRT makes bytes of floats only; ONNX Runtime has merged the casts int64 -> float -> uint8 into one."""
    known = {info.name: info.type.tensor_type.elem_type for info in [*typed.value_info, *typed.input, *typed.output]}
    nodes = []
    for node in graph.node:
        to_bytes = any(entry.name == "to" and entry.i == TensorProto.UINT8 for entry in node.attribute)
        source = node.input[0] if node.input else ""
        if node.op_type == "Cast" and to_bytes and known.get(source) not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            nodes.append(
                helper.make_node("Cast", [source], [f"{source}.float"], name=f"{node.name}/float", to=TensorProto.FLOAT)
            )
            node.input[0] = f"{source}.float"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def with_weights_in_half(whole: onnx.ModelProto) -> bytes:
    """Replace each large float initializer by a half-precision one and a Cast, which loaders fold away."""
    model, casts = onnx.ModelProto(), []
    model.CopyFrom(whole)
    for node in model.graph.node:
        node.ClearField("name")  # optional in ONNX, and a tenth of a megabyte of module paths
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _HALF_FROM:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(_to_half(numpy_helper.to_array(tensor)), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _to_half(values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    return values.astype(np.float16)
