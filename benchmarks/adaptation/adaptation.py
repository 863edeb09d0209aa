"""Measures what adaptation gains, with controls: every arm of docs/results/adaptation.md, three seeds each.

    python benchmarks/adaptation/adaptation.py run --task synth2camvid day2dusk --jobs 2   # resumable
    python benchmarks/adaptation/adaptation.py table                  # of benchmarks/results/adaptation.json

An arm is a recipe of config/recipes with a few values replaced (`ARMS`). All arms of a task start from the same weights
and take the same number of iterations, except for the control of equal time. Labels of the target are read for scoring
only, and in the arm `target` (the upper bound).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from hrda_core.bench.record import RESULTS, ROOT
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.machine import commit, machine
from hrda_core.metrics import score
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.methods import image_space
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.sources import open_validation, validation_groups
from hrda_core.trainer.validation import predictor
from hrda_core.uda.adabn import reestimate_batchnorm
from hrda_core.whole_files import write_json

RESULT_FILE = RESULTS / "adaptation.json"

TASKS = {"synth2camvid": "synth2camvid_hrda_lite", "day2dusk": "camvid_day2dusk_hrda_lite"}

_SUPERVISED: dict[str, Any] = {"method": "supervised", "target": None, "average": 0.0}
_APPEARANCE = {
    "photometric": True, "gamma": 2.0, "darken": 0.25, "colour_cast": 0.25, "grey": 0.1, "blur": 1.5, "noise": 12.0,
}  # fmt: skip
_BN_TRAIN: dict[str, Any] = {"model": {"freeze_encoder_norm": False}}
_MIC = {"self_training": {"mic": {"block": 32}}}

ARMS: dict[str, dict[str, Any]] = {
    "source": _SUPERVISED,
    "source_photometric": _SUPERVISED | {"appearance": _APPEARANCE},
    "source_equal_time": _SUPERVISED | {"iterations": 3.5},
    "source_bn_train": _SUPERVISED | _BN_TRAIN,
    "source_photometric_bn_train": _SUPERVISED | _BN_TRAIN | {"appearance": _APPEARANCE},
    "dg": {"method": "domain_generalization", "target": None, "appearance": {"photometric": True}},
    "daformer": {"model": {"overrides": {"hrda": False}}},
    "hrda": {},
    "hrda_bn_train": _BN_TRAIN,
    "hrda_mic": _MIC,
    "hrda_photometric": {"appearance": _APPEARANCE},
    "target": _SUPERVISED,
    # Ablations of `hrda`.
    "no_rcs": {"source": {"rcs_temperature": 0}},
    "no_fd": {"feature_distance": {"weight": 0}},
    "no_warmup": {"optim": {"warmup": 0}},
    "no_attention": {"model": {"overrides": {"fixed_attention": 0.5}}},
    "no_detail_loss": {"loss": {"detail": 0}},
}
"""Arm -> what it replaces in the recipe. `iterations` as a float is a factor."""

ADABN = {
    "source_adabn": ("source", False),
    "source_photometric_adabn": ("source_photometric", False),
    "source_decoder_adabn": ("source", True),
    "source_photometric_decoder_adabn": ("source_photometric", True),
    "source_bn_train_adabn": ("source_bn_train", False),
    "source_photometric_bn_train_adabn": ("source_photometric_bn_train", False),
}
"""Arms without training: BatchNorm statistics of another arm's network, measured again on 48 target images; True = of
the decoder alone."""

MAIN = (
    "source", "source_photometric", "source_bn_train", "source_photometric_bn_train", *ADABN, "source_equal_time",
    "hrda", "daformer", "hrda_mic", "dg", "target",
)  # fmt: skip


def main() -> int:
    """Run arms or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--arm", nargs="+", default=list(MAIN), choices=[*ARMS, *ADABN])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "adaptation")
    options = parser.parse_args()
    if options.action == "table":
        from adaptation_table import draw_bars, markdown

        print(markdown(read_results()))
        draw_bars(read_results(), ROOT / "docs" / "images" / "adaptation.png")
        return 0
    wanted = [(task, arm, seed) for seed in options.seed for task in options.task for arm in options.arm]
    trained, measured = ([run for run in wanted if (run[1] in ADABN) == later] for later in (False, True))
    with ThreadPoolExecutor(options.jobs) as pool:
        failed = [name for name in pool.map(lambda run: _run(*run, options.runs), trained) if name]
        failed += [name for name in pool.map(lambda run: _run(*run, options.runs), measured) if name]
    print("failed: " + ", ".join(failed) if failed else "all arms done")
    return 1 if failed else 0


def read_results() -> list[dict[str, Any]]:
    """Read the finished arms, one entry for each task, arm and seed."""
    if not RESULT_FILE.exists():
        return []
    results: list[dict[str, Any]] = json.loads(RESULT_FILE.read_text(encoding="utf-8"))["runs"]
    return results


