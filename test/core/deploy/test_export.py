"""From a network to a bundle that equals it."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from tiny_network import TINY

from hrda_core.deploy import export as export_module
from hrda_core.deploy import onnx_writing
from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.export import ExportSpec, export_bundle, tiles_for
from hrda_core.deploy.network import load_network
from hrda_core.errors import AnswerError, BackendError, BundleError
from hrda_core.inference import Bundle, Predictor, predict_logits
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.bundle import change_bundle
from hrda_core.input_scale import InputScale
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import HRDA, create_model

SPEC = ExportSpec(
    name="tiny",
    preset="hrda_lite",
    overrides=TINY,
    scale=InputScale(),
    provenance={"licence": "Apache-2.0", "iterations": 0},
    label_space=CITYSCAPES19,
)


def _model() -> HRDA:
    torch.manual_seed(0)
    network = create_model("hrda_lite", **TINY)
    assert isinstance(network, HRDA)
    with torch.no_grad():  # spread the logits, so that the winner does not hang on the last digit
        network.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    return network.eval()


def _image(height: int = 150, width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "tiny"
    export_bundle(_model(), SPEC, folder, _image())
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_c8_a_network_that_is_not_finite_is_not_exported(tmp_path: Path, value: float) -> None:
    network = _model()
    with torch.no_grad():
        next(network.backbone.parameters())[0] = value
    with pytest.raises(BundleError, match=r"1 of \d+ tensors with NaN or infinite values \(backbone"):
        export_bundle(network, SPEC, tmp_path / "b", _image())
    assert not list(tmp_path.iterdir())


def test_m11_c8_a_network_whose_answer_is_not_finite_is_not_exported(tmp_path: Path) -> None:
    network = _model()
    with torch.no_grad():  # finite weights, and logits beyond what single precision holds
        network.decode_head.head.conv_seg.weight.fill_(3e38)  # type: ignore[union-attr,operator]
    with pytest.raises((AnswerError, BundleError)):
        export_bundle(network, SPEC, tmp_path / "b", _image())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
def test_c4_a_full_disk_leaves_nothing_and_keeps_the_old_bundle(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    if old:
        shutil.copytree(exported, tmp_path / "b")
    before = sorted(tmp_path.rglob("*"))

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match=r"cannot be written \(.*[Nn]o space left"):
        export_bundle(_model(), SPEC, tmp_path / "b", _image())
    assert sorted(tmp_path.rglob("*")) == before


def test_c8_the_weights_of_a_bundle_are_finite_or_it_is_not_loaded(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "b")
    weights = load_file(tmp_path / "b/model.safetensors")
    weights["decode_head.head.conv_seg.bias"][0] = float("nan")
    change_bundle(tmp_path / "b", lambda now: (now.manifest, {"model.safetensors": save(weights)}))
    with pytest.raises(BundleError, match=r"model\.safetensors has 1 of"):
        load_network(Bundle.open(tmp_path / "b"))


def test_weights_that_change_after_the_bundle_was_opened_are_not_loaded(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "b")
    bundle = Bundle.open(tmp_path / "b")
    content = (tmp_path / "b" / "model.safetensors").read_bytes()
    for changed in (content[:-1] + b"?", content[:1000], b""):
        (tmp_path / "b" / "model.safetensors").write_bytes(changed)
        with pytest.raises(
            BundleError, match=r"model\.safetensors was changed since the bundle was opened; start again"
        ):
            load_network(bundle)


def test_c8_the_bundle_records_the_answer_of_each_graph_and_has_it_still(exported: Path) -> None:
    bundle = Bundle.open(exported)
    assert all(graph.answer is not None for graph in bundle.graphs.values())
    for plan in bundle.plans:
        Predictor(bundle, plan=plan)


def test_weights_beyond_half_precision_are_stored_whole() -> None:
    assert export_module._half(torch.tensor([1.0, 1e5])).tolist() == [1.0, 1e5]
    assert export_module._half(torch.tensor([1.0, 6e4])).dtype == torch.float16


@pytest.mark.parametrize("size", [(64, 64), (150, 200), (1, 1), (65, 300)])
def test_masks_of_the_bundle_equal_pytorch_at_any_size(exported: Path, size: tuple[int, int]) -> None:
    image = _image(*size)
    height, width = (-(-side // 64) * 64 for side in size)
    padded = np.pad(image, ((0, height - size[0]), (0, width - size[1]), (0, 0)), mode="edge")
    normalised = (torch.from_numpy(padded).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    with torch.inference_mode():
        # One tile: the encoder has no attention.
        logits = F.interpolate(_model()(normalised, (1, 1)), scale_factor=4.0, mode="bilinear", align_corners=False)
    probability, labels = logits.softmax(1).max(1)
    result = Predictor(exported)(image)
    crop = (0, slice(0, size[0]), slice(0, size[1]))
    assert (result.labels == labels[crop].numpy()).mean() >= 0.995
    assert np.abs(result.confidence - 255 * probability[crop].numpy()).mean() < 2


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("plan", ["tiles", "context"])
def test_graphs_for_any_size_take_several_images_and_give_each_its_own_masks(
    exported: Path, plan: str, backend: str
) -> None:
    predictor = Predictor(exported, backend, plan, threads=1)
    assert predictor.takes_batch
    images = [np.ascontiguousarray(np.roll(_image(), 40 * turn, axis=1)) for turn in range(3)]
    for together, alone in zip(predictor.batch(images), map(predictor, images), strict=True):
        assert (together.labels == alone.labels).mean() >= 0.995
        assert np.abs(together.confidence.astype(int) - alone.confidence).max() <= 2
    assert not np.array_equal(predictor(images[0]).labels, predictor(images[1]).labels)


@pytest.mark.parametrize("plan", ["tiles", "context"])
@pytest.mark.parametrize("size", [(1, 64, 64), (1, 64, 320), (2, 192, 128), (3, 128, 64), (1, 448, 64)])
def test_a_graph_for_any_size_makes_in_bands_the_masks_of_the_whole_image(
    exported: Path, plan: str, size: tuple[int, int, int]
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    bundle = Bundle.open(exported)
    graph = bundle.graphs[plan]
    whole = DeployGraph.for_any_size(load_network(bundle), graph.choice, bundle.mean, bundle.std).eval()  # type: ignore[arg-type]
    whole._bands = 1
    with torch.inference_mode():
        labels, confidence = (out.numpy() for out in whole(torch.from_numpy(images)))

    found, sure = OnnxBackend(bundle.file(graph.file))(images)

    assert found.shape == labels.shape == size
    assert (found == labels).mean() >= 0.999
    assert np.abs(sure.astype(int) - confidence)[found == labels].max() <= 1
    operations = [node.op_type for node in onnx.load(bundle.file(graph.file)).graph.node]
    assert operations.count("ArgMax") == 4
    assert not {"Loop", "If", "Scan"} & set(operations)


def test_no_more_than_a_band_of_logits_is_enlarged_at_a_time(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, rows, classes = Bundle.open(exported), [], DeployGraph._classes
    graph = DeployGraph.for_any_size(load_network(bundle), bundle.graphs["tiles"].choice, bundle.mean, bundle.std)  # type: ignore[arg-type]

    def counted(self: DeployGraph, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows.append(logits.shape[2])
        return classes(self, logits)

    monkeypatch.setattr(DeployGraph, "_classes", counted)
    with torch.inference_mode():
        labels, _ = graph(torch.zeros(1, 640, 64, 3, dtype=torch.uint8))

    assert labels.shape == (1, 640, 64)
    assert max(rows) <= 160 / 4 + 1  # and the row whose centre the next band begins at
    assert sum(rows) == 160 + 3


def test_tiles_suit_the_encoder_unless_a_grid_is_given(exported: Path, tmp_path: Path) -> None:
    assert Bundle.open(exported).tile_grid == (1, 1)
    export_bundle(_model(), replace(SPEC, grid=(2, 2)), tmp_path / "cut", _image())
    assert Bundle.open(tmp_path / "cut").tile_grid == (2, 2)
    transformer = create_model("hrda_mitb0", 19, decoder_channels=8, embed_channels=8, attention_channels=8)
    assert isinstance(transformer, HRDA)
    assert (tiles_for(_model()), tiles_for(transformer)) == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    ("encoder", "grid"),
    [
        ("swin_tiny_patch4_window7_224", (2, 2)),
        ("efficientformer_l1", (2, 2)),
        ("edgenext_small", (2, 2)),
        ("maxvit_tiny_tf_224", (2, 2)),
        ("convnext_tiny", (1, 1)),
        ("resnet50c", (1, 1)),
        ("seresnet50", (1, 1)),
    ],
)
def test_attention_is_found_whatever_the_encoder_calls_it(encoder: str, grid: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = timm.create_model(encoder, pretrained=False)
    assert tiles_for(cast("HRDA", SimpleNamespace(backbone=backbone))) == grid


def test_the_context_graph_is_the_context_branch_alone(exported: Path) -> None:
    image = _image(128, 192)
    normalised = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    with torch.inference_mode():
        logits = F.interpolate(_model().context(normalised).logits, scale_factor=8.0, mode="bilinear")
    labels = Predictor(exported, plan="context")(image).labels
    assert (labels == logits.argmax(1)[0].numpy()).mean() >= 0.995


def test_the_bundle_is_complete_and_its_card_names_the_licence(exported: Path) -> None:
    bundle = Bundle.open(exported)
    assert set(bundle.manifest["files"]) == {"model.onnx", "context.onnx", "model.safetensors", "MODEL_CARD.md"}
    assert "Apache-2.0" in (exported / "MODEL_CARD.md").read_text()
    assert bundle.manifest["parity_with_pytorch"]["tiles"]["labels"] >= 0.999


def test_the_network_can_be_built_again_from_the_bundle(exported: Path) -> None:
    ours, again = _model().state_dict(), load_network(Bundle.open(exported)).state_dict()
    assert ours.keys() == again.keys()
    for name, value in ours.items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4)  # stored in half precision


def test_graphs_hold_no_batchnorm_and_half_size_weights(exported: Path) -> None:
    import onnx

    model = onnx.load(exported / "model.onnx")
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    full = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) >= 1024]
    assert not full


def test_a_single_scale_network_becomes_a_bundle_with_the_plan_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    overrides = {**TINY, "hrda": False}
    network = create_model("hrda_lite", **overrides).eval()
    with torch.no_grad():
        network.decode_head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    spec = replace(SPEC, default_plan="whole", overrides=overrides)
    export_bundle(network, spec, tmp_path / "single", _image())
    image = _image(96, 128)
    normalised = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    expected = predict_logits(network, normalised, "whole").argmax(1)[0].numpy()
    predictor = Predictor(tmp_path / "single")
    assert predictor.plan == "whole"
    assert (predictor(image).labels == expected).mean() >= 0.995
    assert predictor(_image(33, 1)).labels.shape == (33, 1)


def test_a_default_plan_without_a_graph_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="context, tiles"):
        export_bundle(_model(), replace(SPEC, default_plan="nested"), tmp_path / "b", _image())
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("five years of work")
    with pytest.raises(BundleError, match="no earlier result"):
        export_bundle(_model(), SPEC, tmp_path, _image())
    assert (tmp_path / "thesis.txt").exists()


def test_weights_stay_in_single_precision_where_half_would_move_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = lambda array: (np.sign(array) * 2.0 ** np.round(np.log2(np.abs(array) + 1e-6))).astype(np.float16)  # noqa: E731
    monkeypatch.setattr(onnx_writing, "_to_half", coarse)  # far coarser than half precision is
    said: list[str] = []
    reports = export_bundle(_model(), SPEC, tmp_path / "tiny", _image(), say=said.append)
    assert all(report.labels > 0.9999 for report in reports.values())
    assert sum("kept in single" in line for line in said) == 2
    graph = onnx.load(tmp_path / "tiny" / "model.onnx")
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer)


def test_a_graph_that_disagrees_is_refused_and_the_old_bundle_kept(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (exported / "manifest.yaml").read_bytes()
    monkeypatch.setattr(export_module, "MIN_AGREEMENT", 1.1)
    with pytest.raises(BundleError, match="agrees with PyTorch on"):
        export_bundle(_model(), SPEC, exported, _image())
    assert (exported / "manifest.yaml").read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["tiny"]
