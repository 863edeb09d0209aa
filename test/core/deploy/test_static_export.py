"""Graphs of one image size: every plan equals PyTorch, in the precision asked for, and the bundle stays whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from tiny_network import TINY

from hrda_core.deploy import deploy_graph
from hrda_core.deploy import static_export as static_export_module
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.deploy.half_precision import FLOAT_OPERATIONS, in_half_precision
from hrda_core.deploy.network import load_network
from hrda_core.deploy.static_export import StaticRequest, export_static
from hrda_core.errors import BackendError, BundleError, HrdaError, RecipeError
from hrda_core.inference import Bundle, Predictor, predict_logits
from hrda_core.inference.bundle import change_bundle
from hrda_core.input_scale import InputScale
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import HRDA, create_model
from hrda_core.window_plan import PlanChoice

SIZE = (100, 180)  # of the camera; padded to 128 x 192


def _image(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 10 + 1, size[1] // 10 + 1, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((10, 10, 1), np.uint8))[: size[0], : size[1]])


SCALED = {"mean": [127.5] * 3, "std": [60.0] * 3}


def _write_bundle(folder: Path, preset: str, overrides: dict[str, object]) -> Path:
    torch.manual_seed(0)
    model = create_model(preset, 19, **overrides)
    assert isinstance(model, HRDA)
    with torch.no_grad():  # spread logits and attention, so that neither class nor tile hangs on the last digit
        model.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
        model.decode_head.scale_attention.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    spec = ExportSpec("tiny", preset, {**overrides, **SCALED}, InputScale(), {"licence": "Apache-2.0"}, CITYSCAPES19)
    export_bundle(model, spec, folder, _image(0, (128, 192)))
    return folder


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_bundle(tmp_path_factory.mktemp("lite") / "tiny", "hrda_lite", TINY)


@pytest.fixture(scope="module")
def mit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = {"decoder_channels": 8, "embed_channels": 8, "attention_channels": 8, "detail_crop": [64, 64]}
    return _write_bundle(tmp_path_factory.mktemp("mit") / "tiny", "hrda_mitb0", overrides)


@pytest.fixture
def copy(lite: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lite, tmp_path / "copy"))


def _torch_labels(bundle: Path, image: np.ndarray, plan: str, **options: object) -> np.ndarray:
    """Labels by `predict_logits` on the image as the predictor pads it."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    normalised = (torch.from_numpy(padded).permute(2, 0, 1)[None].float() - 127.5) / 60
    model = load_network(Bundle.open(bundle))
    logits = predict_logits(model, normalised, plan, **options)  # type: ignore[arg-type]
    return logits.argmax(1)[0, :height, :width].numpy()


def test_a_graph_of_a_model_that_was_replaced_meanwhile_goes_into_no_other_bundle(copy: Path) -> None:
    def replaced(line: str) -> None:
        if line.startswith("comparing"):
            changes = {"mean": [1.0] * 3, "std": [2.0] * 3}
            change_bundle(copy, lambda now: ({**now.manifest, "normalisation": changes}, {}))

    request = StaticRequest(PlanChoice("context"), SIZE)
    with pytest.raises(BundleError, match="was replaced while its graph was made: nothing was written"):
        export_static(Bundle.open(copy), request, [_image()], say=replaced)
    assert Bundle.open(copy).static_graphs == ()
    assert not (copy / "graphs").exists()


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        ("tiles", {"grid": (2, 2)}),
        ("tiles", {"grid": (2, 3), "overlap": 8}),
        ("topk", {"grid": (2, 2), "keep": 1}),
        ("topk", {"grid": (1, 3), "keep": 2, "overlap": 8}),
        ("context", {}),
    ],
)
def test_masks_of_a_graph_equal_those_of_the_plan_in_pytorch(copy: Path, plan: str, options: dict[str, object]) -> None:
    report = export_static(Bundle.open(copy), StaticRequest(PlanChoice(plan, **options), SIZE), [_image(1)])  # type: ignore[arg-type]
    assert report.agreement > 0.999
    predictor = Predictor(copy, plan=plan)
    image = _image(2)
    labels = predictor(image).labels
    assert predictor.graph == report.graph
    assert (labels == _torch_labels(copy, image, plan, **options)).mean() > 0.995
    assert len(np.unique(labels)) > 3


