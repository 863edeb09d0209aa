"""`hrda export BUNDLE --size ...`, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from tiny_network import TINY

from hrda_core.deploy import static_export
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.inference import Bundle, Predictor
from hrda_core.input_scale import InputScale
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import create_model
from hrda_training.__main__ import main


def _picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (13, 19, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (190, 130), interpolation=cv2.INTER_CUBIC))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("hrda_lite", **TINY)
    with torch.no_grad():
        model.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
    spec = ExportSpec("tiny", "hrda_lite", TINY, InputScale(), {"licence": "Apache-2.0"}, CITYSCAPES19)
    folder = tmp_path_factory.mktemp("export") / "tiny"
    export_bundle(model, spec, folder, _picture(0))
    return folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(9):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), _picture(number))
    return tmp_path / "images"


def test_a_graph_for_one_camera_is_added_told_and_used(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    options = ["--size", "130x190", "--plan", "topk", "--keep", "1", "--overlap", "8", "--json", str(record)]
    assert main(["export", str(bundle), *options, "--images", str(images)]) == 0
    said = capsys.readouterr().out
    assert "images padded to 192x192, 2 x 2 tiles, 1 of them run, sharing 8 pixels" in said
    assert "100.000 % of the pixels of 5 images equal to PyTorch" in said
    assert json.loads(record.read_text())["graph"]["keep"] == 1
    predictor = Predictor(bundle, plan="topk")
    assert predictor(_picture(3)).labels.shape == (130, 190)


def test_int8_is_calibrated_on_the_footage_given_and_refused_below_its_bar(
    bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--size", "130x190", "--precision", "int8", "--int8_for", "onnx", "--calibration", str(images)]
    command = ["export", str(bundle), *options, "--images", str(images)]
    monkeypatch.setattr(static_export, "MIN_AGREEMENT", {"int8": 0.5})  # random weights are near no decision
    assert main(command) == 0
    assert [graph.precision for graph in Bundle.open(bundle).static_graphs] == ["int8"]
    kinds = {node.op_type for node in onnx.load(bundle / Bundle.open(bundle).static_graphs[0].file).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "layers in int8" in capsys.readouterr().out
    monkeypatch.setattr(static_export, "MIN_AGREEMENT", {"int8": 1.1})
    assert main(command) == 2
    assert "in int8 agrees with PyTorch on" in capsys.readouterr().err


def test_a_copy_gets_the_graph_and_the_given_bundle_stays(bundle: Path, images: Path, tmp_path: Path) -> None:
    before = (bundle / "manifest.yaml").read_bytes()
    copy, image = tmp_path / "copy", str(images / "0.png")
    assert main(["export", str(bundle), "--out", str(copy), "--size", "130x190", "--images", image]) == 0
    assert (bundle / "manifest.yaml").read_bytes() == before
    assert [graph.size for graph in Bundle.open(copy).static_graphs] == [(192, 192)]
    assert main(["export", str(bundle), "--out", str(copy), "--size", "130x190", "--images", image]) == 2


def test_c3_an_export_that_ends_before_its_graph_leaves_no_copy_and_the_same_command_works(
    bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, arguments = tmp_path / "copies" / "copy", ["export", str(bundle), "--size", "130x190"]
    arguments += ["--out", str(copy), "--images", str(images / "0.png")]

    def ended(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(static_export, "export_static", ended)
        assert main(arguments) == 130
    assert list(copy.parent.iterdir()) == []
    assert main(arguments) == 0
    assert [graph.size for graph in Bundle.open(copy).static_graphs] == [(192, 192)]


@pytest.fixture
def shipped(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle as it came with an installed package; the home of the user's models is `home`."""
    package = tmp_path / "share" / "hrda_ros"
    bundle = Path(shutil.copytree(exported, package / "models" / "tiny"))
    (package / "package.xml").write_text("<package><name>hrda_ros</name></package>")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    return bundle


