"""Reads an ONNX graph for OpenVINO, and removes what keeps its compiler from making quick code.

- **Any size.** A graph for any size computes the shapes of its tensors, the paddings and the shapes of its biases while
  it runs. That keeps OpenVINO from joining a convolution with its bias and activation. So it is given the one size of
  the image, and all of that becomes constants.
- **Argmax.** OpenVINO 2026 sorts for it (`TopK`), which takes a third of the time of the plan `context`. The lowest
  index of the classes that have the largest value is the same, and quick.

With both `hrda_lite` is 1.2 to 1.4 times as fast as in ONNX Runtime with one thread, and without them as fast as there
(benchmarks/cpu_backends.py).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.errors import BackendError, BundleError, HrdaError, one_line, require, some_of
from hrda_core.memory import lacks_memory

__all__ = ["read_graph", "reason", "require_openvino", "with_quick_argmax"]

_OUTPUTS = {"labels", "confidence"}


def require_openvino() -> Any:
    """Return the package `openvino`, without the one that reports its use to its makers.

    At its import that one reads and writes an id below the home directory, and a damaged or unreadable one ends it.

    Raises:
        MissingPackageError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # = an ImportError, which it expects
    return require("openvino", "openvino")


def read_graph(core: Any, path: Path, size: tuple[int, int] | None) -> Any:
    """Read an ONNX graph.

    Args:
        core: `openvino.Core`.
        path: ONNX file; its weights may lie beside it.
        size: height and width of the images, pixels; None = any.

    Returns:
        `openvino.Model`: `image` uint8 (1, H, W, 3) in, `labels` and `confidence` uint8 (1, H, W) out.

    Raises:
        BackendError: OpenVINO cannot read the graph, or not for this size.
        BundleError: it has other inputs or outputs.
    """
    openvino = require_openvino()
    try:
        model = core.read_model(str(path))
        _check_names(openvino, model, path)
        if model.is_dynamic():
            if size is not None:
                model.reshape({"image": [1, *size, 3]})
            # Not of a graph for one size, which has no shapes to compute: in int8 its weights would become floats.
            _fold_constants(model)
        with_quick_argmax(model)
    except HrdaError:
        raise
    except Exception as error:  # those of C++ come as any: a constant that is divided by 0 is a ValueError
        raise BackendError(
            f"OpenVINO {openvino.__version__.partition('-')[0]} cannot read graph '{path}' ({reason(error)}); run the "
            f"bundle with backend 'onnx'"
        ) from error
    return model


def with_quick_argmax(model: Any) -> int:
    """Replace the argmax over classes of maps (N, classes, H, W) in place; return how many there were.

    Of equal values the first class wins, as ONNX says. Where no class is the largest, because of values that are not
    finite, it is the last one; the confidence of such a pixel is 0.
    """
    found = [node for node in model.get_ordered_ops() if _is_argmax(node)]
    for node in found:
        index = _first_of_the_largest(node.input_value(0))
        for reader in list(node.output(1).get_target_inputs()):
            reader.replace_source_output(index)
    if found:
        model.validate_nodes_and_infer_types()
    return len(found)


def _is_argmax(node: Any) -> bool:
    """Whether a node finds the largest of (N, classes, H, W), and only its index is read, to become another type."""
    if node.get_type_name() != "TopK":
        return False
    count, shape = node.input_value(1).get_node(), node.input_value(0).get_partial_shape()
    wanted = (node.get_attributes().get("axis"), node.get_attributes().get("mode")) == (1, "max")
    one = count.get_type_name() == "Constant" and int(np.asarray(count.data).reshape(-1)[0]) == 1
    if not (wanted and one and len(shape) == 4 and shape[1].is_static) or node.output(0).get_target_inputs():
        return False
    return _becomes_another_type(node.output(1))


def _becomes_another_type(output: Any) -> bool:
    """Whether all that is done with an output is to convert it, with or without squeezing it first."""
    readers = [reader.get_node() for reader in output.get_target_inputs()]
    return bool(readers) and all(
        reader.get_type_name() == "Convert"
        or (reader.get_type_name() == "Squeeze" and _becomes_another_type(reader.output(0)))
        for reader in readers
    )


def _first_of_the_largest(values: Any) -> Any:
    """Index (N, 1, H, W) as float of the first class that has the largest of the values (N, classes, H, W)."""
    ops = require("openvino.opset13", "openvino")
    classes = values.get_partial_shape()[1].get_length()
    axis = np.array([1])
    numbers = ops.constant(np.arange(classes, dtype=np.float32).reshape(1, classes, 1, 1))
    largest = ops.equal(values, ops.reduce_max(values, axis, keep_dims=True))
    candidates = ops.select(largest, numbers, ops.constant(np.float32(classes - 1)))
    return ops.reduce_min(candidates, axis, keep_dims=True).output(0)


def _fold_constants(model: Any) -> None:
    passes = require("openvino.passes", "openvino")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)


def _check_names(openvino: Any, model: Any, path: Path) -> None:
    inputs = [(entry.get_any_name(), entry.get_element_type()) for entry in model.inputs]
    outputs = {name for entry in model.outputs for name in entry.get_names()}
    if inputs != [("image", openvino.Type.u8)] or not outputs >= _OUTPUTS:
        found = some_of([f"{name} ({kind.get_type_name()})" for name, kind in inputs])
        raise BundleError(
            f"graph '{path}' has the inputs {found} and the outputs {some_of(sorted(outputs))}, expected image (u8) "
            f"and {', '.join(sorted(_OUTPUTS))}; export the bundle again with 'hrda export'"
        )


def reason(error: Exception) -> str:
    """Return the last line of OpenVINO's report, without the places in its source that stand before it."""
    if lacks_memory(error):
        return "it asks for more memory than is free"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("Exception from")]
    return (telling or lines or [one_line(error)])[-1][:200]