def test_the_graph_of_overlap_equals_the_papers_mean_of_half_overlapping_crops(copy: Path) -> None:
    export_static(Bundle.open(copy), StaticRequest(PlanChoice("overlap"), (128, 192)), [_image(1, (128, 192))])
    image = _image(2, (128, 192))
    assert (Predictor(copy, plan="overlap")(image).labels == _torch_labels(copy, image, "overlap")).mean() > 0.995


def test_tiles_that_topk_leaves_out_show_the_context(copy: Path) -> None:
    export_static(Bundle.open(copy), StaticRequest(PlanChoice("topk", keep=1), (128, 192)), [_image(1, (128, 192))])
    image = _image(2, (128, 192))
    context = Predictor(copy, plan="context")(image).labels
    same = (Predictor(copy, plan="topk")(image).labels == context).reshape(2, 64, 2, 96).mean((1, 3)).ravel()
    # The plan `context` enlarges in one step, the others in two: not equal to the last pixel.
    assert sorted(same > 0.95) == [False, True, True, True]
    assert same.min() < 0.9


def test_a_half_precision_graph_is_half_inside_the_networks_and_single_where_it_is_delicate(mit: Path) -> None:
    bundle = mit
    report = export_static(
        Bundle.open(bundle), StaticRequest(PlanChoice("tiles"), (128, 128), "fp16"), [_image(1, (128, 128))]
    )
    assert report.agreement >= 0.999
    model = onnx.load(bundle / report.graph.file)
    kinds = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    by_type: dict[str, set[int]] = {}
    for node in model.graph.node:
        by_type.setdefault(node.op_type, set()).add(kinds.get(node.output[0], 0))
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for kind in FLOAT_OPERATIONS & by_type.keys():
        assert by_type[kind] <= {single}, kind
    assert {"LayerNormalization", "Softmax", "Sigmoid"} <= by_type.keys()
    assert half in by_type["Conv"]
    assert half in by_type["MatMul"]
    inputs = {
        kinds.get(name) for node in model.graph.node if node.op_type == "LayerNormalization" for name in node.input[:1]
    }
    assert inputs == {single}
    assert model.opset_import[0].version == 20
    assert (bundle / report.graph.file).stat().st_size < 0.62 * 4 * sum(
        p.numel() for p in load_network(Bundle.open(bundle)).parameters()
    )


def test_half_precision_of_a_graph_without_networks_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["a"], ["b"], name="/elsewhere/Relu")
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", info[:1], info[1:]))
    with pytest.raises(ValueError, match="encoder or decoder"):
        in_half_precision(model)


def test_graphs_are_static_and_take_bytes_to_bytes(copy: Path) -> None:
    report = export_static(Bundle.open(copy), StaticRequest(PlanChoice("topk"), SIZE), [_image(1)])
    model = onnx.load(copy / report.graph.file)
    image, uint8 = model.graph.input[0], onnx.TensorProto.UINT8
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 128, 192, 3]
    for info in (image, *model.graph.output):
        assert info.type.tensor_type.elem_type == uint8
    readers = {node.op_type for node in model.graph.node if "image" in node.input}
    assert readers == {"Cast"}  # TensorRT takes bytes into a cast only
    shapes = [d for info in model.graph.value_info for d in info.type.tensor_type.shape.dim]
    assert shapes
    assert all(d.HasField("dim_value") for d in shapes)
    assert not {"Shape", "Loop", "If", "NonZero", "ScatterND", "BatchNormalization"} & {
        n.op_type for n in model.graph.node
    }


