"""Writes 8-bit integers into a static graph: QuantizeLinear and DequantizeLinear around convolutions and products.

`onnxruntime.quantization` does the work with the settings chosen here. Layers of encoder and decoder are quantised:
`Conv`, `MatMul` and `Gemm` with constant weights (`layers.py`). Everything else stays in floating point: the first
convolution, which sees camera pixels, the last layers, whose results are logits and attention, products of two computed
tensors, norms, softmax, sigmoid, fusion, resizing, argmax.

Weights are symmetric int8 with a scale for each output channel; the range of an activation holds all values that were
seen. The rest is written for one of two runtimes, because no form suits both (docs/robot/int8.md has the figures):

- `tensorrt`: activations are in symmetric int8, at the inputs of layers only, so that what follows a layer is fused
with
  it. Biases are in floating point, since TensorRT refuses them as 32-bit integers.
- `onnx`: activations are in uint8 with a zero point, at inputs and results, and biases in int32: ONNX Runtime runs a
  layer in integers only if all of that is there.

Needs onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.deploy.int8.layers import LAYER_KINDS, Layer
from hrda_core.deploy.onnx_graph import drop_unused_operator_sets, node_name
from hrda_core.errors import BackendError, DataError, require
from hrda_core.scratch import scratch_folder

__all__ = ["INT8_BACKENDS", "Ranges", "activation_ranges", "with_int8"]

INT8_BACKENDS = ("tensorrt", "onnx")
"""Runtimes that a graph can be written for."""

Ranges = Any
"""Tensor to its lowest and highest value, as `onnxruntime.quantization` keeps them."""

_ACTIVATIONS = ("Clip", "Relu")
_OPSET = 13
"""First operator set with a scale for each channel."""


def activation_ranges(model: onnx.ModelProto, images: Iterable[npt.NDArray[np.uint8]]) -> Ranges:
    """Run a graph on images and keep the lowest and highest value of each tensor beside a layer.

    Args:
        model: static graph in fp32, constants folded, shapes inferred.
        images: uint8 (1, H, W, 3) RGB of the graph's size, from the domain that the model will see. Each is read when
            it is needed; memory does not grow with their number.

    Raises:
        DataError: there is no image.
        BackendError: an image does not fit the graph, or values of the graph are not finite.
        MissingPackageError: onnxruntime is not installed.
    """
    quantization = require("onnxruntime.quantization", "train")
    feeds: Iterator[dict[str, npt.NDArray[np.uint8]]] = ({"image": image} for image in images)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        count = 0

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            found = next(feeds, None)
            self.count += found is not None
            return found

    reader = Reader()
    with scratch_folder("int8") as folder:
        path = folder / "graph.onnx"
        onnx.save(model, path)
        calibrator = quantization.create_calibrator(path, [*LAYER_KINDS, *_ACTIVATIONS], f"{folder}/watched.onnx")
        try:
            calibrator.collect_data(reader)
            ranges = calibrator.compute_data()
        except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
            if not reader.count:
                raise DataError(
                    "there is no image to calibrate on; give some of the footage that the model is for"
                ) from None
            reason = str(error).splitlines()[0][:200]
            raise BackendError(
                f"the graph cannot be calibrated on these images ({reason}); give images of its size"
            ) from error
    if not all(np.isfinite(limit).all() for found in ranges.values() for limit in found.range_value):
        raise BackendError("the graph computes values that are not finite, so it cannot be calibrated")
    return ranges


def with_int8(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, backend: str) -> onnx.ModelProto:
    """Return the graph with some layers in int8; everything else, inputs and outputs included, stays as it is.

    Args:
        model: as for `activation_ranges`.
        layers: some of `quantisable_layers(model)`; none gives a copy.
        ranges: result of `activation_ranges(model, images)`.
        backend: one of `INT8_BACKENDS`.

    Raises:
        BackendError: the back end is unknown, or the operator set of the graph is too old.
        MissingPackageError: onnxruntime is not installed.
    """
    if backend not in INT8_BACKENDS:
        raise BackendError(f"a graph in int8 is written for one of {', '.join(INT8_BACKENDS)}, not for '{backend}'")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        raise BackendError(f"int8 needs ONNX operator set {_OPSET} here, the graph has {opset}; export it again")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not layers:
        return copy
    for node in copy.graph.node:
        node.name = node_name(node)
    written = _quantised(copy, layers, ranges, backend)
    drop_unused_operator_sets(written)
    del written.graph.value_info[:]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(written, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def _quantised(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, backend: str) -> onnx.ModelProto:
    quantization = require("onnxruntime.quantization", "train")
    kinds = quantization.QuantType
    nodes = [name for layer in layers for name in layer.nodes]
    operations = list(LAYER_KINDS)
    if backend == "tensorrt":
        activation = kinds.QInt8
        options = {"ActivationSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": operations}
    else:
        # What follows a layer is quantised instead of its result: the range of the integers does its work.
        results = {name for layer in layers for name in layer.outputs}
        nodes += [node.name for node in model.graph.node if node.op_type in _ACTIVATIONS and node.input[0] in results]
        activation, options = kinds.QUInt8, {}
        operations += _ACTIVATIONS
    quantizer = quantization.QDQQuantizer(
        model, True, False, kinds.QInt8, activation, ranges, nodes, [], operations, options
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    written: onnx.ModelProto = quantizer.model.model
    return written
