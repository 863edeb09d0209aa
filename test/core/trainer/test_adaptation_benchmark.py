"""The arms of benchmarks/adaptation/adaptation.py: what they share, how they differ, and that each of them runs."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_network import TINY
from two_domains import write_domain

from hrda_core.models import create_model

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "adaptation"
LONG = ("streets2camvid", "streets2india")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules of the benchmark."""
    names = ("adaptation_tasks", "adaptation", "adaptation_table", "adaptation_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


def _arm(bench: SimpleNamespace, task: str, arm: str, **options: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = bench.adaptation_tasks.arm_recipe(task, arm, 0, Path("start"), **options)
    return recipe


def test_arms_that_see_no_target_are_the_same_for_both_long_tasks(bench: SimpleNamespace) -> None:
    shared = bench.adaptation_tasks.SHARED
    assert set(shared) == {"start", "source", "source_photometric", "dg"}
    for arm in shared:
        assert _arm(bench, LONG[0], arm) == _arm(bench, LONG[1], arm)


def test_arms_differ_in_nothing_but_their_method(bench: SimpleNamespace) -> None:
    hrda = _arm(bench, LONG[0], "hrda")
    for arm in ("daformer", "hrda_mic", "source", "dg"):
        other = _arm(bench, LONG[0], arm)
        for key in ("iterations", "batch_size", "optim", "source", "crop"):
            assert other[key] == hrda[key], (arm, key)
        assert other["model"]["weights"] == "start"


def test_the_large_arms_share_their_images_and_nearly_their_memory(bench: SimpleNamespace) -> None:
    hrda, daformer = (_arm(bench, LONG[1], arm) for arm in ("hrda_large", "daformer_large"))
    assert hrda["target"] == daformer["target"]
    assert {entry["resize"][0] for entry in hrda["validation"] + daformer["validation"]} == {640}
    crop, detail = hrda["crop"], hrda["model"]["overrides"]["detail_crop"]
    pixels = crop["height"] * crop["width"] / 4 + detail[0] * detail[1]
    assert pixels == pytest.approx(daformer["crop"]["height"] * daformer["crop"]["width"], rel=0.1)
    assert crop["height"] * crop["width"] > 2 * daformer["crop"]["height"] * daformer["crop"]["width"]


def test_labels_of_the_target_are_in_the_upper_bound_alone(bench: SimpleNamespace) -> None:
    for arm in bench.adaptation_tasks.TASKS[LONG[0]].arms:
        source = _arm(bench, LONG[0], arm)["source"]
        assert ("camvid" in json.dumps(source)) == (arm == "target"), arm
    assert "target" not in bench.adaptation_tasks.TASKS[LONG[1]].arms


def test_the_data_may_lie_elsewhere(bench: SimpleNamespace, tmp_path: Path) -> None:
    recipe = _arm(bench, LONG[0], "hrda", data=tmp_path)
    assert recipe["target"]["path"] == str(tmp_path / "camvid" / "images")
    assert recipe["source"][0]["images"] == "packs/streets/images"
    assert "../shared" not in json.dumps(recipe)


def test_the_short_tasks_start_from_the_weights_that_their_figures_had(bench: SimpleNamespace) -> None:
    for task in ("synth2camvid", "day2dusk"):
        start = bench.adaptation_tasks.TASKS[task].start
        assert start.commit == "57f2274"
        assert start.sha256.startswith("36f6b87e0160")


def test_runs_that_are_the_same_are_done_once_and_the_first_seed_first(bench: SimpleNamespace) -> None:
    options = SimpleNamespace(task=list(LONG), arm=None, seed=[0, 1])
    runs = bench.adaptation.wanted_runs(options)
    assert [seed for _, _, seed in runs] == sorted(seed for _, _, seed in runs)
    assert (LONG[1], "target", 0) not in runs
    units = bench.adaptation._units(runs)
    assert (LONG, "source", 0) in units
    assert ((LONG[0],), "hrda", 0) in units
    assert sum(len(tasks) for tasks, _, _ in units) == len(runs)


def _row(arm: str, seed: int, value: float, network: str = "student", norm: str = "trained") -> dict[str, Any]:
    names = ("CamVid day-val", "CamVid dusk, last 20", "India")
    rows = [{"network": network, "norm": norm, "name": name, "iou": {"road": value}} for name in names]
    return {"task": LONG[1], "arm": arm, "seed": seed, "step_s": 1.0, "start": "0" * 64, "scores": rows}


def test_a_gain_is_claimed_only_beyond_the_spread_of_the_best_control(bench: SimpleNamespace) -> None:
    runs = [_row("source", seed, 0.30 + 0.01 * seed) for seed in range(3)]
    runs += [_row("source_photometric", seed, 0.40 + 0.02 * seed, norm="decoder") for seed in range(3)]
    runs += [_row("hrda", seed, 0.43 + 0.01 * seed) for seed in range(3)]
    runs += [_row("daformer", seed, 0.50 + 0.01 * seed) for seed in range(3)]
    text = bench.adaptation_table.markdown(runs)
    against = "against source only, photometric augmentation, then AdaBN of the decoder (42.0 ± 2.0)"
    assert f"- India, student, {against}: DAFormer +9.0, spread 2.0: better; HRDA +2.0, spread 2.0: no diff" in text
    assert "HRDA against DAFormer: -7.0, spread 1.0: worse." in text
    with pytest.raises(SystemExit, match="2 different weights"):
        bench.adaptation_table.markdown([*runs, {**runs[0], "start": "1" * 64}])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source/, target/ and start.safetensors of a tiny network."""
    folder = tmp_path_factory.mktemp("toy")
    for name in ("source", "target"):
        write_domain(folder / name, 9, target=name == "target", seed=0)
    torch.manual_seed(0)
    save_file(create_model("hrda_lite", num_classes=19, **TINY).state_dict(), folder / "start.safetensors")
    return folder


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arm", ["start", "source_photometric", "daformer", "hrda_mic", "dg", "target", "hrda_large", "daformer_large"]
)
def test_every_arm_trains_and_is_scored_with_statistics_of_the_target(
    bench: SimpleNamespace, toy: Path, arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _arm(bench, LONG[0], arm) | {"iterations": 2, "batch_size": 2}
    target = {"name": "toy", "path": str(toy / "target" / "images")}
    if recipe["target"] is not None:
        recipe["target"] = {**target, "resize": recipe["target"].get("resize") and [192, 144]}
    labelled = "target" if arm == "target" else "source"
    recipe["source"] = {"name": "toy", "images": str(toy / labelled / "images"), "rcs_min_pixels": 30}
    recipe["source"]["labels"] = str(toy / labelled / "labels")
    recipe["crop"] |= {"height": 64, "width": 96, "scale_min": 1.0, "scale_max": 1.0}
    recipe["feature_distance"], recipe["generalization"] = {"weight": 0.0}, {"prototypes": 4}
    overrides = TINY | {key: value for key, value in recipe["model"]["overrides"].items() if key == "hrda"}
    recipe["model"] |= {"overrides": overrides, "weights": str(toy / "start.safetensors"), "imagenet": False}
    places = {"images": str(toy / "target" / "images"), "labels": str(toy / "target" / "labels")}
    recipe["validation"] = [{**entry, **places, "names": None, "limit": 2} for entry in recipe["validation"][:1]]
    (tmp_path / "arm.yaml").write_text(json.dumps(recipe))
    facts = {"targets": dict.fromkeys(LONG, target), "trained": arm != "start"}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    monkeypatch.setattr(sys, "argv", ["adaptation_run.py", str(tmp_path)])
    assert bench.adaptation_run.main() == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert set(found) == set(LONG)
    networks = {(row["network"], row["norm"]) for row in found[LONG[0]]["scores"]}
    adapts = recipe["method"] == "self_training"
    expected = {("student", "trained"), ("student", "decoder")}
    expected |= {("teacher", "trained"), ("teacher", "decoder")} if adapts else {("student", "all")}
    assert networks == expected
    assert all(np.isfinite(row["mean_iou"]) for row in found[LONG[0]]["scores"])