def test_a_graph_for_one_size_serves_that_size_and_others_go_to_the_graph_for_any(copy: Path) -> None:
    graph = export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles"), SIZE), [_image(1)]).graph
    predictor = Predictor(copy)
    predictor(_image(0))
    assert predictor.graph == graph
    predictor(_image(0, (90, 70)))
    assert predictor.graph.size is None
    predictor(_image(0))
    assert predictor.graph == graph


def test_a_plan_without_a_graph_for_the_size_says_which_sizes_there_are(copy: Path) -> None:
    export_static(Bundle.open(copy), StaticRequest(PlanChoice("topk"), SIZE), [_image(1)])
    predictor = Predictor(copy, plan="topk")
    predictor.warm_up(300, 300)  # nothing to warm up for, and no error: the camera may send the right size
    with pytest.raises(BackendError, match=r"images of 300x200 .* are for 128x192 .* --size 300x200 --plan topk"):
        predictor(_image(0, (300, 200)))
    assert predictor(_image(0)).labels.shape == SIZE


def test_a_second_export_replaces_the_graph_of_the_same_kind_and_leftovers_go(copy: Path) -> None:
    first = export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles"), SIZE), [_image(1)]).graph
    (copy / "graphs" / "killed.onnx.part").write_bytes(b"half")
    second = export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles", overlap=8), SIZE), [_image(1)]).graph
    export_static(Bundle.open(copy), StaticRequest(PlanChoice("context"), SIZE), [_image(1)])
    bundle = Bundle.open(copy)
    assert [graph.plan for graph in bundle.static_graphs] == ["tiles", "context"]
    assert bundle.static_graphs[0] == second != first
    assert {path.name for path in (copy / "graphs").iterdir()} == {Path(g.file).name for g in bundle.static_graphs}


def test_a_graph_below_the_bar_is_refused_and_the_bundle_is_as_it_was(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy / "manifest.yaml").read_bytes()
    monkeypatch.setattr(static_export_module, "MIN_AGREEMENT", {"fp32": 1.1})
    with pytest.raises(BundleError, match="nothing was written"):
        export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles"), SIZE), [_image(1)])
    assert (copy / "manifest.yaml").read_bytes() == before
    assert not (copy / "graphs").exists()
    assert not list(copy.glob("*.part"))
    Bundle.open(copy)


