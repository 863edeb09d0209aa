"""`hrda train`, `hrda export` and `hrda evaluate`, one after the other, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from street_images import write_street_images
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY

from hrda_core.data.image_files import read_image
from hrda_core.inference import Bundle
from hrda_training.__main__ import main


def _write_recipe(folder: Path) -> Path:
    images, labels = write_street_images(folder / "data", count=4)
    recipe = {
        "name": "tiny",
        "source": {"name": "made up", "images": str(images), "labels": str(labels), "rcs_min_pixels": 100},
        "model": {"overrides": TINY, "imagenet": False, "allow_random_backbone": True},
        "crop": {"height": 64, "width": 64},
        "iterations": 3,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_train_export_evaluate_leave_a_scored_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run, bundle = _write_recipe(tmp_path), tmp_path / "run", tmp_path / "bundle"
    assert main(["train", str(recipe), "--run", str(run), "--iterations", "4"]) == 0
    assert yaml.safe_load((run / "recipe.yaml").read_text())["iterations"] == 4
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    data = tmp_path / "data"
    folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
    options = ["--groups", "camvid11", "--json", str(tmp_path / "scores.json"), "--record", "made-up"]
    assert main(["evaluate", "--bundle", str(bundle), *folders, *options]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"] == 4
    assert set(scores["iou"]) >= {"road", "sky", "car"}
    assert 0 <= scores["mean_iou"] <= 1
    assert f"{100 * scores['mean_iou']:.1f}" in (bundle / "MODEL_CARD.md").read_text()
    assert "made-up" in Bundle.open(bundle).manifest["provenance"]["scores"]
    assert "mIoU" in capsys.readouterr().out


def test_a_graph_for_one_camera_is_exported_without_a_word_on_images(tmp_path: Path) -> None:
    recipe, run, bundle = _write_recipe(tmp_path), tmp_path / "run", tmp_path / "bundle"
    assert main(["train", str(recipe), "--run", str(run), "--iterations", "1", "--source.licence", "CC0"]) == 0
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    samples = sorted((bundle / "samples").glob("*.jpg"))
    assert len(samples) == 4
    assert "made up (licence: CC0)" in (bundle / "samples" / "NOTICE.md").read_text()
    assert main(["export", str(bundle), "--size", "64x128"]) == 0
    assert [graph.size for graph in Bundle.open(bundle).static_graphs] == [(64, 128)]


def test_with_an_image_of_yours_the_data_of_the_run_need_not_be_there(tmp_path: Path) -> None:
    recipe, run, bundle = _write_recipe(tmp_path), tmp_path / "run", tmp_path / "bundle"
    assert main(["train", str(recipe), "--run", str(run), "--iterations", "1"]) == 0
    image = tmp_path / "street.jpg"
    shutil.copy(tmp_path / "data" / "images" / "train" / "frame1.jpg", image)
    shutil.rmtree(tmp_path / "data")
    assert main(["export", str(run), "--out", str(bundle)]) == 2
    assert main(["export", str(run), "--out", str(bundle), "--sample", str(image)]) == 0
    assert len(list((bundle / "samples").glob("*.jpg"))) == 1
    assert "street.jpg" in (bundle / "samples" / "NOTICE.md").read_text()


def test_samples_are_of_what_the_run_is_scored_on_where_it_is_scored(tmp_path: Path) -> None:
    recipe, run, bundle = _write_recipe(tmp_path), tmp_path / "run", tmp_path / "bundle"
    images, labels = write_street_images(tmp_path / "other", count=3, size=(128, 160))
    values = yaml.safe_load(recipe.read_text())
    values["validation"] = [{"name": "other", "images": str(images), "labels": str(labels), "licence": "MIT"}]
    recipe.write_text(yaml.safe_dump(values))
    assert main(["train", str(recipe), "--run", str(run), "--iterations", "1"]) == 0
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    shapes = {read_image(path).shape for path in (bundle / "samples").glob("*.jpg")}
    assert shapes == {(128, 160, 3)}
    assert "other (licence: MIT)" in (bundle / "samples" / "NOTICE.md").read_text()


def test_a_list_file_selects_images(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path / "data", count=4)
    (tmp_path / "list.txt").write_text("train/frame1\ntrain/frame2.jpg\n")
    bundle = write_tiny_bundle(tmp_path / "bundle")
    command = ["evaluate", "--bundle", str(bundle), "--images", str(images), "--labels", str(labels)]
    assert main([*command, "--list", str(tmp_path / "list.txt"), "--json", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "absent.yaml", "--run", "r"], "absent.yaml"),
        (["train", "--run", "r"], "source"),
        (["train", "recipe.yaml", "--run", "r", "--iterations", "many"], "iterations"),
        (["train", "recipe.yaml", "--run", "r", "--iterations", "0"], "iterations"),
        (["train", "recipe.yaml", "--run", "r", "--crop.height", "33"], "multiples of 32"),
        (["train", "recipe.yaml", "--run", "r", "--optm.lr", "1"], "optm"),
        (["train", "recipe.yaml", "--run", "r", "--source.images", "absent"], "absent"),
        (["train", "recipe.yaml", "--run", "r", "--model.preset", "hrda_light"], "hrda_lite"),
        (["export", "absent", "--out", "b"], "absent"),
        (["evaluate", "--bundle", "absent", "--images", "data/images", "--labels", "data/labels"], "absent"),
        (["evaluate", "--bundle", "bundle", "--images", "absent", "--labels", "data/labels"], "absent"),
        (["evaluate", "--bundle", "bundle", "--images", "data/images", "--labels", "data/labels", "--groups", "x"],
         "camvid11"),
    ],
)  # fmt: skip
def test_a_users_mistake_gives_exit_code_2_and_names_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    _write_recipe(tmp_path)
    write_tiny_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    message = capsys.readouterr().err
    assert code == 2, message
    assert sentence in message
    assert "Traceback" not in message
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "b").exists()


_SLOW_VERB = """
import sys, time, types
from pathlib import Path
from hrda_core.whole_files import replaced_folder
from hrda_training import __main__ as command

def write(arguments):
    with replaced_folder(Path(arguments[0]), "marker") as part:
        part.mkdir()
        (part / "half").write_text("x")
        print("writing", flush=True)
        time.sleep(60)

sys.modules["slow"] = types.SimpleNamespace(main=write)
command.VERBS["slow"] = ("slow", "writes for a minute")
sys.exit(command.main(["slow", sys.argv[1]]))
"""


def test_c3_sigterm_ends_a_command_that_writes_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "place" / "out"
    command = [sys.executable, "-c", _SLOW_VERB, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert list(out.parent.iterdir()) == []
