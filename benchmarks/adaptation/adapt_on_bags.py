"""`hrda adapt` on real drives, three seeds: before, instant, adapted, and whether the verdict agrees with the labels.

    python benchmarks/adaptation/adapt_on_bags.py run --jobs 2     # resumable: benchmarks/results/adapt_on_bags.json
    python benchmarks/adaptation/adapt_on_bags.py table            # for docs/recordings/adapt_on_your_bags.md

There are two drives, each with a model that never saw its domain, trained here first from the recipes of
benchmarks/adaptation/adaptation.py (arm `source`): day -> dusk (labelled CamVid day frames, the dusk bag), and
renderings -> day (synth_streets, a day bag). Labels of the drives' held-out frames are used for the scores of this
table alone. It needs the data that lies beside developers' clones (../shared).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import adaptation

from hrda_core.bench.record import RESULTS, ROOT
from hrda_core.machine import commit, machine
from hrda_core.whole_files import write_json

RESULT_FILE = RESULTS / "adapt_on_bags.json"
SHARED = ROOT.parent / "shared" / "data"
CAMVID = SHARED / "camvid"
SPLITS = ROOT / "config" / "splits"


@dataclass(frozen=True)
class Drive:
    """A task of the table.

    Attributes:
        task: task of benchmarks/adaptation/adaptation.py, whose arm `source` gives the model.
        bag: the recording.
        held_out: share of the recording that is judged on.
        scored: labelled frames of the held-out part: CamVid names.
        source: images, labels and list of names of the labelled source.
        forgetting: images, labels, names (or None) and groups of what the given model knows.
    """

    task: str
    bag: Path
    held_out: float
    scored: tuple[str, ...]
    source: tuple[Path, Path, Path | None]
    forgetting: tuple[Path, Path, Path | None]


def drives() -> dict[str, Drive]:
    """Return the two tasks."""
    dusk = _names(SPLITS / "camvid_dusk_score.txt")
    day = [name for name in _names(SPLITS / "camvid_day_train.txt") if "0006R0" in name]
    images, labels = CAMVID / "images", CAMVID / "labels"
    synth = SHARED / "synth_streets"
    return {
        "day to dusk": Drive(
            "day2dusk",
            SHARED / "rosbags" / "camvid_dusk_0001TP_mcap",
            0.33,  # the last 20 of 62 frames
            tuple(dusk),
            (images, labels, SPLITS / "camvid_day_train.txt"),
            (images, labels, SPLITS / "camvid_day_val.txt"),
        ),
        "renderings to day": Drive(
            "synth2camvid",
            SHARED / "rosbags" / "camvid_day_0006R0_mcap",
            0.25,
            tuple(day[-25:]),
            (synth / "images" / "train", synth / "labels" / "train", None),
            (synth / "images" / "val", synth / "labels" / "val", None),
        ),
    }


def main() -> int:
    """Run drives or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--drive", nargs="+", default=list(drives()), choices=list(drives()))
    parser.add_argument("--effort", nargs="+", default=["quick"])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "adapt_on_bags")
    parser.add_argument("--trained", type=Path, default=ROOT / "runs" / "adaptation", help="runs of adaptation.py")
    options = parser.parse_args()
    if options.action == "table":
        print(table(read_results()))
        return 0
    wanted = [(name, effort, seed) for seed in options.seed for effort in options.effort for name in options.drive]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda row: _run(*row, options.runs, options.trained), wanted))
    return 0 if all(done) else 1


def read_results() -> list[dict[str, Any]]:
    """Read the finished rows."""
    if not RESULT_FILE.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(RESULT_FILE.read_text(encoding="utf-8"))["rows"]
    return rows


def _run(name: str, effort: str, seed: int, runs: Path, trained: Path) -> bool:
    if any((row["drive"], row["effort"], row["seed"]) == (name, effort, seed) for row in read_results()):
        return True
    drive, folder = drives()[name], runs / name.replace(" ", "_") / effort / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    run = trained / drive.task / "source" / str(seed)
    if not adaptation._train(run, adaptation._recipe(drive.task, "source", seed)):
        return False
    for command in _commands(name, effort, seed, drive, run, folder):
        if not _hrda(command, log):
            print(f"{name} {effort} {seed}: failed, see {log}", flush=True)
            return False
    _keep(_row(name, effort, seed, folder, drive, log))
    print(f"{name} {effort} {seed}: done", flush=True)
    return True