@pytest.mark.parametrize(
    ("request_", "error", "sentence"),
    [
        (
            StaticRequest(PlanChoice("nested"), SIZE),
            BackendError,
            "'nested' does not become a graph; choose one of tiles, overlap",
        ),
        (StaticRequest(PlanChoice("whole"), SIZE), BackendError, "not become a graph of an HRDA network"),
        (
            StaticRequest(PlanChoice("tiles"), SIZE, "fp8"),
            BackendError,
            "precision 'fp8' is not known; choose one of fp32",
        ),
        (StaticRequest(PlanChoice("topk", keep=5), SIZE), RecipeError, "1 to 4 of its 4 detail tiles, not 5"),
        (StaticRequest(PlanChoice("tiles", overlap=60), SIZE), RecipeError, "do not fit into 128 pixels"),
        (StaticRequest(PlanChoice("tiles"), SIZE, "int8"), BackendError, "int8 needs images"),
    ],
)
def test_a_request_that_makes_no_sense_gets_one_sentence(
    lite: Path, request_: StaticRequest, error: type[HrdaError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        export_static(Bundle.open(lite), request_, [_image(1)])
    assert not (lite / "graphs").exists()


def test_a_bundle_that_cannot_be_written_proposes_a_copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # the administrator, who runs CI, may write everywhere
    with pytest.raises(BundleError, match="--out FOLDER"):
        export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles"), SIZE), [_image(1)])


def test_c4_a_full_disk_leaves_the_bundle_as_it_was(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(BundleError, match=r"No space left on device\); nothing was written"):
        export_static(Bundle.open(copy), StaticRequest(PlanChoice("tiles"), SIZE), [_image(1)])
    assert Bundle.open(copy).static_graphs == ()


def test_the_papers_encoder_becomes_a_graph_too(mit: Path) -> None:
    request = StaticRequest(PlanChoice("topk"), (128, 128))
    assert export_static(Bundle.open(mit), request, [_image(1, (128, 128))]).agreement > 0.999


def test_a_decoder_of_stride_8_becomes_a_graph_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    overrides = {"encoder": "test_resnet", "output_stride": 32, "detail_crop": [128, 128]}
    model = create_model("hrda_dlv2_r101", 19, **overrides).eval()
    spec = ExportSpec("t", "hrda_dlv2_r101", {**overrides, **SCALED}, InputScale(), {}, CITYSCAPES19)
    export_bundle(model, spec, tmp_path / "b", _image(0, (128, 192)))
    request = StaticRequest(PlanChoice("tiles"), (128, 128))
    assert export_static(Bundle.open(tmp_path / "b"), request, [_image(1, (128, 128))]).agreement > 0.999


def test_a_single_scale_network_becomes_a_graph_of_plan_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    overrides = {**TINY, "hrda": False}
    network = create_model("hrda_lite", **overrides).eval()
    spec = ExportSpec("single", "hrda_lite", {**overrides, **SCALED}, InputScale(), {}, CITYSCAPES19, grid=(1, 1))
    export_bundle(network, spec, tmp_path / "single", _image(0, (96, 128)))
    graph = export_static(
        Bundle.open(tmp_path / "single"), StaticRequest(PlanChoice("whole"), (90, 120)), [_image(1, (90, 120))]
    ).graph
    assert graph.size == (96, 128)
    image = _image(2, (90, 120))
    padded = np.pad(image, ((0, 6), (0, 8), (0, 0)), mode="edge")
    with torch.inference_mode():
        logits = network((torch.from_numpy(padded).permute(2, 0, 1)[None].float() - 127.5) / 60)
    expected = F.interpolate(logits, scale_factor=4, mode="bilinear").argmax(1)[0, :90, :120].numpy()
    assert (Predictor(tmp_path / "single")(image).labels == expected).mean() > 0.99


@pytest.mark.parametrize(("plan", "options"), [("tiles", {"grid": (2, 2)}), ("context", {})])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_that_makes_masks_in_bands_gives_those_of_the_whole_image(
    copy: Path, plan: str, options: dict[str, object], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = StaticRequest(PlanChoice(plan, **options), SIZE, precision)  # type: ignore[arg-type]
    whole = export_static(Bundle.open(copy), request, [_image(1)])
    expected = Predictor(copy, "onnx", plan, precision=precision)(_image(2))
    monkeypatch.setattr(deploy_graph, "BAND_PIXELS", 192 * 20)  # bands of 16 or 24 rows of 128
    banded = export_static(Bundle.open(copy), request, [_image(1)])
    found = Predictor(copy, "onnx", plan, precision=precision)(_image(2))

    assert banded.nodes > whole.nodes + 20
    assert (found.labels == expected.labels).mean() > 0.999
    same = found.labels == expected.labels
    assert np.abs(found.confidence.astype(int) - expected.confidence)[same].max() <= 1


@pytest.mark.parametrize(("rows", "bands"), [(13, 5), (8, 8), (9, 2), (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (7, 4)])
@pytest.mark.parametrize("factor", [1, 3, 4, 8])
def test_bands_of_any_height_equal_the_whole(rows: int, bands: int, factor: int) -> None:
    logits = torch.randn(2, 5, rows, 6, generator=torch.Generator().manual_seed(rows))
    whole, banded = (
        deploy_graph.DeployGraph(torch.nn.Identity(), torch.nn.Identity(), factor, (0.0,) * 3, (1.0,) * 3, number)
        for number in (1, bands)
    )

    (labels, confidence), (found, sure) = whole.finish(logits), banded.finish(logits)

    assert found.shape == labels.shape == (2, rows * factor, 6 * factor)
    assert (found == labels).float().mean() > 0.999
    assert (sure.int() - confidence.int()).abs().max() <= 1
