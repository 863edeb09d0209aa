"""The layers that lose most are found, and as few of them as needed stay in floating point."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from small_graph import LAYERS, WIDTH, small_graph, street

from hrda_core.deploy.int8.agreement import measure_agreement, run_in_onnxruntime
from hrda_core.deploy.int8.layers import quantisable_layers
from hrda_core.deploy.int8.search import layer_losses, quantise_to_agree
from hrda_core.deploy.int8.writing import INT8_BACKENDS, activation_ranges
from hrda_core.errors import BackendError, DataError

pytest.importorskip("onnxruntime")

IMAGES = [street(seed) for seed in range(6)]


def _graph_that_loses_in_project() -> object:
    """`project` reads channels of which one is 300 times as large as the others and hardly counts."""
    model = small_graph()
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    expand, project = (np.array(numpy_helper.to_array(weights[f"{n}.weight"])) for n in ("expand", "project"))
    bias = np.array(numpy_helper.to_array(weights["expand.bias"]))
    expand[0], bias[0] = np.abs(expand[0]) * 300, 300
    project[:, 0] = 0
    weights["expand.bias"].CopyFrom(numpy_helper.from_array(bias, "expand.bias"))
    for name, value in (("expand", expand), ("project", project)):
        weights[f"{name}.weight"].CopyFrom(numpy_helper.from_array(value, f"{name}.weight"))
    return model


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_the_layer_that_loses_most_comes_first(backend: str) -> None:
    model = _graph_that_loses_in_project()
    layers = quantisable_layers(model)
    losses = layer_losses(model, layers, activation_ranges(model, IMAGES), IMAGES[:2], backend=backend)
    changed = [loss.changed for loss in losses]
    assert sorted(loss.layer.name for loss in losses) == sorted(f"/network/{name}" for name in LAYERS)
    assert changed == sorted(changed, reverse=True)
    assert "project" in losses[0].layer.name or (backend == "onnx" and "expand" in losses[0].layer.name)
    assert changed[0] > 0.03
    assert changed[-1] < 0.03


def test_only_the_layers_that_have_to_stay_in_floating_point() -> None:
    model, lines = _graph_that_loses_in_project(), []
    result = quantise_to_agree(model, IMAGES, target=0.97, target_worst=0.95, say=lines.append)
    assert result.kept == ("/network/project",)
    assert result.layers == len(LAYERS)
    assert result.agreement.labels >= 0.97
    measured = measure_agreement(run_in_onnxruntime(result.model), run_in_onnxruntime(model), IMAGES)
    assert measured == result.agreement
    assert "calibrating 4 layers on 6 images" in lines[0]
    assert any("0 layers in floating point" in line for line in lines)
    assert result.backend == "tensorrt"


def test_a_graph_that_agrees_at_once_keeps_nothing_and_no_layer_is_tried() -> None:
    lines: list[str] = []
    result = quantise_to_agree(small_graph(), IMAGES, target=0.9, target_worst=0.9, say=lines.append)
    assert result.kept == ()
    assert not any("looking for the layers" in line for line in lines)


def test_a_graph_that_half_of_the_layers_cannot_save_is_refused() -> None:
    with pytest.raises(
        BackendError, match=r"with 2 of 4 layers in floating point; expected 100\.0% .*use fp16 or fp32"
    ):
        quantise_to_agree(_graph_that_loses_in_project(), IMAGES, target=1.0)


def test_the_worst_image_counts_too() -> None:
    model = small_graph()
    free = quantise_to_agree(model, IMAGES, target=0.5, target_worst=0.5)
    strict = quantise_to_agree(model, IMAGES, target=0.5, target_worst=free.agreement.worst + 1e-4)
    assert strict.agreement.worst > free.agreement.worst
    assert strict.kept


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="no image to calibrate on"):
        quantise_to_agree(small_graph(expand=np.ones((3 * WIDTH, WIDTH, 1, 1), np.float32)), [])