def _run(task: str, arm: str, seed: int, runs: Path) -> str:
    """Train one arm unless its result is there; returns its name if it failed."""
    name = f"{task}/{arm}/{seed}"
    if any((r["task"], r["arm"], r["seed"]) == (task, arm, seed) for r in read_results()):
        return ""
    folder = runs / name
    if arm in ADABN:
        trained, folder = ADABN[arm][0], runs / task / ADABN[arm][0] / str(seed)
        if not _train(folder, _recipe(task, trained, seed)):  # nothing to do if its run is still there
            return name
        _keep(_adabn_result(task, arm, seed, folder, keep_encoder=ADABN[arm][1]))
    else:
        recipe = _recipe(task, arm, seed)
        if not _train(folder, recipe):
            return name
        _keep(_result(task, arm, seed, folder, recipe))
    print(f"{name}: done", flush=True)
    return ""


def _train(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Carry a run out, or what is left of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "arm.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "hrda_training", "train", str(folder / "arm.yaml"), "--run", str(folder)]
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--resume", "auto"], cwd=ROOT, stdout=output, stderr=output, env=environment, check=False
        )
    if done.returncode:
        print(f"'{folder}' failed, see {folder / 'output.txt'}", flush=True)
    return not done.returncode


def _recipe(task: str, arm: str, seed: int) -> dict[str, Any]:
    base = yaml.safe_load((ROOT / "config" / "recipes" / f"{TASKS[task]}.yaml").read_text(encoding="utf-8"))
    target = base["target"]
    recipe = _merged(base, ARMS[arm]) | {"name": f"{task}_{arm}", "seed": seed}
    if isinstance(recipe["iterations"], float):
        recipe["iterations"] = round(recipe["iterations"] * base["iterations"])
    if arm == "target":
        labels = target["path"].replace("/images", "/labels")
        recipe["source"] |= {"name": "CamVid, labels used", "images": target["path"], "labels": labels}
        recipe["source"] |= {"names": target["names"], "rcs_min_pixels": 250}
        recipe["crop"] |= {"scale_min": target["scale_min"], "scale_max": target["scale_max"]}
    if recipe["model"]["overrides"].get("hrda") is False:
        recipe["validation"] = [{**entry, "plan": "whole"} for entry in recipe["validation"]]
    recipe["runtime"] = {"threads": 1}
    return recipe


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def _result(task: str, arm: str, seed: int, folder: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()]
    step_s = median(line["seconds"] + line["wait_seconds"] for line in log)
    final = [row for row in scores if row["iteration"] == len(log)]
    return _entry(task, arm, seed, recipe["iterations"], step_s, _last_mean(log, "pseudo_weight"), final)


def _entry(
    task: str,
    arm: str,
    seed: int,
    iterations: int,
    step_s: float | None,
    pseudo_weight: float | None,
    scores: list[dict[str, Any]],
) -> dict[str, Any]:
    kept = ("network", "name", "mean_iou", "pixel_accuracy", "boundary_f", "iou", "images")
    return {
        "task": task,
        "arm": arm,
        "seed": seed,
        "iterations": iterations,
        "step_s": step_s if step_s is None else round(step_s, 3),
        "pseudo_weight": pseudo_weight,
        "scores": [{key: row[key] for key in kept} for row in scores],
        "commit": commit(),
    }


def _adabn_result(task: str, arm: str, seed: int, run: Path, *, keep_encoder: bool) -> dict[str, Any]:
    """Score the network of another arm with the target's BatchNorm statistics."""
    import torch

    torch.set_num_threads(1)
    recipe = load_recipe(run)
    network = load_network(run)
    base = yaml.safe_load((ROOT / "config" / "recipes" / f"{TASKS[task]}.yaml").read_text(encoding="utf-8"))
    reestimate_batchnorm(network, _target_batches(base["target"], recipe), plan="tiles", keep_encoder=keep_encoder)
    scores = [
        {"network": "student", "name": config.name}
        | score(predictor(network, recipe, config), open_validation(config), validation_groups(config)).to_dict()
        for config in recipe.validation
    ]
    return _entry(task, arm, seed, 0, None, None, scores)


def _target_batches(target: Mapping[str, Any], recipe: Recipe) -> Iterator[Any]:
    """48 unlabelled target images, evenly spaced, 8 a batch."""
    import torch

    space = image_space(recipe)
    frames = open_unlabelled(ROOT / target["path"], names=read_names(ROOT / target["names"]))
    chosen = evenly_spaced(range(len(frames)), 48)
    for start in range(0, len(chosen), 8):
        images = [normalise(frames.load(i), space.mean, space.std) for i in chosen[start : start + 8]]
        yield torch.from_numpy(np.stack(images))


def _last_mean(log: list[dict[str, Any]], name: str) -> float | None:
    values = [line["metrics"][name] for line in log[-50:] if name in line["metrics"]]
    return round(sum(values) / len(values), 4) if values else None


_KEEPING = threading.Lock()


def _keep(result: dict[str, Any]) -> None:
    with _KEEPING:
        record = {"benchmark": "adaptation", "machine": machine(), "runs": [*read_results(), result]}
        write_json(RESULT_FILE, record)


if __name__ == "__main__":
    raise SystemExit(main())
