"""Write 8-bit integers into a static graph: QuantizeLinear and DequantizeLinear around convolutions and products.

Quantised are layers of encoder and decoder: `Conv`, `MatMul` and `Gemm` with constant weights. What stays in floating
point, whatever the network:

- the first convolution, which sees camera pixels, and the last layers, whose results are logits and attention;
- products of two computed tensors (attention), norms, softmax, sigmoid, fusion, resizing, argmax;
- layers that `keep` names, and all layers that share weights with one that stays.

Weights are symmetric int8 with a scale for each output channel. The rest is written for one of two runtimes, because no
form suits both (docs/robot/int8.md has the figures):

- `tensorrt`: activations in symmetric int8, at the inputs of layers only, so that what follows a layer is fused with
  it; biases in floating point, since TensorRT refuses them as 32-bit integers;
- `onnx`: activations in uint8 with a zero point, at inputs and results, biases in int32: ONNX Runtime runs a layer in
  integers only if all of that is there.

Needs onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hrda_core.deploy.int8.calibration import Progress, Ranges, activation_ranges
from hrda_core.deploy.int8.layers import Layer, layers_kept, node_attribute, quantisable_layers
from hrda_core.errors import BackendError

__all__ = ["INT8_BACKENDS", "quantise", "tensors_to_calibrate", "with_int8"]

INT8_BACKENDS = ("tensorrt", "onnx")
"""Runtimes that a graph can be written for."""

_ACTIVATIONS = ("Relu", "Clip")
_SMALLEST_SCALE = 1e-6
_OPSET, _OPSET_OF_HALF = 13, 19  # first operator sets with a scale for each channel, and with half-precision scales


def quantise(
    model: onnx.ModelProto,
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    method: str = "percentile",
    keep: Collection[str] = (),
    backend: str = "tensorrt",
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """Calibrate a static graph on images and write its layers in int8.

    Args:
        model: static graph in fp32, or in fp16 with its delicate parts in fp32; constants folded, shapes inferred.
        images: uint8 (1, H, W, 3) RGB of the graph's size, from the domain that the model will see; see
            `activation_ranges`, also for `method` and `progress`.
        keep: layers that stay in floating point: patterns (`*`, `?`) of their names, nodes or weights.
        backend: one of `INT8_BACKENDS`.

    Raises:
        BackendError: unknown back end, no layer that can be quantised, or an operator set that is too old.
        RecipeError: unknown method, a pattern that no layer matches, or all layers kept.
        DataError: no image.
    """
    layers = quantisable_layers(model)
    chosen = [layer for layer in layers if layer not in layers_kept(layers, keep)]
    tensors = tensors_to_calibrate(model, chosen, backend)
    ranges = activation_ranges(model, tensors, images, method=method, progress=progress)
    return with_int8(model, chosen, ranges, backend)


def tensors_to_calibrate(model: onnx.ModelProto, layers: Sequence[Layer], backend: str) -> list[str]:
    """Tensors whose ranges `with_int8` needs.

    Raises:
        BackendError: unknown back end.
    """
    if backend not in INT8_BACKENDS:
        raise BackendError(f"a graph in int8 is written for one of {', '.join(INT8_BACKENDS)}, not for '{backend}'")
    tensors = [name for layer in layers for name in layer.inputs]
    if backend == "onnx":
        tensors += _results(model, layers).values()
    return list(dict.fromkeys(tensors))


def with_int8(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, backend: str) -> onnx.ModelProto:
    """The graph with some layers in int8; everything else, inputs and outputs stay what they are.

    Args:
        model: as for `quantise`.
        layers: some of `quantisable_layers(model)`; none gives a copy.
        ranges: of at least `tensors_to_calibrate(model, layers, backend)`.
        backend: one of `INT8_BACKENDS`.

    Raises:
        BackendError: unknown back end, or the operator set of the graph is too old.
    """
    _check_opset(model, layers)
    wanted = tensors_to_calibrate(model, layers, backend)
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    writer = _Writer(quantised, layers, {name: ranges[name] for name in wanted}, backend)
    nodes = [node for original in quantised.graph.node for node in writer.written(original)]
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    quantised.graph.initializer.extend(writer.constants)
    _drop_unused_initializers(quantised.graph)
    del quantised.graph.value_info[:]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(quantised, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


class _Writer:
    """Gives for each node the nodes that take its place, and collects their constants."""

    def __init__(self, model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, backend: str) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        kinds = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
        self._for_tensorrt = backend == "tensorrt"
        self._layers = {name: layer for layer in layers for name in layer.outputs}
        self._steps = {name: _step(limits, self._for_tensorrt, kinds[name]) for name, limits in ranges.items()}
        # Everybody reads these in integers: ONNX Runtime runs a layer in integers if nobody wants its result as float.
        self._for_all = set() if self._for_tensorrt else set(_results(model, layers).values())
        self._users = [node for node in model.graph.node if node.output[0] in self._layers]
        self._scales: dict[str, npt.NDArray[Any]] = {}
        self.constants: list[TensorProto] = []

    def written(self, node: NodeProto) -> Iterator[NodeProto]:
        """The node, reading integers through DequantizeLinear; a tensor becomes integers right after it is made."""
        layer = self._layers.get(node.output[0])
        if layer is not None:
            yield from self._parameters_of(layer, node)
        for position, name in enumerate(node.input):
            is_input = layer is not None and position == 0
            if name in self._steps and (is_input or name in self._for_all):
                node.input[position] = f"{name}.dequantised"
        yield node
        for name in node.output:
            if name in self._steps:
                scale = self._constants(name, *self._steps[name])
                yield _node("QuantizeLinear", name, [name, *scale], f"{name}.int8")
                yield _node("DequantizeLinear", name, [f"{name}.int8", *scale], f"{name}.dequantised")

    def _parameters_of(self, layer: Layer, node: NodeProto) -> Iterator[NodeProto]:
        """Weights, once, and for ONNX Runtime the node's bias, in integers."""
        if layer.weight not in self._scales:
            values = numpy_helper.to_array(self._weights[layer.weight])
            axis = _output_axis(node, values.ndim)
            floor = max(
                (self._smallest_scale(user) for user in self._users if user.input[1] == layer.weight), default=0.0
            )
            scales = self._scales[layer.weight] = _channel_scales(values, axis, floor)
            side = [-1 if i == axis else 1 for i in range(values.ndim)]
            integers = np.clip(np.rint(values / scales.reshape(side)), -127, 127).astype(np.int8)
            yield self._dequantised(layer.weight, integers, scales, axis)
        bias = self._bias(node)
        if bias is not None:
            scales = self._steps[node.input[0]][0] * self._scales[layer.weight]
            limits = np.iinfo(np.int32)
            integers = np.clip(np.rint(bias.astype(np.float64) / scales), limits.min + 1, limits.max).astype(np.int32)
            name = f"{node.output[0]}.bias"
            yield self._dequantised(name, integers, scales.astype(bias.dtype), 0)
            node.input[2] = f"{name}.dequantised"
        node.input[1] = f"{layer.weight}.dequantised"

    def _bias(self, node: NodeProto) -> npt.NDArray[Any] | None:
        """The bias that is to be quantised."""
        if self._for_tensorrt or len(node.input) < 3 or node.input[2] not in self._weights:
            return None
        return np.asarray(numpy_helper.to_array(self._weights[node.input[2]]))

    def _smallest_scale(self, node: NodeProto) -> float:
        """Of weights, so that the bias fits into 32 bits."""
        bias = self._bias(node)
        if bias is None:
            return 0.0
        return float(np.abs(bias).max(initial=0) / (float(self._steps[node.input[0]][0]) * 2**30))

    def _dequantised(self, name: str, integers: npt.NDArray[Any], scales: npt.NDArray[Any], axis: int) -> NodeProto:
        self.constants.append(numpy_helper.from_array(integers, f"{name}.integers"))
        scale = self._constants(name, scales, np.zeros(scales.shape, integers.dtype))
        return _node("DequantizeLinear", name, [f"{name}.integers", *scale], f"{name}.dequantised", axis=axis)

    def _constants(self, name: str, scale: npt.NDArray[Any], zero: npt.NDArray[Any]) -> list[str]:
        names = [f"{name}.scale", f"{name}.zero_point"]
        self.constants += [numpy_helper.from_array(value, key) for value, key in zip((scale, zero), names, strict=True)]
        return names


