"""Trains one arm of a long task of benchmarks/adaptation/adaptation.py and scores what it left.

    python benchmarks/adaptation/adaptation_run.py FOLDER      # FOLDER/arm.yaml, from `adaptation.py run`

The networks are scored as they were trained, and again with BatchNorm statistics of 48 target images (AdaBN): of the
decoder, and for arms without adaptation also of all layers. FOLDER/result.json holds the scores by task: an arm that
sees no target is scored for all of them. Exit code 130: stopped by a signal after a checkpoint; the same call goes on.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml

from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import evenly_spaced
from hrda_core.metrics import score
from hrda_core.models.hrda import HRDA
from hrda_core.resizing import keep_ratio_size, resize_image
from hrda_core.standard_streams import with_streams
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.journal import read_evaluations
from hrda_core.trainer.loading import RECIPE_NAME, load_network, load_recipe
from hrda_core.trainer.methods import image_space
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import TargetConfig
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.sources import open_target, open_validation, validation_groups
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.state import WEIGHTS_NAME
from hrda_core.trainer.validation import predictor
from hrda_core.uda.adabn import reestimate_batchnorm
from hrda_core.whole_files import write_json
from hrda_training import train

KEPT = ("network", "norm", "name", "mean_iou", "pixel_accuracy", "boundary_f", "iou", "images")
_BATCH, _FRAMES = 8, 48


def main() -> int:
    """Train, score, and write the result; see the module."""
    folder = Path(sys.argv[1])
    values = yaml.safe_load((folder / "arm.yaml").read_text(encoding="utf-8"))
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    if facts["trained"]:
        code = train.main([str(folder / "arm.yaml"), "--run", str(folder), "--resume", "auto"])
        if code:
            return code
    else:
        _untrained(folder, values)
    targets = {task: _target(target) for task, target in facts["targets"].items()}
    write_json(folder / "result.json", measure(folder, targets, trained=facts["trained"]))
    return 0


def _target(values: Mapping[str, Any]) -> TargetConfig:
    names = values.get("names")
    return TargetConfig(**{**values, "path": Path(values["path"]), "names": Path(names) if names else None})


def _untrained(folder: Path, values: Mapping[str, Any]) -> None:
    """What a run of no iteration would leave."""
    (folder / RECIPE_NAME).write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    shutil.copyfile(values["model"]["weights"], folder / WEIGHTS_NAME)


def measure(run: Path, targets: Mapping[str, TargetConfig], *, trained: bool = True) -> dict[str, Any]:
    """Return scores and times of a finished run for each task.

    Args:
        targets: unlabelled images for the statistics by task, also of arms that did not adapt to them.
        trained: False = the weights that all arms start from.
    """
    recipe = load_recipe(run)
    device = Runtime.open(recipe.runtime).device
    if trained:
        final = [row for row in read_evaluations(run) if row["iteration"] == recipe.iterations]
        scores = [{**row, "norm": "trained"} for row in final]
    else:
        scores = _scores(load_network(run).to(device), recipe, "student", "trained")
    found = {task: list(scores) for task in targets}
    for name in _networks(run, recipe):
        network = load_network(run, name).to(device)
        for norm in ("decoder",) if recipe.target is not None else ("decoder", "all"):
            for task, target in targets.items():
                measured = copy.deepcopy(network)
                plan = "tiles" if isinstance(measured, HRDA) else "whole"
                batches = _batches(target, recipe)
                reestimate_batchnorm(measured, batches, plan=plan, keep_encoder=norm == "decoder")
                found[task] += _scores(measured, recipe, name, norm)
    times = _log(run) if trained else {}
    return {
        task: {"scores": [{key: row[key] for key in KEPT} for row in rows], **times} for task, rows in found.items()
    }


def _networks(run: Path, recipe: Recipe) -> tuple[str, ...]:
    has_teacher = recipe.method == "self_training" and bool(load_checkpoint(run / CHECKPOINT_NAME).below("teacher"))
    return ("student", "teacher") if has_teacher else ("student",)


def _scores(network: Any, recipe: Recipe, name: str, norm: str) -> list[dict[str, Any]]:
    return [
        {"network": name, "norm": norm, "name": config.name}
        | score(
            predictor(network, recipe, config), open_validation(config), validation_groups(config, recipe_space(recipe))
        ).to_dict()
        for config in recipe.validation
    ]


def _batches(target: TargetConfig, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Evenly spaced target images, resized as in training."""
    space, frames = image_space(recipe), open_target(target)
    chosen = evenly_spaced(range(len(frames)), _FRAMES)
    for start in range(0, len(chosen), _BATCH):
        images = []
        for rgb in (frames.load(index) for index in chosen[start : start + _BATCH]):
            size = keep_ratio_size(rgb.shape[0], rgb.shape[1], target.resize)
            images.append(normalise(resize_image(rgb, *size, recipe.crop.interpolation), space.mean, space.std))
        yield torch.from_numpy(np.stack(images))


def _log(run: Path) -> dict[str, Any]:
    """Median time of a step, and how far the teacher was trusted at the end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    weights = [line["metrics"]["pseudo_weight"] for line in lines[-50:] if "pseudo_weight" in line["metrics"]]
    return {
        "step_s": round(median(line["seconds"] + line["wait_seconds"] for line in lines), 4),
        "pseudo_weight": round(sum(weights) / len(weights), 4) if weights else None,
    }


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "adaptation_run"))