def _commands(name: str, effort: str, seed: int, drive: Drive, run: Path, folder: Path) -> list[list[str]]:
    """Export the given model, pack its source, adapt."""
    given, pack, labelled = folder / "given", folder / "pack", _linked(folder / "labelled", drive.scored)
    images, labels, names = drive.source
    packed = {"images_folder": images, "labels_folder": labels, "out": pack, "name": name, "licence": "CC BY-NC 4.0"}
    adapted = {
        "bag": drive.bag,
        "model": given,
        "source": pack,
        "out": folder / "out",
        "work": folder / "work",
        "effort": effort,
        "held_out": drive.held_out,
        "eval_images": labelled / "images",
        "eval_labels": labelled / "labels",
        "seed": seed,
        "threads": 1,
        "json": folder / "adapt.json",
    }
    adapt = ["adapt", *_options(adapted)]
    if given.is_dir() and pack.is_dir():  # of an interrupted call: the adaptation goes on only with the same ones
        return [adapt]
    return [
        ["export", str(run), "--out", str(given)],
        ["pack-source", *_options(packed if names is None else packed | {"names": names})],
        adapt,
    ]


def _options(values: Mapping[str, Any]) -> list[str]:
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def _row(name: str, effort: str, seed: int, folder: Path, drive: Drive, log: Path) -> dict[str, Any]:
    outcome = json.loads((folder / "adapt.json").read_text(encoding="utf-8"))
    bundles = {"given": folder / "given"} | {n: folder / "work" / n for n in ("instant", "adapted")}
    scores = {}
    for candidate, bundle in bundles.items():
        if bundle.is_dir():
            measures = outcome["measures"]["candidates"][candidate]
            known = _score(bundle, *drive.forgetting, folder, log)
            # Of the groups that are labelled in the held-out frames.
            scores[candidate] = {"target": measures["eval_miou"], "known": known["mean_iou"]}
    return {
        "drive": name,
        "effort": effort,
        "seed": seed,
        "scores": scores,
        "choice": outcome["choice"],
        "agrees": outcome["labels_agree"],
        "reasons": outcome["reasons"],
        "measures": outcome["measures"],
        "stages": outcome["stages"],
        "commit": commit(),
    }


def _score(bundle: Path, images: Path, labels: Path, names: Path | None, folder: Path, log: Path) -> dict[str, Any]:
    path = folder / "score.json"
    command = ["evaluate", "--bundle", str(bundle), "--images", str(images), "--labels", str(labels)]
    command += ["--groups", "camvid11", "--threads", "1", "--json", str(path)]
    if not _hrda(command if names is None else [*command, "--list", str(names)], log):
        raise SystemExit(f"evaluation failed, see {log}")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _hrda(arguments: Sequence[str], log: Path) -> bool:
    with log.open("a", encoding="utf-8") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "hrda_training", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, env=environment, check=False)
    return done.returncode == 0


def _linked(folder: Path, names: Sequence[str]) -> Path:
    for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            stem = Path(name).stem
            source = next((CAMVID / kind).rglob(f"{stem}.*"))
            target = folder / kind / f"{stem}{source.suffix or suffix}"
            if not target.exists():
                target.symlink_to(source)
    return folder


def _names(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _keep(row: Mapping[str, Any]) -> None:
    with adaptation._KEEPING:
        record = {"benchmark": "adapt_on_bags", "machine": machine(), "rows": [*read_results(), row]}
        write_json(RESULT_FILE, record)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown with a line for each drive, effort and model."""
    lines = [
        "| drive | effort | model | held-out frames | what it knew before | chosen | verdict and labels agree |",
        "|---|---|---|---|---|---|---|",
    ]
    for drive, effort in dict.fromkeys((row["drive"], row["effort"]) for row in rows):
        own = [row for row in rows if (row["drive"], row["effort"]) == (drive, effort)]
        for candidate in ("given", "instant", "adapted"):
            scored = [row["scores"][candidate] for row in own if candidate in row["scores"]]
            if not scored:
                continue
            cells = [_mean_spread([100 * score[key] for score in scored]) for key in ("target", "known")]
            chosen = sum(row["choice"] == candidate for row in own)
            agrees = f"{sum(row['agrees'] is True for row in own)} of {len(own)}" if candidate == "given" else ""
            columns = [drive, effort, candidate, *cells, f"{chosen} of {len(own)}", agrees]
            lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def _mean_spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    raise SystemExit(main())
