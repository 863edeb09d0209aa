"""Own classes from label files to the masks of the node: nothing of Cityscapes is left on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from orchard import CLASSES, orchard_recipe, write_orchard
from tiny_network import TINY

from hrda_core.data.recordings.recordings import Recordings
from hrda_core.inference import Bundle, Predictor
from hrda_core.labels import default_palette
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.loop import fit
from hrda_core.trainer.recipe import METHODS
from hrda_core.trainer.spaces import recipe_space
from hrda_ros.masks.label_info import model_id, served_label_info
from hrda_training.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
ROW = [f"row {number}" for number in range(150)]


@pytest.fixture(scope="module")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a network of seven classes, the bundle that was made of it, and then no label space file any more."""
    folder = tmp_path_factory.mktemp("orchard")
    space = write_orchard(folder)
    groups = folder / "coarse.yaml"
    groups.write_text("groups: {plants: [leaf, fruit], ground: [soil], others: [crate, picker, sky, tractor]}\n")
    recipe = orchard_recipe(folder, TINY, iterations=20, batch_size=4, optim={"lr": 2e-3, "warmup": 5}, average=0.0)
    coarse = recipe["validation"][0] | {"name": "coarse", "groups": str(groups)}
    assert _train(folder, recipe | {"validation": [*recipe["validation"], coarse]}) == 0
    space.rename(folder / "moved.yaml")
    assert main(["export", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder


def test_audit_and_report_name_the_own_classes(orchard: Path) -> None:
    audit = json.loads((orchard / "run" / "environment.json").read_text())["audit"]
    assert all(name in audit for name in CLASSES)
    assert "road" not in audit
    page = (orchard / "run" / "report.html").read_text()
    assert all(name in page for name in CLASSES)


def test_the_masks_of_the_real_node_have_the_own_classes(orchard: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from rosbags.highlevel import AnyReader

    out, bag = tmp_path / "out", ROOT / "demo" / "street_day_dusk"
    command = [sys.executable, str(ROOT / "demo" / "run_demo.py"), "--model", str(orchard / "bundle")]
    done = subprocess.run(
        [*command, "--out", str(out), "--max-frames", "3"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    masks = {image.stamp_ns: image.decode()[..., 0] for image in Recordings.open([out / "masks"]).images()}
    frames = {image.stamp_ns: image.decode() for image in Recordings.open([bag]).images() if image.stamp_ns in masks}
    predictor = Predictor(orchard / "bundle")
    assert len(masks) == len(frames) == 3
    for stamp, mask in masks.items():
        np.testing.assert_array_equal(mask, predictor(frames[stamp]).labels)
        assert mask.max() < len(CLASSES)
    with AnyReader([out / "masks"]) as reader:
        said = [c for c in reader.connections if c.topic == "/segment_node/label_info"]
        text = next(reader.deserialize(raw, c.msgtype).data for c, _, raw in reader.messages(connections=said))
    assert [entry["name"] for entry in json.loads(text)["classes"]] == list(CLASSES)


def test_scores_are_by_name_and_by_own_groups(orchard: Path) -> None:
    lines = [json.loads(line) for line in (orchard / "run" / "evaluations.jsonl").read_text().splitlines()]
    every = next(line for line in lines if line["name"] == "orchard rows")
    assert tuple(every["iou"]) == CLASSES
    assert every["mean_iou"] == pytest.approx(np.mean(list(every["iou"].values())))
    coarse = next(line for line in lines if line["name"] == "coarse")
    assert tuple(coarse["iou"]) == ("plants", "ground", "others")
    assert coarse["pixel_accuracy"] >= every["pixel_accuracy"] > 1 / len(CLASSES)


def test_network_and_bundle_have_the_own_classes(orchard: Path) -> None:
    assert load_network(orchard / "run").decode_head.head.conv_seg.out_channels == 7  # type: ignore[union-attr]
    space = Bundle.open(orchard / "bundle").label_space
    assert (space.name, space.classes, space.things) == ("own7", CLASSES, (3, 4, 6))
    assert space.palette == default_palette(7)
    assert "7 classes (own7)" in (orchard / "bundle" / "MODEL_CARD.md").read_text()


def test_the_node_s_masks_and_label_info_are_of_the_own_classes(orchard: Path) -> None:
    predictor = Predictor(orchard / "bundle", "onnx", threads=1)
    rgb = np.ascontiguousarray(cv2.imread(str(orchard / "images" / "0.png"))[..., ::-1])
    truth = cv2.imread(str(orchard / "labels" / "0.png"), cv2.IMREAD_UNCHANGED)
    labels = predictor(rgb).labels
    assert labels.max() < 7
    known = truth > 0
    assert (labels[known] == truth[known] // 10 - 1).mean() > 1 / len(CLASSES)
    info = json.loads(served_label_info(predictor, model_id(predictor.bundle), None))
    assert info["label_space"] == "own7"
    assert [entry["name"] for entry in info["classes"]] == list(CLASSES)
    assert [entry["name"] for entry in info["classes"] if entry["thing"]] == ["crate", "picker", "tractor"]
    assert [tuple(entry["color"]) for entry in info["classes"]] == list(default_palette(7))


def test_a_run_is_scored_in_its_own_classes(orchard: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in (orchard / "labels").iterdir():
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(labels / path.name), np.where(stored == 0, 255, stored // 10 - 1).astype(np.uint8))
    data = ["--images", str(orchard / "images"), "--labels", str(labels)]
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--run", str(orchard / "run"), *data, "--json", str(out)]) == 0
    assert tuple(json.loads(out.read_text())["iou"]) == CLASSES


def test_a_run_goes_on_by_its_own_recipe_without_the_label_space_file(orchard: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(orchard / "run", run)
    (run / "model.safetensors").unlink()
    assert fit(load_recipe(run), run, resume="auto") is not None
    assert (run / "model.safetensors").read_bytes() == (orchard / "run" / "model.safetensors").read_bytes()


def test_a_label_space_can_stand_in_the_recipe(tmp_path: Path) -> None:
    space = write_orchard(tmp_path)
    recipe = orchard_recipe(tmp_path, TINY, iterations=1, validation=[], average=0.0)
    recipe["label_space"] = yaml.safe_load(space.read_text())
    del recipe["source"]["label_space"]
    space.unlink()
    _fit(tmp_path, recipe)
    assert recipe_space(load_recipe(tmp_path / "run")).classes == CLASSES


def test_a_run_of_other_classes_is_not_resumed(
    orchard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (orchard / "other.yaml").write_text((orchard / "moved.yaml").read_text().replace("own7", "turned"))
    recipe = yaml.safe_load((orchard / "recipe.yaml").read_text())
    for data in (recipe["source"], *recipe["validation"]):
        data["label_space"] = str(orchard / "other.yaml")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert main(["train", str(file), "--run", str(orchard / "run"), "--resume", "auto"]) == 2
    assert "has the classes of 'own7', the recipe those of 'turned'" in capsys.readouterr().err


def test_a_slimmer_model_has_the_classes_of_the_larger_one(orchard: Path, tmp_path: Path) -> None:
    small = ["--decoder_channels", "4", "--iterations", "1", "--batch_size", "1", "--threads", "1"]
    out = tmp_path / "slim"
    options = ["--out", str(out), "--images", str(orchard / "images"), *small]
    assert main(["distill", str(orchard / "bundle"), *options]) == 0
    assert Bundle.open(out).label_space == Bundle.open(orchard / "bundle").label_space
    assert main(["distill", str(orchard / "bundle"), *options, "--groups", "camvid11"]) == 2


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("supervised", "distillation")])
def test_every_method_trains_own_classes(method: str, tmp_path: Path) -> None:
    write_orchard(tmp_path)
    target = {"name": "orchard", "path": str(tmp_path / "images")}
    few = {"prototypes": 2}
    recipe = orchard_recipe(
        tmp_path, TINY, method=method, target=target, generalization=few, iterations=1, validation=[]
    )
    _fit(tmp_path, recipe)
    assert load_network(tmp_path / "run").decode_head.head.conv_seg.out_channels == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(("count", "step"), [(25, 10), (150, 1)])
def test_any_number_of_classes_is_learnt_and_exported(count: int, step: int, tmp_path: Path) -> None:
    write_orchard(tmp_path, ROW[:count], step=step, count=4)
    _fit(tmp_path, orchard_recipe(tmp_path, TINY, iterations=1, average=0.0))
    space = recipe_space(load_recipe(tmp_path / "run"))
    assert space.classes == tuple(ROW[:count])
    assert len(set(space.palette)) == count
    assert load_network(tmp_path / "run").decode_head.head.conv_seg.out_channels == count  # type: ignore[union-attr]
    if count == 150:
        assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
        assert Bundle.open(tmp_path / "bundle").label_space == space
    scores = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert list(scores["iou"]) == ROW[:count]


def test_a_subset_of_the_classes_is_a_label_space_of_its_own(tmp_path: Path) -> None:
    space = write_orchard(tmp_path)
    space.write_text("classes: [plant, crate, sky]\nids: {20: plant, 30: plant, 40: crate, 60: sky, 10: ignore}\n")
    _fit(tmp_path, orchard_recipe(tmp_path, TINY, iterations=1, average=0.0))
    assert recipe_space(load_recipe(tmp_path / "run")).classes == ("plant", "crate", "sky")
    scores = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert list(scores["iou"]) == ["plant", "crate", "sky"]


def test_a_network_of_other_classes_is_taken_but_for_its_classifier_and_only_where_asked(
    orchard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_orchard(tmp_path, ROW[:25])
    start = {"overrides": TINY, "weights": str(orchard / "run" / "model.safetensors")}
    recipe = orchard_recipe(tmp_path, TINY, model=start, iterations=1, validation=[])
    assert _train(tmp_path, recipe) == 2
    told = capsys.readouterr().err
    assert "they have 7 classes, the recipe 25" in told
    assert "'decode_head.head.conv_seg.weight' is 7x8x1x1 there, 25x8x1x1 here" in told
    assert "model.reset: [classifier]" in told
    assert not (tmp_path / "run" / "model.safetensors").exists()
    recipe["model"] = start | {"reset": ["classifier"]}
    assert _train(tmp_path, recipe | {"optim": {"lr": 0.0}, "average": 0.0}) == 0
    before, after = (load_network(folder / "run").state_dict() for folder in (orchard, tmp_path))
    taken = [name for name in before if "conv_seg" not in name and "running" not in name and "num_batches" not in name]
    assert all(before[name].equal(after[name]) for name in taken)
    weights = json.loads((tmp_path / "run" / "environment.json").read_text())["weights"]
    heads = ("decode_head.head", "decode_head.scale_attention")
    assert weights["anew"] == [f"{head}.conv_seg.{kind}" for head in heads for kind in ("bias", "weight")]
    assert weights["of"] - weights["loaded"] == 4
    assert "all but 4 tensors" in capsys.readouterr().err


def test_weights_of_another_network_are_one_plain_sentence(
    orchard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_orchard(tmp_path)
    start = {"overrides": {**TINY, "decoder_channels": 16}, "weights": str(orchard / "run" / "model.safetensors")}
    assert _train(tmp_path, orchard_recipe(tmp_path, TINY, model=start, validation=[])) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "tensors differ, the first: 'decode_head" in told
    assert "Error(s)" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: [a, b]\nids: {10: a, 20: b, 10: b}\n", "gives '10' twice"),
        ("classes: [a, b]\nids: {a: [10, 20], b: [20]}\n", "the native id 20 belongs to 'a' and 'b'"),
        (f"classes: {[f'c{i}' for i in range(256)]}\n", "256 classes; expected 2 to 255"),
        ("classes: [a]\n", "1 classes; expected 2 to 255"),
        ("classes: [a, b, a]\n", "names the class 'a' twice"),
        ("classes: [a, b]\ncolours: [[0, 0, 0]]\n", "unknown key 'colours'"),
    ],
)
def test_a_bad_label_space_is_one_sentence_and_nothing_is_written(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_orchard(tmp_path).write_text(text)
    assert _train(tmp_path, orchard_recipe(tmp_path, TINY)) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert words in told[0]
    assert not (tmp_path / "run").exists()


def test_source_and_validation_of_different_classes_are_refused_before_anything_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_orchard(tmp_path)
    recipe = orchard_recipe(tmp_path, TINY)
    recipe["validation"] = [{"name": "town", "layout": "cityscapes", "root": str(tmp_path / "absent")}]
    assert _train(tmp_path, recipe) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "validation 'town' has the 19 classes of 'cityscapes19'" in told[0]
    assert "is 'own7' of 7 (it has 'road', 'sidewalk', 'building', 'wall' and 14 more and lacks 'soil'" in told[0]


def _fit(folder: Path, recipe: dict[str, Any]) -> None:
    """Train without pictures and report, which take longer than such a run."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert fit(load_recipe(folder), folder / "run") is not None


def _train(folder: Path, recipe: dict[str, Any]) -> int:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return main(["train", str(folder / "recipe.yaml"), "--run", str(folder / "run")])
