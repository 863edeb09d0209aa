"""Graphs in int8: which layers, in what form, and that they compute what the arithmetic says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_graph import CLASSES, LAYERS, WIDTH, small_graph, street

from hrda_core.deploy.int8.agreement import measure_agreement, run_in_onnxruntime
from hrda_core.deploy.int8.layers import quantisable_layers
from hrda_core.deploy.int8.writing import INT8_BACKENDS, activation_ranges, with_int8
from hrda_core.errors import BackendError, DataError

ort = pytest.importorskip("onnxruntime")

IMAGES = [street(seed) for seed in range(8)]


def quantise(
    model: onnx.ModelProto, images: Iterable[np.ndarray], *, keep: Sequence[str] = (), backend: str = "tensorrt"
) -> onnx.ModelProto:
    """All layers in int8 but those whose name ends as `keep` says."""
    layers = [layer for layer in quantisable_layers(model) if not layer.name.endswith(tuple(keep))]
    return with_int8(model, layers, activation_ranges(model, images), backend)


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def _layers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Nodes of the network by the last part of their names; what a layer gives out may have another name in int8."""
    return {node.name.removeprefix("/network/"): node for node in model.graph.node}


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _values(model: onnx.ModelProto, names: Sequence[str], image: np.ndarray, level: Any = None) -> list[np.ndarray]:
    """What some tensors of a graph hold, computed node by node unless `level` says otherwise."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    kinds = {info.name: info.type.tensor_type.elem_type for info in [*model.graph.value_info, *model.graph.output]}
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(name, kinds[name], None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = level or ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image}))


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_layers_between_the_first_and_the_last_read_integers_and_no_other(backend: str) -> None:
    model = quantise(small_graph(), IMAGES, backend=backend)
    makers, layers = _makers(model), _layers(model)
    for name in LAYERS:
        for source in layers[name].input[:2]:
            assert makers[source].op_type == "DequantizeLinear", name
    assert makers["stem"].input[1] == "stem.weight"
    assert makers["classifier"].input[1] == "classifier.weight"
    assert list(makers["products"].input) == ["channels", "tokens"]  # of two computed tensors
    assert makers["weights"].input[0] == "scores"
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in [*model.graph.input, *model.graph.output]}
    assert kinds == dict.fromkeys(("image", "labels", "confidence"), TensorProto.UINT8)


def test_for_tensorrt_everything_is_symmetric_int8_at_inputs_alone_and_biases_are_floats() -> None:
    model = quantise(small_graph(), IMAGES, backend="tensorrt")
    makers, constants = _makers(model), _constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (scale > 0).all()
    quantised = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert quantised == {"stem_act", "depthwise_act", "expand_act", "attended"}
    for name in ("depthwise", "expand", "project"):
        assert makers[name].input[2] == f"{name}.bias"
    assert not any(value.dtype == np.int32 for value in constants.values())
    # The attention sees the tensors themselves.
    assert makers["tokens"].input[0] == "channels"


def test_onnx_runtime_runs_every_layer_in_integers_if_the_graph_is_written_for_it(tmp_path: Path) -> None:
    found = {
        backend: _optimised_operations(quantise(small_graph(), IMAGES, backend=backend), tmp_path)
        for backend in INT8_BACKENDS
    }
    assert found["onnx"].count("QLinearConv") == 3
    assert found["onnx"].count("QLinearMatMul") == 1
    assert not {"Clip", "Relu"} & set(found["onnx"])  # the range of the integers does it
    assert found["tensorrt"].count("QLinearConv") < 3  # why there are two forms


def _optimised_operations(model: onnx.ModelProto, folder: Path) -> list[str]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_weights_are_off_by_half_a_step_of_their_channel_at_most(backend: str) -> None:
    model = quantise(small_graph(), IMAGES, backend=backend)
    makers, layers, constants = _makers(model), _layers(model), _constants(model)
    for name, axis in (("depthwise", 0), ("expand", 0), ("project", 0), ("mix", 1)):
        values = _constants(small_graph())[f"{name}.weight"]
        integers, scale = (constants[source] for source in makers[layers[name].input[1]].input[:2])
        steps = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        assert integers.dtype == np.int8
        assert scale.shape == (values.shape[axis],)
        assert np.abs(integers * steps - values).max() <= 0.501 * steps.max()
        others = tuple(i for i in range(values.ndim) if i != axis)
        assert (np.abs(integers.astype(int)).max(others) == 127).all()  # the whole range of each channel is used


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_labels_are_those_of_the_float_graph_on_images_that_were_not_seen(backend: str) -> None:
    model = small_graph()
    run = run_in_onnxruntime(quantise(model, IMAGES, backend=backend))
    agreement = measure_agreement(run, run_in_onnxruntime(model), [street(seed) for seed in range(50, 58)])
    assert agreement.labels > 0.97
    assert agreement.confidence < 8


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_kept_layers_stay_as_they_are(backend: str) -> None:
    model = small_graph()
    kept = quantise(model, IMAGES, keep=["/depthwise", "/mix"], backend=backend)
    makers = _makers(kept)
    assert makers["depthwise"].input[1] == "depthwise.weight"
    assert makers["mix"].input[1] == "mix.weight"
    assert makers[makers["project"].input[1]].op_type == "DequantizeLinear"
    nothing = with_int8(model, [], {}, backend)
    assert [node.op_type for node in nothing.graph.node] == [node.op_type for node in model.graph.node]
    names = ["classifier", "confidence"]
    for found, expected in zip(_values(nothing, names, IMAGES[0]), _values(model, names, IMAGES[0]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_layers_are_found_and_described_with_and_without_names_of_nodes() -> None:
    named, unnamed = (quantisable_layers(small_graph(names=names)) for names in (True, False))
    assert [layer.name for layer in named] == [f"/network/{name}" for name in LAYERS]
    assert [layer.name for layer in unnamed] == [f"{name}.weight" for name in LAYERS]
    assert [layer.kind for layer in named] == ["depthwise", "convolution", "convolution", "matmul"]
    assert named[0].outputs == ("depthwise",)
    assert named[3].shape == (WIDTH, WIDTH)


def test_weights_that_two_layers_share_are_written_once_and_kept_together() -> None:
    model = small_graph()
    makers = _makers(model)
    makers["project"].op_type = "Conv"
    twin = onnx.NodeProto()
    twin.CopyFrom(makers["depthwise"])
    twin.name, twin.input[0], twin.output[0] = "/network/twin", "depthwise_act", "twin"
    position = next(i for i, node in enumerate(model.graph.node) if "depthwise_act" in node.output)
    model.graph.node.insert(position + 1, twin)
    makers["expand"].input[0] = "twin"
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    layer = quantisable_layers(model)[0]
    assert layer.outputs == ("depthwise", "twin")
    for backend in INT8_BACKENDS:
        written = quantise(model, IMAGES, backend=backend)
        makers, nodes = _makers(written), _layers(written)
        assert nodes["depthwise"].input[1] == nodes["twin"].input[1]
        assert makers[nodes["twin"].input[1]].op_type == "DequantizeLinear"
    kept = _makers(quantise(model, IMAGES, keep=["/depthwise"]))
    assert kept["depthwise"].input[1] == kept["twin"].input[1] == "depthwise.weight"


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_nodes_without_names_are_quantised_as_those_with(backend: str) -> None:
    image = street(99)
    (named,), (unnamed,) = (
        _values(quantise(small_graph(names=names), IMAGES, backend=backend), ["classifier"], image)
        for names in (True, False)
    )
    np.testing.assert_array_equal(named, unnamed)


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_a_dead_channel_gives_its_bias(backend: str) -> None:
    constants = _constants(small_graph())
    weight, channel = np.array(constants["expand.weight"]), int(constants["expand.bias"].argmax())
    weight[channel] = 0
    model = small_graph(expand=weight)
    ((found,), (expected,)) = (
        _values(graph, ["expand_act"], IMAGES[0]) for graph in (quantise(model, IMAGES, backend=backend), model)
    )
    assert np.isfinite(found).all()
    assert expected[0, channel].min() > 0.1  # the bias
    # ONNX Runtime gives such weights the scale 1, so an integer bias is off by half a step of the input at most.
    step = float(activation_ranges(model, IMAGES)["depthwise_act"].range_value[1][0]) / 255 if backend == "onnx" else 0
    np.testing.assert_allclose(found[0, channel], expected[0, channel], atol=1e-3 + step / 2)


def test_a_tensor_without_values_other_than_zero_does_no_harm() -> None:
    model = small_graph(depthwise=np.zeros((WIDTH, 1, 3, 3), np.float32) - 0.0)
    for backend in INT8_BACKENDS:
        (found,) = _values(quantise(model, IMAGES, backend=backend), ["classifier"], IMAGES[0])
        assert np.isfinite(found).all()
        assert found.shape[1] == CLASSES


def test_quantising_leaves_the_graph_that_it_was_given_as_it_was() -> None:
    model = small_graph()
    before = model.SerializeToString()
    for backend in INT8_BACKENDS:
        quantise(model, IMAGES[:1], backend=backend)
    assert model.SerializeToString() == before


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quantise(small_graph(), IMAGES[:1])
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:All-NaN")
def test_what_cannot_be_quantised_is_refused_with_a_sentence() -> None:
    model = small_graph()
    with pytest.raises(BackendError, match="one of tensorrt, onnx, not for 'openvino'"):
        quantise(model, IMAGES, backend="openvino")
    with pytest.raises(DataError, match="no image"):
        quantise(model, iter(()))
    with pytest.raises(BackendError, match=r"cannot be calibrated on these images .*give images of its size"):
        quantise(model, [np.zeros((1, 8, 8, 3), np.uint8)])
    with pytest.raises(BackendError, match="not finite"):
        quantise(small_graph(expand=np.full((3 * WIDTH, WIDTH, 1, 1), np.inf, np.float32)), IMAGES)
    old = small_graph()
    old.opset_import[0].version = 12
    with pytest.raises(BackendError, match="operator set 13 here, the graph has 12"):
        with_int8(old, quantisable_layers(old), {}, "tensorrt")
    bare = small_graph()
    del bare.graph.initializer[:]
    with pytest.raises(BackendError, match="no layer between its first and its last whose weights are constants"):
        quantise(bare, IMAGES)


def test_images_are_asked_for_one_by_one() -> None:
    asked: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for seed in range(3):
            asked.append(seed)
            yield street(seed)

    ranges = activation_ranges(small_graph(), images())
    assert asked == [0, 1, 2]
    each = [activation_ranges(small_graph(), [street(seed)])["stem_act"].range_value for seed in range(3)]
    assert ranges["stem_act"].range_value == (min(low for low, _ in each), max(high for _, high in each))


@pytest.mark.parametrize("plan", ["tiles", "topk"])
def test_graphs_of_hrda_keep_logits_and_attention_in_floating_point(plan: str) -> None:
    pytest.importorskip("torch")
    model = _hrda_graph(plan)
    names = [name for layer in quantisable_layers(model) for name in layer.nodes]
    assert any("backbone" in name for name in names)
    assert any("head" in name and "fusion" in name for name in names)
    assert not any("conv_seg" in name or "conv_stem" in name for name in names)
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    agreement = measure_agreement(run_in_onnxruntime(quantise(model, [image])), run_in_onnxruntime(model), [image])
    assert agreement.labels > 0.9  # random weights: many pixels hang on the last digit


def _hrda_graph(plan: str) -> onnx.ModelProto:
    import torch
    from tiny_network import TINY

    from hrda_core.deploy.deploy_graph import static_graph
    from hrda_core.deploy.folding import folded
    from hrda_core.deploy.onnx_writing import trace, with_constants_folded
    from hrda_core.models import HRDA, create_model
    from hrda_core.window_plan import PlanChoice, SizeRules, plan_windows

    torch.manual_seed(0)
    network = create_model("hrda_lite", **TINY).eval()
    assert isinstance(network, HRDA)
    with torch.no_grad():
        network.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    windows = plan_windows(PlanChoice(plan, (2, 2)), 128, 128, SizeRules(multiple_of=64))
    inputs = {"image": torch.zeros(1, 128, 128, 3, dtype=torch.uint8)}
    module = static_graph(folded(network), windows, (127.5,) * 3, (127.5,) * 3)
    return with_constants_folded(trace(module, inputs, ["labels", "confidence"], opset=20))
