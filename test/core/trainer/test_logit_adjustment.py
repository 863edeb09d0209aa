"""`logit_adjustment` of a recipe: training is as without it; what is scored, loaded and exported has it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.deploy.network import load_network as load_bundle
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference import Bundle
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import create_model
from hrda_core.models.class_bias import bias_in, class_bias
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.class_shares import class_shares, run_bias, shares_entry
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import NO_SOURCE, SourceConfig, TargetConfig, ValidationConfig
from hrda_core.trainer.start_weights import load_start
from hrda_training.__main__ import main

STRENGTH = 0.5
CLASSIFIER = "decode_head.head.conv_seg.bias"
HALF = {"atol": 2e-3, "rtol": 2e-3}
"""Bundles have weights of half precision."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    images, labels = write_street_images(tmp_path_factory.mktemp("data"), count=4)
    validation = ValidationConfig("the same", images=images, labels=labels, split="")
    recipe = Recipe(
        name="tiny",
        method="self_training",
        source=SourceConfig("made up", images=images, labels=labels, rcs_temperature=0),
        target=TargetConfig("made up too", path=images),
        validation=[validation],
        model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
        runtime=RuntimeConfig(threads=1),  # runs are compared bit for bit, and commands between them set threads
        iterations=4,
        keep_best="the same/mean_iou",
        evaluate_every=2,
        logit_adjustment=STRENGTH,
    )
    return replace(recipe, feature_distance=replace(recipe.feature_distance, weight=0))


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adjustment; `plain` beside it is the same without."""
    folder = tmp_path_factory.mktemp("runs")
    fit(recipe, folder / "run")
    fit(replace(recipe, logit_adjustment=0.0), folder / "plain")
    return folder / "run"


def _counted(recipe: Recipe) -> tuple[float, ...]:
    """Shares of the classes, counted here from the label files."""
    assert isinstance(recipe.source, SourceConfig)
    assert recipe.source.labels is not None
    labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(recipe.source.labels.rglob("*.png"))]
    pixels = np.bincount(np.concatenate([label.reshape(-1) for label in labels]), minlength=256)[:19]
    return tuple(pixels / pixels.sum())


def test_training_is_bit_for_bit_as_without(run: Path) -> None:
    ours, plain = (load_checkpoint(folder / CHECKPOINT_NAME).tensors for folder in (run, run.parent / "plain"))
    assert ours.keys() == plain.keys()
    assert all(torch.equal(value, plain[name]) for name, value in ours.items())


@pytest.mark.parametrize("which", ["last", "best"])
@pytest.mark.parametrize("network", ["student", "teacher"])
def test_every_network_that_is_loaded_has_the_bias_of_the_sources_labels(
    recipe: Recipe, run: Path, network: str, which: str
) -> None:
    ours, plain = (load_network(folder, network, which).state_dict() for folder in (run, run.parent / "plain"))
    expected = torch.tensor(class_bias(STRENGTH, _counted(recipe)))
    assert expected.max() > 0.1
    torch.testing.assert_close(ours.pop(CLASSIFIER) - plain.pop(CLASSIFIER), expected)
    if which == "last":  # scores choose the best, and they differ
        assert all(torch.equal(value, plain[name]) for name, value in ours.items())


def test_an_unfinished_run_is_loaded_with_it_too(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    for name, strength in (("a", STRENGTH), ("b", 0.0)):
        fit(replace(recipe, logit_adjustment=strength), tmp_path / name, watch=Watch(should_stop=lambda: True))
    ours, plain = (load_network(tmp_path / name).state_dict()[CLASSIFIER] for name in "ab")
    torch.testing.assert_close(ours - plain, torch.tensor(class_bias(STRENGTH, _counted(recipe))))


def test_the_scores_of_a_run_are_those_of_what_it_ships(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    told = {line["network"]: line["mean_iou"] for line in lines if line["iteration"] == recipe.iterations}
    place = recipe.validation[0]
    for network, score in told.items():
        output = tmp_path / f"{network}.json"
        options = ["--images", str(place.images), "--labels", str(place.labels), "--json", str(output)]
        assert main(["evaluate", "--run", str(run), "--network", network, *options]) == 0
        assert json.loads(output.read_text())["mean_iou"] == pytest.approx(score, abs=1e-6)
    plain = [json.loads(line) for line in (run.parent / "plain" / "evaluations.jsonl").read_text().splitlines()]
    assert plain[-1]["mean_iou"] != lines[-1]["mean_iou"]


def test_a_training_that_starts_from_shipped_weights_takes_the_bias_out(run: Path, recipe: Recipe) -> None:
    student = create_model("hrda_lite", 19, **TINY)
    load_start(student, ModelConfig(overrides=TINY, weights=run / "model.safetensors"), 19)
    trained = load_checkpoint(run / CHECKPOINT_NAME).below("student")
    torch.testing.assert_close(student.state_dict(), trained)


def test_a_bundle_ships_it_says_so_and_a_training_from_it_takes_it_out(
    run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    sample = sorted(Path(str(recipe.validation[0].images)).rglob("*.*"))[0]
    assert (
        main(["export", str(run), "--network", "teacher", "--out", str(tmp_path / "b"), "--sample", str(sample)]) == 0
    )
    bundle = Bundle.open(tmp_path / "b")
    weights = bundle.file("model.safetensors")
    assert bias_in(weights) == run_bias(run, recipe) != ()
    expected = load_network(run, "teacher").state_dict()
    torch.testing.assert_close(dict(load_bundle(bundle).state_dict()), dict(expected), **HALF)
    assert f"logit adjustment: {STRENGTH} x" in (tmp_path / "b" / "MODEL_CARD.md").read_text()
    student = create_model("hrda_lite", 19, **TINY)
    load_start(student, ModelConfig(overrides=TINY, weights=weights), 19)
    trained = load_checkpoint(run / CHECKPOINT_NAME).below("teacher")
    torch.testing.assert_close(student.state_dict(), trained, **HALF)


def test_the_strength_may_change_when_a_run_goes_on(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    fit(replace(recipe, logit_adjustment=0.0), tmp_path / "run")
    fit(recipe, tmp_path / "run", resume="auto")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", run))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_a_strength_that_is_changed_in_the_recipe_of_a_finished_run_counts_from_then_on(
    recipe: Recipe, run: Path, tmp_path: Path, network: str
) -> None:
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    text = (run / "recipe.yaml").read_text()
    (changed / "recipe.yaml").write_text(text.replace(f"logit_adjustment: {STRENGTH}", "logit_adjustment: 0.2"))
    ours, plain = (load_network(folder, network).state_dict() for folder in (changed, run.parent / "plain"))
    expected = class_bias(0.2, _counted(recipe))
    torch.testing.assert_close(ours[CLASSIFIER] - plain[CLASSIFIER], torch.tensor(expected))
    assert main(["export", str(changed), "--network", network, "--out", str(tmp_path / "b")]) == 0
    assert bias_in(tmp_path / "b" / "model.safetensors") == run_bias(changed, load_recipe(changed)) != ()


def test_a_class_of_a_few_pixels_rises_as_much_in_the_shipped_weights_as_in_what_is_loaded_later() -> None:
    counts = np.zeros((1, 3), np.int64)
    counts[0] = (10**9, 10**9, 7)
    shares = class_shares(3, [(1.0, cast(ClassStatistics, SimpleNamespace(counts=counts)))])
    assert json.loads(json.dumps(shares_entry(shares)))["class_shares"] == list(shares)
    assert len(str(shares[2])) <= len("1e-08")


def test_a_run_that_does_not_say_how_often_its_classes_are_labelled_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    for text in (None, "{}", '{"class_shares": []}', '{"class_shares": "x"}', '{"class_shares": [null]}', "{"):
        if text is not None:
            (tmp_path / "environment.json").write_text(text)
        with pytest.raises(DataError, match=r"does not say how often .* resume the run to write it"):
            run_bias(tmp_path, recipe)


def test_a_strength_outside_of_0_and_1_or_without_labels_is_refused(recipe: Recipe) -> None:
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(RecipeError, match=r"a strength in 0..1, not"):
            replace(recipe, logit_adjustment=strength)
    with pytest.raises(RecipeError, match="counts the source's labels, but layout 'none' has none"):
        replace(recipe, source=SourceConfig("nothing", layout=NO_SOURCE))


def test_the_classes_of_a_source_are_those_of_the_network(run: Path) -> None:
    shares = json.loads((run / "environment.json").read_text())["class_shares"]
    assert len(shares) == len(CITYSCAPES19)
    assert sum(shares) == pytest.approx(1, abs=1e-6)