def test_of_a_shipped_bundle_a_copy_in_the_home_gets_the_graph_and_the_launch_line_is_said(
    shipped: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, copy = (shipped / "manifest.yaml").read_bytes(), tmp_path / "home" / "tiny"
    options = ["--size", "130x190", "--images", str(images / "0.png")]
    assert main(["export", "tiny", *options]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"model 'tiny' is '{shipped}' (installed)\n")
    assert f"a copy of it was made: '{copy}'" in said.out
    line = "to run it on the robot: ros2 launch hrda_ros segment.launch.py"
    assert said.out.splitlines()[-1] == f"{line} model:={copy}"
    assert main(["export", "tiny", *options, "--plan", "context", "--precision", "fp16"]) == 0
    said = capsys.readouterr()
    assert f"model 'tiny' is '{copy}' (yours); there is also '{shipped}' (installed)" in said.err
    assert said.out.splitlines()[-1] == f"{line} model:={copy} plan:=context build_engine:=true"
    assert main(["export", str(shipped), *options, "--plan", "topk"]) == 0
    assert f"its copy is used: '{copy}'" in capsys.readouterr().out
    assert sorted(graph.plan for graph in Bundle.open(copy).static_graphs) == ["context", "tiles", "topk"]
    assert (shipped / "manifest.yaml").read_bytes() == before
    assert not (shipped / "graphs").exists()


@pytest.mark.parametrize("options", [["--size", "130x190"], ["--size", "64x64", "--precision", "int8"], ["--engine"]])
def test_a_mistake_makes_no_copy_of_a_shipped_bundle(shipped: Path, options: list[str], tmp_path: Path) -> None:
    assert main(["export", str(shipped), *options]) == 2
    assert not (tmp_path / "home").exists()


def test_a_shipped_bundle_that_is_named_as_out_is_changed_where_it_is(shipped: Path, images: Path) -> None:
    options = ["--size", "130x190", "--images", str(images / "0.png"), "--out", str(shipped)]
    assert main(["export", str(shipped), *options]) == 0
    assert len(Bundle.open(shipped).static_graphs) == 1


def test_samples_of_the_bundle_serve_where_no_images_are_given(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(bundle), "--size", "130x190"]) == 2
    assert "has no samples to compare the graph on; give an image" in capsys.readouterr().err
    (bundle / "samples").mkdir()
    cv2.imwrite(str(bundle / "samples" / "street.png"), _picture(1))
    assert main(["export", str(bundle), "--size", "130x190", "--plan", "context"]) == 0
    assert not any(name.startswith("samples") for name in Bundle.open(bundle).manifest["files"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "is a bundle already; say which graph to add with --size HEIGHTxWIDTH"),
        (["--size", "640"], "--size must be two numbers above 0 like 480x640, not '640'"),
        (["--size", "0x640"], "--size must be two numbers above 0"),
        (["--size", "64x64", "--grid", "two"], "--grid must be two numbers above 0 like 2x3, not 'two'"),
        (["--size", "64x64", "--precision", "int8"], "--precision int8 needs --calibration"),
        (["--size", "64x64", "--images", "nowhere"], "'nowhere' is no image and no folder with images"),
        (["--grid", "2x3", "--engine"], "--grid is for a graph of one image size: add --size"),
        (["--engine"], "--engine without --size takes the one graph of plan 'tiles' in fp32; .* has 0 of that kind"),
        (["--size", "64x64", "--preciison", "fp16"], "did you mean --precision"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_the_bundle(
    exported: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (exported / "manifest.yaml").read_bytes()
    assert main(["export", str(exported), *options]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert re.search(sentence, error), error
    assert (exported / "manifest.yaml").read_bytes() == before


def test_an_engine_without_a_driver_is_refused_before_anything_is_written(
    bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA GPU; docs/robot/tensorrt.md says how to try the engine here")
    assert main(["export", str(bundle), "--size", "130x190", "--images", str(images / "1.png"), "--engine"]) == 2
    captured = capsys.readouterr()
    assert re.search("no engine can be built: no NVIDIA driver here .*; leave out --engine", captured.err)
    assert captured.out == ""
    assert Bundle.open(bundle).static_graphs == ()
