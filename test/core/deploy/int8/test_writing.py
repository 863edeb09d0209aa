"""Graphs in int8: which layers, in what form, and that they compute what the arithmetic says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_graph import CLASSES, LAYERS, WIDTH, small_graph, street

from hrda_core.deploy.int8.agreement import measure_agreement, run_in_onnxruntime
from hrda_core.deploy.int8.calibration import activation_ranges
from hrda_core.deploy.int8.layers import quantisable_layers
from hrda_core.deploy.int8.writing import INT8_BACKENDS, quantise, tensors_to_calibrate, with_int8
from hrda_core.errors import BackendError, DataError, RecipeError

ort = pytest.importorskip("onnxruntime")

IMAGES = [street(seed) for seed in range(8)]


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


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
    makers = _makers(model)
    for name in LAYERS:
        for source in makers[name].input[:2]:
            assert makers[source].op_type == "DequantizeLinear", name
    assert makers["stem"].input[1] == "stem.weight"
    assert makers["classifier"].input[1] == "classifier.weight"
    for product in ("products", "attended"):  # of two computed tensors
        assert not any(name.startswith("weights") and "int8" in name for name in makers[product].input)
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
    read = {name for layer in LAYERS for name in makers[layer].input}
    quantised = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {f"{name}.dequantised" for name in quantised} <= read
    for name in ("depthwise", "expand", "project"):
        assert makers[name].input[2] == f"{name}.bias"
    assert not any(value.dtype == np.int32 for value in constants.values())
    # The residual and the attention see the tensors themselves.
    assert makers["residual"].input[1] == "stem_act"
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
    constants = _constants(quantise(small_graph(), IMAGES, backend=backend))
    for name, axis in (("depthwise", 0), ("expand", 0), ("project", 0), ("mix", 1)):
        values = _constants(small_graph())[f"{name}.weight"]
        integers, scale = constants[f"{name}.weight.integers"], constants[f"{name}.weight.scale"]
        steps = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        assert integers.dtype == np.int8
        assert scale.shape == (values.shape[axis],)
        assert np.abs(integers * steps - values).max() <= 0.501 * steps.max()
        others = tuple(i for i in range(values.ndim) if i != axis)
        assert (np.abs(integers.astype(int)).max(others) == 127).all()  # the whole range of each channel is used


def test_the_graph_equals_that_of_the_quantiser_of_onnx_runtime(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        images = iter(IMAGES)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    onnx.save(small_graph(), tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        Reader(),
        op_types_to_quantize=["Conv", "MatMul"],
        nodes_to_quantize=[f"/network/{name}" for name in LAYERS],
        per_channel=True,
        extra_options={
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
        },
    )
    theirs = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "int8.onnx"))
    ours = quantise(small_graph(), IMAGES, method="minmax")
    for name in ("depthwise", "expand", "project", "mix", "classifier"):
        (found,), (expected,) = (_values(model, [name], street(99)) for model in (ours, theirs))
        # Theirs rounds scales otherwise (127.5 steps): a few values fall into the next step.
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean(), name


@pytest.mark.parametrize("backend", INT8_BACKENDS)
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_labels_are_those_of_the_float_graph_on_images_that_were_not_seen(backend: str, method: str) -> None:
    model = small_graph()
    run = run_in_onnxruntime(quantise(model, IMAGES, backend=backend, method=method))
    agreement = measure_agreement(run, run_in_onnxruntime(model), [street(seed) for seed in range(50, 58)])
    assert agreement.labels > 0.97
    assert agreement.confidence < 8


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_kept_layers_stay_as_they_are(backend: str) -> None:
    model = small_graph()
    kept = quantise(model, IMAGES, keep=["/network/dep*", "mix.weight"], backend=backend)
    makers = _makers(kept)
    assert makers["depthwise"].input[1] == "depthwise.weight"
    assert makers["mix"].input[1] == "mix.weight"
    assert makers["project"].input[1] == "project.weight.dequantised"
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
    assert named[0].inputs == ("stem_act",)
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
        assert [t.name for t in written.graph.initializer].count("depthwise.weight.integers") == 1
        makers = _makers(written)
        assert makers["depthwise"].input[1] == makers["twin"].input[1] == "depthwise.weight.dequantised"
    kept = quantise(model, IMAGES, keep=["/network/twin"])
    assert _makers(kept)["depthwise"].input[1] == "depthwise.weight"


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_a_dead_channel_gives_its_bias(backend: str) -> None:
    weight = np.array(_constants(small_graph())["expand.weight"])
    weight[3] = 0
    model = small_graph(expand=weight)
    ((found,), (expected,)) = (
        _values(graph, ["expand"], IMAGES[0]) for graph in (quantise(model, IMAGES, backend=backend), model)
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0, 3], expected[0, 3], atol=1e-3)


def test_a_tensor_without_values_other_than_zero_does_no_harm() -> None:
    model = small_graph(depthwise=np.zeros((WIDTH, 1, 3, 3), np.float32) - 0.0)
    for backend in INT8_BACKENDS:
        (found,) = _values(quantise(model, IMAGES, backend=backend), ["classifier"], IMAGES[0])
        assert np.isfinite(found).all()
        assert found.shape[1] == CLASSES


def test_a_graph_in_half_precision_gets_scales_in_half_precision() -> None:
    model = _in_half(small_graph())
    written = quantise(model, IMAGES)
    constants = _constants(written)
    scales = [value for name, value in constants.items() if name.endswith(".scale")]
    assert scales
    assert all(scale.dtype == np.float16 for scale in scales)
    agreement = measure_agreement(run_in_onnxruntime(written), run_in_onnxruntime(small_graph()), IMAGES)
    assert agreement.labels > 0.97


def _in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Everything from `stem` to `classifier` in fp16."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    inside = False
    nodes = []
    for node in half.graph.node:
        if node.output[0] == "stem":
            inside = True
            nodes.append(onnx.helper.make_node("Cast", ["normalised"], ["normalised.half"], to=TensorProto.FLOAT16))
            node.input[0] = "normalised.half"
        if node.output[0] == "top":
            inside = False
            nodes.append(onnx.helper.make_node("Cast", ["classifier"], ["classifier.float"], to=TensorProto.FLOAT))
        for position, name in enumerate(node.input):
            if name == "classifier" and not inside:
                node.input[position] = "classifier.float"
        nodes.append(node)
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in ("half", "full"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del half.graph.node[:]
    half.graph.node.extend(kept)
    del half.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(half, strict_mode=True)


def test_quantising_leaves_the_graph_that_it_was_given_as_it_was() -> None:
    model = small_graph()
    before = model.SerializeToString()
    for backend in INT8_BACKENDS:
        quantise(model, IMAGES[:1], backend=backend)
    assert model.SerializeToString() == before


def test_ranges_can_be_found_once_and_used_for_any_choice_of_layers() -> None:
    model = small_graph()
    layers = quantisable_layers(model)
    for backend in INT8_BACKENDS:
        ranges = activation_ranges(model, tensors_to_calibrate(model, layers, backend), IMAGES)
        alone = with_int8(model, layers[1:2], ranges, backend)
        assert _makers(alone)["expand"].input[1] == "expand.weight.dequantised"
        assert _makers(alone)["project"].input[1] == "project.weight"
        whole = with_int8(model, layers, ranges, backend)
        assert whole.SerializeToString() == quantise(model, IMAGES, backend=backend).SerializeToString()


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quantise(small_graph(), IMAGES[:1])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_quantised_is_refused_with_a_sentence() -> None:
    model = small_graph()
    with pytest.raises(BackendError, match="one of tensorrt, onnx, not for 'openvino'"):
        quantise(model, IMAGES, backend="openvino")
    with pytest.raises(RecipeError, match=r"no layer matches 'head\*'.* '/network/depthwise' and '/network/mix'"):
        quantise(model, IMAGES, keep=["head*"])
    with pytest.raises(RecipeError, match="calibration method 'max' is not known"):
        quantise(model, IMAGES, method="max")
    with pytest.raises(DataError, match="no image"):
        quantise(model, iter(()))
    with pytest.raises(RecipeError, match="all layers are to stay in floating point"):
        quantise(model, IMAGES, keep=["*"])
    old = small_graph()
    old.opset_import[0].version = 12
    with pytest.raises(BackendError, match="operator set 13 here, the graph has 12"):
        with_int8(old, quantisable_layers(old), {}, "tensorrt")
    bare = small_graph()
    del bare.graph.initializer[:]
    with pytest.raises(BackendError, match="no layer between its first and its last whose weights are constants"):
        quantise(bare, IMAGES)


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
