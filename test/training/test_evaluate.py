"""`hrda evaluate` on bundles, runs and data set layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from street_images import CAR, ROAD, SKY, write_street_images
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY
from two_domains import write_domain

from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.datasets.labelled import pair_folders
from hrda_core.inference import Bundle
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, LabelSpace
from hrda_core.metrics import score
from hrda_core.models import create_model
from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.best import BEST_NAME
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint
from hrda_core.trainer.loading import load_network
from hrda_core.windows.torch_windows import predict_logits
from hrda_training.__main__ import main
from hrda_training.run_predictor import RunPredictor

SIZE = (64, 96)


def _write_exact_data(folder: Path) -> list[str]:
    """Two images whose red channel is what the tiny bundle reads class ids from; returns the options."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    labels = np.full(SIZE, ROAD, np.uint8)
    labels[:32] = SKY
    labels[20:50, 30:60] = CAR
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 2] = labels * 16 + 8  # OpenCV writes BGR
    for name in ("a", "b"):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
    return ["--images", str(folder / "images"), "--labels", str(folder / "labels")]


def _write_run(folder: Path, *, hrda: bool = True, finished: bool = True) -> Path:
    """A run whose student, teacher and exported weights differ."""
    folder.mkdir(parents=True)
    overrides = TINY | {"hrda": hrda}
    recipe = {"name": "tiny", "source": {"name": "made"}, "model": {"preset": "hrda_lite", "overrides": overrides}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    tensors: dict[str, torch.Tensor] = {}
    for seed, name in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        weights = create_model("hrda_lite", **overrides).state_dict()
        tensors |= {f"{name}/{key}": value for key, value in weights.items()}
        if name == "student" and finished:
            save_file(dict(weights), folder / "model.safetensors")
    save_checkpoint(folder / CHECKPOINT_NAME, Checkpoint(tensors, {"iteration": 3}))
    return folder


def _evaluate(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "scores.json"
    assert main(["evaluate", *arguments, "--json", str(out)]) == 0
    values: dict[str, Any] = json.loads(out.read_text())
    return values


def test_a_bundle_that_is_right_everywhere_scores_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _write_exact_data(tmp_path / "data")
    scores = _evaluate(tmp_path, "--bundle", str(write_tiny_bundle(tmp_path / "bundle")), *data)
    assert (scores["mean_iou"], scores["pixel_accuracy"], scores["boundary_f"]) == (1, 1, 1)
    assert scores["groups"] == "cityscapes19"
    assert scores["iou"] == {name: 1 if name in ("road", "sky", "car") else None for name in CITYSCAPES19.classes}
    assert {"bundle", "plan", "backend", "images", "confusion"} <= set(scores)
    assert np.array(scores["confusion"]).sum() == 2 * SIZE[0] * SIZE[1]
    table = capsys.readouterr().out
    assert "mIoU 100.0 %   pixel accuracy 100.0 %" in table
    assert "boundary F" in table
    assert [line.split()[1] for line in table.splitlines() if line.startswith("  pole")] == ["-"]


@pytest.mark.parametrize(("groups", "count"), [("cityscapes19", 19), ("synthia16", 16), ("synthia13", 13)])
def test_groups_choose_the_classes_that_are_scored(tmp_path: Path, groups: str, count: int) -> None:
    data = _write_exact_data(tmp_path / "data")
    bundle = str(write_tiny_bundle(tmp_path / "bundle"))
    scores = _evaluate(tmp_path, "--bundle", bundle, *data, "--groups", groups)
    assert scores["groups"] == groups
    assert len(scores["iou"]) == count
    assert len(scores["confusion"]) == 19


def test_groups_of_cityscapes_are_refused_for_a_model_of_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = LabelSpace("two", ("ground", "else"), ((0, 0, 0), (9, 9, 9)))
    bundle = str(write_tiny_bundle(tmp_path / "bundle", label_space=space.to_dict()))
    data = _write_exact_data(tmp_path / "data")
    assert main(["evaluate", "--bundle", bundle, *data, "--groups", "camvid11"]) == 2
    assert "'two'" in capsys.readouterr().err


ORCHARD = LabelSpace("orchard", ("soil", "trunk", "wire", "leaf", "sky", "picker", "tractor"), things=(5, 6))


def _orchard(folder: Path, native: dict[int, int]) -> list[str]:
    """A bundle of seven classes, and an image of all of them with labels in native ids; returns the options."""
    bundle = write_tiny_bundle(folder / "bundle", label_space=ORCHARD.to_dict())
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    ids = np.repeat(np.arange(7, dtype=np.uint8), 14)[None].repeat(64, axis=0)
    image = np.zeros((*ids.shape, 3), np.uint8)
    image[..., 2] = ids * 16 + 8
    cv2.imwrite(str(folder / "images" / "a.png"), image)
    cv2.imwrite(str(folder / "labels" / "a.png"), np.vectorize(native.get)(ids).astype(np.uint8))
    return ["--bundle", str(bundle), "--images", str(folder / "images"), "--labels", str(folder / "labels")]


def _write(path: Path, **values: Any) -> str:
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_labels_of_other_ids_are_matched_with_the_classes_of_the_model_by_name(tmp_path: Path) -> None:
    options = _orchard(tmp_path, {number: 10 * (number + 1) for number in range(7)})
    turned = ORCHARD.classes[::-1]
    natives = {10 * (number + 1): name for number, name in enumerate(ORCHARD.classes)}
    file = _write(tmp_path / "turned.yaml", classes=list(turned), ids=natives)
    scores = _evaluate(tmp_path, *options, "--label_space", file)
    assert (scores["groups"], scores["mean_iou"]) == ("orchard", 1)
    assert scores["iou"] == dict.fromkeys(ORCHARD.classes, 1)
    ids = _write(tmp_path / "ids.yaml", ids=natives)
    assert _evaluate(tmp_path, *options, "--label_space", ids)["iou"] == scores["iou"]


def test_classes_that_labels_or_model_lack_are_named_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _orchard(tmp_path, {number: number for number in range(7)})
    classes = [*ORCHARD.classes[:5], "ladder", "tractor"]
    scores = _evaluate(tmp_path, *options, "--label_space", _write(tmp_path / "other.yaml", classes=classes))
    said = capsys.readouterr().out
    assert "labels of 'ladder' are not scored: the model has no such class" in said
    assert "no labels of 'picker': where the model predicts these" in said
    assert scores["iou"] == dict.fromkeys(ORCHARD.classes, 1) | {"picker": None}
    assert np.array(scores["confusion"]).sum() == 64 * 14 * 6


def test_labels_without_any_class_of_the_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = _orchard(tmp_path, {number: number for number in range(7)})
    cityscapes = _write(tmp_path / "streets.yaml", classes=["road", "car"])
    assert main(["evaluate", *options, "--label_space", cityscapes]) == 2
    sentence = capsys.readouterr().err
    assert "no class of the same name: 'streets' has 'road', 'car'" in sentence
    assert "the model 'soil', 'trunk', 'wire', 'leaf' and 3 more" in sentence


def test_label_ids_that_are_no_classes_of_the_model_are_refused_with_the_ids_and_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _orchard(tmp_path, dict(enumerate((0, 1, 2, 3, 11, 26, 33))))
    assert main(["evaluate", *options]) == 2
    sentence = capsys.readouterr().err
    assert "hold ids 11, 26, 33 that are neither classes of 'orchard' (0..6) nor 255" in sentence
    assert "label_space" in sentence


def test_own_groups_are_scored_by_name_in_the_classes_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _orchard(
        tmp_path, {0: 0, 1: 2, 2: 1, 3: 3, 4: 4, 5: 5, 6: 0}
    )  # trunk and wire exchanged; tractor is soil
    groups = {"ground": ["soil"], "plant": ["trunk", "wire", "leaf"], "moving": ["picker", "tractor"]}
    file = _write(tmp_path / "coarse.yaml", groups=groups, unscored=["moving"])
    scores = _evaluate(tmp_path, *options, "--groups", file)
    assert scores["groups"] == "coarse"
    assert scores["iou"] == {"ground": 0.5, "plant": 1}
    wrong = _write(tmp_path / "wrong.yaml", groups={"plant": ["leef"]})
    assert main(["evaluate", *options, "--groups", wrong]) == 2
    assert "did you mean 'leaf'" in capsys.readouterr().err


def test_the_confusion_matrix_is_drawn_on_demand(tmp_path: Path) -> None:
    data, picture = _write_exact_data(tmp_path / "data"), tmp_path / "confusion.png"
    bundle = str(write_tiny_bundle(tmp_path / "bundle"))
    assert main(["evaluate", "--bundle", bundle, *data, "--groups", "camvid11", "--confusion", str(picture)]) == 0
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert min(drawn.shape[:2]) > 300
    assert not list(tmp_path.glob("*.part"))


def test_a_data_set_as_downloaded_is_scored_in_train_ids(tmp_path: Path) -> None:
    city = tmp_path / "cityscapes"
    for kind in ("leftImg8bit", "gtFine"):
        (city / kind / "val" / "ulm").mkdir(parents=True)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, :48, 2] = CAR * 16
    native = np.full(SIZE, 7, np.uint8)  # road
    native[:, :48] = 26  # car
    native[:8] = 3  # out of the region of interest: no class
    cv2.imwrite(str(city / "leftImg8bit/val/ulm/ulm_0_0_leftImg8bit.png"), image)
    cv2.imwrite(str(city / "gtFine/val/ulm/ulm_0_0_gtFine_labelIds.png"), native)
    bundle = str(write_tiny_bundle(tmp_path / "bundle"))
    scores = _evaluate(tmp_path, "--bundle", bundle, "--layout", "cityscapes", "--root", str(city))
    assert scores["iou"]["car"] == scores["iou"]["road"] == 1
    assert np.array(scores["confusion"]).sum() == (SIZE[0] - 8) * SIZE[1]


@pytest.mark.parametrize(
    ("hrda", "plan", "default"),
    [(True, "nested", "overlap"), (True, "tiles", "overlap"), (False, "slide", "whole")],
)
def test_a_run_is_scored_under_any_window_plan_of_its_network(
    tmp_path: Path, hrda: bool, plan: str, default: str
) -> None:
    run = str(_write_run(tmp_path / "run", hrda=hrda))
    images, labels = write_street_images(tmp_path / "data", count=1, size=SIZE)
    data = ["--images", str(images), "--labels", str(labels)]
    scores = _evaluate(tmp_path, "--run", run, *data, "--plan", plan)
    assert (scores["run"], scores["network"], scores["plan"]) == ("tiny", "student", plan)
    assert scores["images"] == 1
    assert _evaluate(tmp_path, "--run", run, *data)["plan"] == default


def test_the_run_predictor_gives_what_the_network_says(tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run")
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    config = resolve_preset("hrda_lite", **TINY)
    image = torch.from_numpy(normalise(rgb, config.mean, config.std))[None]
    for name in ("student", "teacher"):
        expected = predict_logits(load_network(run, name), image, "overlap")[0].argmax(0).numpy()
        np.testing.assert_array_equal(RunPredictor(run, name, device="cpu")(rgb), expected)


def test_student_and_teacher_are_different_networks(tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run")
    weights = {name: next(load_network(run, name).parameters()) for name in ("student", "teacher")}
    assert not torch.equal(weights["student"], weights["teacher"])


def test_an_unfinished_run_is_scored_by_the_student_of_its_checkpoint(tmp_path: Path) -> None:
    finished, unfinished = (_write_run(tmp_path / str(done), finished=done) for done in (True, False))
    for ours, theirs in zip(*(load_network(run).parameters() for run in (finished, unfinished)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_resized_prediction_has_the_size_of_the_labels(tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run")
    images, labels = write_street_images(tmp_path / "data", count=1, size=(96, 160))
    predictor = RunPredictor(run, resize=(80, 48), device="cpu")
    rgb, _ = pair_folders(images, labels).load(0)
    assert predictor(rgb).shape == (96, 160)
    direct = score(predictor, pair_folders(images, labels), EVALUATION_GROUPS["cityscapes19"])
    data = ["--images", str(images), "--labels", str(labels)]
    scores = _evaluate(tmp_path, "--run", str(run), *data, "--resize", "80", "48")
    assert scores["confusion"] == direct.confusion


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "either --bundle"),
        (["--bundle", "bundle", "--run", "run"], "either --bundle"),
        (["--run", "run", "--record", "x"], "--record"),
        (["--run", "run", "--plan", "whole"], "overlap"),
        (["--run", "run", "--network", "pupil"], "student or teacher"),
        (["--run", "run", "--device", "tpu"], "auto, cpu or cuda"),
        (["--run", "absent"], "absent"),
        (["--run", "data"], "recipe.yaml"),
        (["--run", "fresh"], "checkpoint"),
        (["--run", "lone", "--network", "teacher"], "no teacher; networks in it: student"),
        (["--run", "other"], "do not fit"),
        (["--bundle", "bundle", "--network", "teacher"], "--run"),
        (["--bundle", "bundle", "--json", "run/recipe.yaml/scores.json"], "scores.json' cannot be written"),
    ],
)  # fmt: skip
def test_a_mistake_gives_exit_code_2_and_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    data = _write_exact_data(tmp_path / "data")
    write_tiny_bundle(tmp_path / "bundle")
    recipe = (_write_run(tmp_path / "run") / "recipe.yaml").read_text()
    for name in ("fresh", "lone", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(recipe)
    save_checkpoint(tmp_path / "lone" / CHECKPOINT_NAME, Checkpoint({"student/x": torch.zeros(1)}, {}))
    save_file({"x": torch.zeros(1)}, tmp_path / "other" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments, *data]) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert "Traceback" not in message


def test_data_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(write_tiny_bundle(tmp_path / "bundle"))
    assert main(["evaluate", "--bundle", bundle, "--images", str(tmp_path)]) == 2
    assert "--labels FOLDER" in capsys.readouterr().err


def test_scores_without_a_labelled_pixel_are_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bundle = _write_exact_data(tmp_path / "data"), str(write_tiny_bundle(tmp_path / "bundle"))
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{name}.png"), np.full(SIZE, 255, np.uint8))
    assert main(["evaluate", "--bundle", bundle, *data, "--record", "nothing"]) == 2
    assert "has a class, all are ignored" in capsys.readouterr().err


def test_t9_two_at_once_scores_never_go_into_a_bundle_that_took_the_place_of_the_scored_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, bundle = _write_exact_data(tmp_path / "data"), write_tiny_bundle(tmp_path / "bundle")
    other = (write_tiny_bundle(tmp_path / "other") / "context.onnx").read_bytes()

    def replaces(*arguments: object, **options: object) -> object:
        write_tiny_bundle(bundle, model=other)
        return score(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("hrda_core.metrics.score", replaces)
    assert main(["evaluate", "--bundle", str(bundle), *data, "--record", "late"]) == 2
    assert "was replaced while it was scored: nothing is recorded" in capsys.readouterr().err
    assert "scores" not in Bundle.open(bundle).manifest["provenance"]


def test_scores_of_a_shipped_bundle_are_recorded_in_its_copy_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, share = _write_exact_data(tmp_path / "data"), tmp_path / "share" / "hrda_ros"
    shipped, copy = write_tiny_bundle(share / "models" / "tiny"), tmp_path / "home" / "tiny"
    (share / "package.xml").write_text("<package><name>hrda_ros</name></package>")
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    before = (shipped / "manifest.yaml").read_bytes()
    assert main(["evaluate", "--bundle", str(shipped), *data]) == 0
    assert main(["evaluate", "--bundle", str(shipped), *data[:2], "--labels", "absent", "--record", "exact"]) == 2
    assert not copy.exists()
    assert main(["evaluate", "--bundle", str(shipped), *data, "--record", "exact"]) == 0
    assert f"a copy of it was made: '{copy}'" in capsys.readouterr().out
    assert list(Bundle.open(copy).manifest["provenance"]["scores"]) == ["exact"]
    assert (shipped / "manifest.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "bad", [np.zeros((*SIZE, 3), np.uint8), np.zeros((32, 48), np.uint8), np.full(SIZE, 26, np.uint8)]
)
def test_labels_that_cannot_be_scored_on_are_one_sentence_before_the_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: np.ndarray
) -> None:
    data = _write_exact_data(tmp_path / "data")
    cv2.imwrite(str(tmp_path / "data" / "labels" / "b.png"), bad)
    command = ["evaluate", "--bundle", str(write_tiny_bundle(tmp_path / "bundle")), *data]
    assert main([*command, "--json", str(tmp_path / "scores.json")]) == 2
    said = capsys.readouterr().err
    assert "b.png" in said
    assert "listed in '" in said
    assert not (tmp_path / "scores.json").exists()
    (tmp_path / "data" / "images" / "c.png").write_bytes((tmp_path / "data" / "images" / "a.png").read_bytes())
    scores = _evaluate(tmp_path, *command[1:], "--on_bad", "skip")
    assert (scores["images"], scores["mean_iou"]) == (1, 1)
    assert "left out: 2 of 3 pairs" in capsys.readouterr().err


def test_a_network_of_half_size_scores_the_same_in_its_report_by_its_run_and_as_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe says at which size the network is tested, and whoever uses it afterwards need not know."""
    folder = write_domain(tmp_path / "data", 6, target=False, seed=1, size=(192, 256))
    data = {"images": str(folder / "images"), "labels": str(folder / "labels")}
    recipe = {
        "name": "daformer",
        "source": {"name": "made", "rcs_temperature": 0, **data},
        "validation": [{"name": "made", "split": "", "plan": "whole", "resize": [128, 96], **data}],
        "model": {"overrides": TINY | {"hrda": False}, "imagenet": False, "allow_random_backbone": True},
        "crop": {"height": 64, "width": 64, "resize": [128, 96]},
        "optim": {"lr": 1e-2, "warmup": 5},
        "iterations": 30,
        "average": 0.2,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    assert main(["train", str(tmp_path / "recipe.yaml"), "--run", str(run)]) == 0
    (line,) = (json.loads(text) for text in (run / "evaluations.jsonl").read_text().splitlines())
    report = line["mean_iou"]

    given = [option for name, value in data.items() for option in (f"--{name}", value)]
    assert _evaluate(tmp_path, "--run", str(run), *given)["mean_iou"] == pytest.approx(report, abs=1e-9)
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    assert "images are resized to fit 128x96 (bilinear); window plan whole" in capsys.readouterr().out
    assert _evaluate(tmp_path, "--bundle", str(bundle), *given)["mean_iou"] == pytest.approx(report, abs=0.01)
    assert "times larger" not in capsys.readouterr().err
    assert Bundle.open(bundle).scale.trained == (128, 128)

    at_full_size = _evaluate(tmp_path, "--run", str(run), *given, "--resize", "256", "192")
    assert abs(at_full_size["mean_iou"] - report) > 0.01
    assert capsys.readouterr().err.count("2.0 times larger than those that it was trained on") == 1


def test_the_best_networks_of_a_run_are_scored_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _write_run(tmp_path / "run", hrda=False, finished=False)  # a run that is still going has a best too
    images, labels = write_street_images(tmp_path / "data", count=1, size=(128, 128))
    data = ["--images", str(images), "--labels", str(labels)]
    best = {f"student/{key}": value for key, value in load_network(run, "teacher").state_dict().items()}
    values = {"iteration": 2, "score": "val/mean_iou", "value": 0.5}
    save_checkpoint(run / BEST_NAME, Checkpoint(best, values))
    scores = _evaluate(tmp_path, "--run", str(run), *data, "--which", "best")
    assert scores["confusion"] == _evaluate(tmp_path, "--run", str(run), *data, "--network", "teacher")["confusion"]
    assert scores["confusion"] != _evaluate(tmp_path, "--run", str(run), *data)["confusion"]
    assert (scores["which"], scores["network"]) == ("best", "student")

    sample = str(next(path for path in images.rglob("*") if path.is_file()))
    command = ["export", str(run), "--out", str(tmp_path / "bundle"), "--sample", sample]
    assert main(command) == 2  # the last networks are not finished
    assert main([*command, "--which", "best"]) == 0
    facts = Bundle.open(tmp_path / "bundle").manifest["provenance"]
    assert (facts["iterations"], facts["exported_network"]) == (
        2,
        "student, chosen by the best val/mean_iou of the run",
    )
    capsys.readouterr()
    assert main(["evaluate", "--bundle", str(tmp_path / "bundle"), *data, "--which", "best"]) == 2
    assert "--which belong to --run" in capsys.readouterr().err
