"""Measures what adaptation gains, with controls: every arm of docs/results/adaptation.md, three seeds each.

    python benchmarks/adaptation/adaptation.py plan                             # what is missing here, and an estimate
    python benchmarks/adaptation/adaptation.py run --jobs 2                     # on a CPU, over several sittings
    python benchmarks/adaptation/adaptation.py run --device cuda --precision bf16 --jobs 12 --workers 1 --minutes 9
    python benchmarks/adaptation/adaptation.py table                            # Markdown and picture
    python benchmarks/adaptation/adaptation.py pack --to FOLDER                 # data that runs read, as tar files
    python benchmarks/adaptation/adaptation.py run --task synth2camvid day2dusk # the two short tasks

An arm is a recipe of config/recipes with a few values replaced (`adaptation_tasks.py`). All arms of a task start from
the same weights and take the same number of iterations, except for the control of equal time. Labels of the target are
read for scoring only, and in the arm `target` (the upper bound). Every call of `run` goes on where the last one
stopped: finished runs are in the result files of benchmarks/results, others have a checkpoint below --runs. Runs of the
first seed come first, so that an unfinished table has all arms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from adaptation_tasks import ADABN, ARMS, DATA, LONG_TASKS, SHARED, SHARED_FOLDER, TASKS, Task, arm_recipe

from hrda_core.bench.record import ROOT
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, HrdaError
from hrda_core.inference.bundle import file_record
from hrda_core.machine import commit, machine
from hrda_core.metrics import score
from hrda_core.standard_streams import with_streams
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.methods import image_space
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.sources import open_validation, validation_groups
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.validation import predictor
from hrda_core.uda.adabn import reestimate_batchnorm
from hrda_core.whole_files import read_json, write_json

RUNS = ROOT / "runs" / "adaptation"
_GRACE_S = 30.0
_STOPPED = 130


def main() -> int:
    """Run arms, say what is missing, print tables, or pack data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "plan", "table", "pack"))
    parser.add_argument("--task", nargs="+", default=list(LONG_TASKS), choices=list(TASKS))
    parser.add_argument("--arm", nargs="+", choices=[*ARMS, *ADABN], help="default: those of the task's table")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--workers", type=int, default=0, help="processes that load data, for each run; 0 = a thread")
    parser.add_argument("--minutes", type=float, default=0, help="then write checkpoints and end; 0 = no limit")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of runs and checkpoints")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that the recipes call ../shared/data")
    parser.add_argument("--measure", action="store_true", help="plan: take three steps of each arm first")
    parser.add_argument("--to", type=Path, default=ROOT / "runs" / "packed", help="pack: where the tar files go")
    parser.add_argument("--part-mib", type=int, default=40, help="pack: largest size of a tar file")
    options = parser.parse_args()
    if options.jobs < 1 or options.workers < 0 or options.minutes < 0:
        parser.error("--jobs is 1 or more, --workers and --minutes are 0 or more")
    options.runs, options.data = options.runs.resolve(), options.data.resolve()
    try:
        return _ACTIONS[options.action](options)
    except HrdaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def wanted_runs(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Return task, arm and seed of the runs that are asked for, the first seed first."""
    return [
        (task, arm, seed)
        for seed in options.seed
        for arm in dict.fromkeys(options.arm or [arm for task in options.task for arm in TASKS[task].arms])
        for task in options.task
        if _exists(TASKS[task], arm) and (arm != "start" or seed == options.seed[0])
    ]


def _exists(task: Task, arm: str) -> bool:
    """Scores with other statistics are arms of the short tasks alone; the start is one of the long tasks alone."""
    if arm == "target" and not task.labelled_target:
        return False
    return arm not in ADABN and (arm != "source_equal_time") if task.long else arm != "start"


def read_results(task: str = "") -> list[dict[str, Any]]:
    """Read the finished runs of one task, or of all."""
    rows: list[dict[str, Any]] = []
    for path in dict.fromkeys(found.result_file for found in TASKS.values()):
        if path.exists():
            rows += read_json(path)["runs"]
    return [row for row in rows if task in ("", row["task"])]


def start_of(task: str, runs: Path) -> str:
    """Return the sha256 of the weights that a task starts from.

    Raises:
        DataError: they are not there, or finished runs of the task started from others.
    """
    found: str = file_record(TASKS[task].start.path(runs))["sha256"]
    others = {row["start"] for row in read_results(task) if "start" in row} - {found}
    if others:
        raise DataError(
            f"'{TASKS[task].result_file}' has runs of {task} that started from {', '.join(sorted(others))}, and "
            f"'{TASKS[task].start.file}' is {found} now; one table needs one start: put the old file back, or move "
            f"the results away"
        )
    return found


def _is_done(task: str, arm: str, seed: int) -> bool:
    return any((row["arm"], row["seed"]) == (arm, seed) for row in read_results(task))


@dataclass
class Sitting:
    """One call of `run`.

    Attributes:
        runs: folder of runs and checkpoints.
        data: folder of the data.
        runtime: the section `runtime` of all recipes.
        ends: `time.monotonic` at which runs are told to stop; None = never.
        stopping: set when no run is to begin any more.
    """

    runs: Path
    data: Path
    runtime: Mapping[str, Any]
    ends: float | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def over(self) -> bool:
        """Return whether no run is to begin any more."""
        if self.ends is not None and time.monotonic() >= self.ends:
            self.stopping.set()
        return self.stopping.is_set()

    def recipe(self, task: str, arm: str, seed: int) -> dict[str, Any]:
        """Return the recipe of an arm as this sitting carries it out."""
        start = TASKS[task].start.path(self.runs)
        return arm_recipe(task, arm, seed, start, runtime=self.runtime, data=self.data)

    def carry_out(self, command: Sequence[str], folder: Path) -> int:
        """Run a command with its output in the run's folder; when the time is over it is asked to stop, then made to.

        Returns:
            its exit code; 130 where it was stopped.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
        with (folder / "output.txt").open("a", encoding="utf-8") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
            asked: float | None = None
            while process.poll() is None:
                time.sleep(0.1)
                if self.over() and (asked is None or time.monotonic() - asked > _GRACE_S):
                    process.terminate()  # the first writes a checkpoint, the second ends even the scoring
                    asked = time.monotonic()
        return _STOPPED if process.returncode and self.over() else process.returncode


def _run_all(options: argparse.Namespace) -> int:
    runtime = {"device": options.device, "precision": options.precision, "threads": 1, "workers": options.workers}
    ends = time.monotonic() + 60 * options.minutes if options.minutes else None
    sitting = Sitting(options.runs, options.data, runtime, ends)
    runs = [run for run in wanted_runs(options) if not _is_done(*run)]
    for task in {task for task, _, _ in runs}:
        start_of(task, options.runs)  # a mistake shall show once, before anything runs
    # Statistics of another arm's network come after that arm.
    halves = [_units([run for run in runs if (run[1] in ADABN) == later]) for later in (False, True)]
    results: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for half in halves:
                results += pool.map(lambda unit: _run(*unit, sitting), half)
        except KeyboardInterrupt:
            sitting.stopping.set()
            raise
    failed = results.count("failed")
    print(f"{results.count('done')} runs done, {failed} failed, {results.count('left')} left for the next call")
    return 1 if failed else 0


def _units(runs: Sequence[tuple[str, str, int]]) -> list[tuple[tuple[str, ...], str, int]]:
    """The runs, those with one training in common as one."""
    units: dict[tuple[str, str, int], list[str]] = {}
    for task, arm, seed in runs:
        units.setdefault((folder_name(task, arm), arm, seed), []).append(task)
    return [(tuple(tasks), arm, seed) for (_, arm, seed), tasks in units.items()]


def folder_name(task: str, arm: str) -> str:
    """Return the folder of a task's arm below --runs."""
    return SHARED_FOLDER if TASKS[task].long and arm in SHARED else task


def _run(tasks: tuple[str, ...], arm: str, seed: int, sitting: Sitting) -> str:
    """Train and score one arm; returns what became of it."""
    name = f"{folder_name(tasks[0], arm)}/{arm}/{seed}"
    if sitting.over():
        return "left"
    try:
        code = (
            _run_long(tasks, arm, seed, sitting) if TASKS[tasks[0]].long else _run_short(tasks[0], arm, seed, sitting)
        )
    except (HrdaError, OSError) as error:
        print(f"{name}: {error}", flush=True)
        return "failed"
    result = {0: "done", _STOPPED: "left"}.get(code, "failed")
    print(f"{name}: {result}" + (f", see {sitting.runs / name / 'output.txt'}" * (result == "failed")), flush=True)
    return result


def _run_long(tasks: tuple[str, ...], arm: str, seed: int, sitting: Sitting) -> int:
    folder = sitting.runs / folder_name(tasks[0], arm) / arm / str(seed)
    recipe, start = sitting.recipe(tasks[0], arm, seed), start_of(tasks[0], sitting.runs)
    facts = folder / "facts.json"
    if facts.is_file() and read_json(facts)["start"] != start:
        raise DataError(f"the run in '{folder}' started from other weights than those of now; delete it")
    _write_arm(folder, recipe)
    targets = {}
    for task in LONG_TASKS if arm in SHARED else tasks:
        # The target of the statistics, also for arms that do not adapt; enlarged where the arm's images are.
        target = sitting.recipe(task, arm if arm.endswith("_large") else "hrda", seed)["target"]
        targets[task] = {key: target[key] for key in ("name", "path", "names", "resize") if key in target}
    write_json(facts, {"targets": targets, "trained": arm != "start", "start": start})
    if not (folder / "result.json").is_file():
        worker = Path(__file__).with_name("adaptation_run.py")
        code = sitting.carry_out([sys.executable, str(worker), str(folder)], folder)
        if code:
            return code
    for task in tasks:
        found = read_json(folder / "result.json")[task]
        entry = _entry(task, arm, seed, recipe["iterations"] * (arm != "start"), found.get("step_s"), None, [])
        _keep(task, entry | found | {"start": start, "runtime": dict(recipe["runtime"])})
    return 0


def _run_short(task: str, arm: str, seed: int, sitting: Sitting) -> int:
    trained = ADABN[arm][0] if arm in ADABN else arm
    folder, recipe = sitting.runs / task / trained / str(seed), sitting.recipe(task, trained, seed)
    code = _train(folder, recipe, sitting)  # nothing to do if its run is still there
    if code:
        return code
    if arm in ADABN:
        _keep(task, _adabn_result(task, arm, seed, folder, keep_encoder=ADABN[arm][1]))
    else:
        _keep(task, _result(task, arm, seed, folder, recipe))
    return 0


def train_source(task: str, seed: int, runs: Path) -> Path | None:
    """Train the arm `source` of a short task unless it is there; returns its folder, None if it failed."""
    sitting, folder = Sitting(runs, DATA, {"threads": 1}), runs / task / "source" / str(seed)
    return None if _train(folder, sitting.recipe(task, "source", seed), sitting) else folder


def _train(folder: Path, recipe: Mapping[str, Any], sitting: Sitting) -> int:
    """Carry a run out, or what is left of it."""
    _write_arm(folder, recipe)
    command = [sys.executable, "-m", "hrda_training", "train", str(folder / "arm.yaml"), "--run", str(folder)]
    return sitting.carry_out([*command, "--resume", "auto"], folder)


def _write_arm(folder: Path, recipe: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "arm.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")


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
        "step_s": step_s if step_s is None else round(step_s, 4),
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
    target = TASKS[task].base()["target"]
    reestimate_batchnorm(network, _target_batches(target, recipe), plan="tiles", keep_encoder=keep_encoder)
    scores = [
        {"network": "student", "name": config.name}
        | score(
            predictor(network, recipe, config), open_validation(config), validation_groups(config, recipe_space(recipe))
        ).to_dict()
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


def _keep(task: str, result: dict[str, Any]) -> None:
    path = TASKS[task].result_file
    with _KEEPING:
        before = read_json(path) if path.exists() else {"benchmark": path.stem, "runs": []}
        if TASKS[task].long:  # a table may come from several machines
            result = {**result, "machine": machine()["cpu"]}
        write_json(path, {**before, "machine": machine(), "runs": [*before["runs"], result]})


def _plan(options: argparse.Namespace) -> int:
    from adaptation_plan import absent, measure, plan

    runs = wanted_runs(options)
    for sentence in absent(options.task, options.runs, options.data):
        print(f"absent: {sentence}")
    if options.measure:
        measure(runs, options)
    print(plan(runs, read_results(), options))
    return 0


def _table(options: argparse.Namespace) -> int:
    from adaptation_table import draw_bars, markdown

    for path in dict.fromkeys(TASKS[task].result_file for task in options.task):
        rows = [row for row in read_results() if TASKS[row["task"]].result_file == path and row["task"] in options.task]
        if not rows:
            print(f"no run of {', '.join(options.task)} is finished: '{path}' is not there")
            continue
        print(markdown(rows))
        draw_bars(rows, ROOT / "docs" / "images" / f"{path.stem}.png")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from adaptation_plan import pack

    for path in pack(options.task, options.data, options.to, options.part_mib):
        print(path)
    return 0


_ACTIONS = {"run": _run_all, "plan": _plan, "table": _table, "pack": _pack}


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "adaptation"))