def _node(operation: str, name: str, inputs: list[str], output: str, axis: int | None = None) -> NodeProto:
    return helper.make_node(operation, inputs, [output], name=f"{name}/{operation}", axis=axis)


def _step(limits: tuple[float, float], symmetric: bool, kind: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scale and zero point of a tensor with values in a range that contains 0."""
    lowest, highest = limits
    dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    width = max(highest, -lowest) / 127 if symmetric else (highest - lowest) / 255
    scale = np.maximum(np.array(width, dtype), np.finfo(dtype).tiny)
    zero = np.array(0, np.int8) if symmetric else np.array(round(-lowest / float(scale)), np.uint8)
    return np.asarray(scale, dtype), zero


def _channel_scales(values: npt.NDArray[Any], axis: int, floor: float) -> npt.NDArray[Any]:
    """Scale of each output channel, in the format of the weights."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.maximum(np.abs(values.astype(np.float32)).max(others) / 127, floor).astype(values.dtype)
    # Channels that are 0 everywhere, or too small for this format: a scale must be above 0.
    return np.asarray(np.maximum(scales, np.array(_SMALLEST_SCALE, values.dtype)))


def _results(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Result of each node of a layer -> the tensor to quantise for it: behind an activation that alone reads it."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for name in (name for layer in layers for name in layer.outputs):
        follows = readers.get(name, [])
        activated = len(follows) == 1 and follows[0].op_type in _ACTIVATIONS and follows[0].input[0] == name
        found[name] = follows[0].output[0] if activated else name
    return found


def _output_axis(node: NodeProto, dimensions: int) -> int:
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and node_attribute(node, "transB", 0)
    return 0 if transposed else dimensions - 1


def _check_opset(model: onnx.ModelProto, layers: Sequence[Layer]) -> None:
    half = {layer.weight for layer in layers} & {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16
    }
    needed = _OPSET_OF_HALF if half else _OPSET
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if found < needed:
        raise BackendError(f"int8 needs ONNX operator set {needed} here, the graph has {found}; export it again")


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
