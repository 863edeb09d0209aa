"""`hrda adapt` on real drives, three seeds: before, instant, adapted, and whether the verdict agrees with the labels.

    python benchmarks/adaptation/adapt_on_bags.py run --jobs 2     # resumable: benchmarks/results/adapt_on_bags.json
    python benchmarks/adaptation/adapt_on_bags.py run --device cuda --jobs 4
    python benchmarks/adaptation/adapt_on_bags.py table            # for docs/recordings/adapt_on_your_bags.md

Four drives start from models/hrda_lite_source with packs/streets, effort `normal`, which measures `instant` beside it:
CamVid by day and at dusk, India (a recording made of the unlabelled frames of idd_lite, which are no sequence, scored
on its labelled frames) and Boston (a recording made of boston_rear, without labels: verdict, and pictures in its
report). Two older ones, `day to dusk` and `renderings to day`, start from models that are trained here first, by the
arm `source` of benchmarks/adaptation/adaptation.py; their effort was `quick`. Labels are used for the scores of this
table alone. It
needs the data that lies beside developers' clones (../shared).
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
import cv2
import numpy as np

from hrda_core.bench.record import RESULTS, ROOT
from hrda_core.data.recordings.mask_recording import RecordingWriter
from hrda_core.machine import commit, machine
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import replaced_folder, write_json

RESULT_FILE = RESULTS / "adapt_on_bags.json"
SHARED = ROOT.parent / "shared" / "data"
CAMVID = SHARED / "camvid"
SPLITS = ROOT / "config" / "splits"
PACK = ROOT / "packs" / "streets"
MADE_HZ = 2.0
"""Rate of recordings that are made of images."""


@dataclass(frozen=True)
class Drive:
    """A task of the table.

    Attributes:
        bag: the recording, or a folder of images of which one is made.
        held_out: share of the recording that is judged on.
        scored: labelled frames of the held-out part: CamVid names; empty = none.
        forgetting: images, labels and names (or None) of what the given model knows.
        task: task of benchmarks/adaptation/adaptation.py, whose arm `source` gives the model; empty = the model is
            models/hrda_lite_source, and its source packs/streets.
        source: images, labels and list of names of the labelled source, for models that are trained here.
        labelled: labelled images of other frames of the place, scored in the groups `idd7`.
        effort: effort that is run if none is asked for.
    """

    bag: Path
    held_out: float
    scored: tuple[str, ...]
    forgetting: tuple[Path, Path, Path | None]
    task: str = ""
    source: tuple[Path, Path, Path | None] | None = None
    labelled: tuple[Path, Path] | None = None
    effort: str = "normal"


def drives() -> dict[str, Drive]:
    """Return the four drives, and the two older ones."""
    dusk = _names(SPLITS / "camvid_dusk_score.txt")
    day = [name for name in _names(SPLITS / "camvid_day_train.txt") if "0006R0" in name]
    images, labels = CAMVID / "images", CAMVID / "labels"
    synth = SHARED / "synth_streets"
    dusk_bag, day_bag = (SHARED / "rosbags" / f"camvid_{name}_mcap" for name in ("dusk_0001TP", "day_0006R0"))
    rendered = (PACK / "images", PACK / "labels", PACK / "held_out.txt")
    india = SHARED / "idd_lite"
    return {
        "streets to day": Drive(day_bag, 0.25, tuple(day[-25:]), rendered),
        "streets to dusk": Drive(dusk_bag, 0.33, tuple(dusk), rendered),
        "streets to India": Drive(
            india / "images", 0.25, (), rendered, labelled=(india / "score" / "images", india / "score" / "labels")
        ),
        "streets to Boston": Drive(SHARED / "boston_rear" / "images", 0.25, (), rendered),
        "day to dusk": Drive(
            dusk_bag,
            0.33,  # the last 20 of 62 frames
            tuple(dusk),
            (images, labels, SPLITS / "camvid_day_val.txt"),
            "day2dusk",
            (images, labels, SPLITS / "camvid_day_train.txt"),
            effort="quick",
        ),
        "renderings to day": Drive(
            day_bag,
            0.25,
            tuple(day[-25:]),
            (synth / "images" / "val", synth / "labels" / "val", None),
            "synth2camvid",
            (synth / "images" / "train", synth / "labels" / "train", None),
            effort="quick",
        ),
    }


def main() -> int:
    """Run drives or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"))
    four = [name for name, drive in drives().items() if not drive.task]
    parser.add_argument("--drive", nargs="+", default=four, choices=list(drives()))
    parser.add_argument("--effort", nargs="+", help="default: normal, and quick for the two older drives")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks are trained")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "adapt_on_bags")
    parser.add_argument("--trained", type=Path, default=ROOT / "runs" / "adaptation", help="runs of adaptation.py")
    options = parser.parse_args()
    if options.action == "table":
        print(table(read_results()))
        return 0
    wanted = [
        (name, effort, seed)
        for seed in options.seed
        for name in options.drive
        for effort in options.effort or [drives()[name].effort]
    ]
    runs, trained = options.runs.resolve(), options.trained.resolve()
    bags = {name: recording(drives()[name].bag, runs / "recordings") for name in options.drive}
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda row: _run(*row, bags[row[0]], runs, trained, options.device), wanted))
    return 0 if all(done) else 1


def read_results() -> list[dict[str, Any]]:
    """Read the finished rows."""
    if not RESULT_FILE.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(RESULT_FILE.read_text(encoding="utf-8"))["rows"]
    return rows


def recording(path: Path, folder: Path) -> Path:
    """Return the recording at `path`, or make one below `folder` of the images there, in the order of their names."""
    if (path / "metadata.yaml").is_file() or path.is_file():
        return path
    made = folder / path.parent.name
    if made.exists():
        return made
    from rosbags.typesys import Stores, get_typestore

    store, kind = get_typestore(Stores.ROS2_HUMBLE), "sensor_msgs/msg/CompressedImage"
    with replaced_folder(made, "metadata.yaml") as part, RecordingWriter(part, compress=False) as writer:
        for number, file in enumerate(sorted(path.iterdir())):
            data = np.frombuffer(file.read_bytes(), np.uint8)
            if file.suffix != ".jpg":
                data = cv2.imencode(".jpg", cv2.imread(str(file)))[1].reshape(-1)
            stamp = 1_700_000_000 * 10**9 + round(number * 1e9 / MADE_HZ)
            time = store.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = store.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
            message = store.types[kind](header=header, format="jpeg", data=data)
            writer.write("/camera/image_raw/compressed", kind, stamp, store.serialize_cdr(message, kind))
    return made


def _run(name: str, effort: str, seed: int, bag: Path, runs: Path, trained: Path, device: str) -> bool:
    if any((row["drive"], row["effort"], row["seed"]) == (name, effort, seed) for row in read_results()):
        return True
    drive, folder = drives()[name], runs / name.replace(" ", "_") / effort / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    run = adaptation.train_source(drive.task, seed, trained) if drive.task else ROOT / "models" / "hrda_lite_source"
    if run is None:
        return False
    for command in _commands(name, effort, seed, drive, bag, run, folder, device):
        if not _hrda(command, log):
            print(f"{name} {effort} {seed}: failed, see {log}", flush=True)
            return False
    _keep(_row(name, effort, seed, folder, drive, log))
    print(f"{name} {effort} {seed}: done", flush=True)
    return True


def _commands(
    name: str, effort: str, seed: int, drive: Drive, bag: Path, run: Path, folder: Path, device: str
) -> list[list[str]]:
    """Export the given model, pack its source, adapt."""
    given, pack = folder / "given", folder / "pack" if drive.source else PACK
    adapted = {
        "bag": bag,
        "model": given,
        "source": pack,
        "out": folder / "out",
        "work": folder / "work",
        "effort": effort,
        "held_out": drive.held_out,
        "seed": seed,
        "device": device,
        "threads": 1,
        "json": folder / "adapt.json",
    }
    if drive.scored:
        labelled = _linked(folder / "labelled", drive.scored)
        adapted |= {"eval_images": labelled / "images", "eval_labels": labelled / "labels"}
    commands = []
    if not given.is_dir():  # else of an interrupted call: the adaptation goes on only with the same ones
        sample = sorted((PACK / "images").rglob("*.jpg"))[0]
        commands.append(["export", str(run), "--out", str(given), *(() if drive.task else ("--sample", str(sample)))])
    if drive.source and not pack.is_dir():
        images, labels, names = drive.source
        packed = {"images_folder": images, "labels_folder": labels, "out": pack, "name": name}
        packed |= {"licence": "CC BY-NC 4.0"} | ({} if names is None else {"names": names})
        commands.append(["pack-source", *_options(packed)])
    return [*commands, ["adapt", *_options(adapted)]]


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
            # Of the groups that are labelled in the held-out frames; None where nothing is.
            target = measures["eval_miou"]
            if drive.labelled is not None:
                target = _score(bundle, *drive.labelled, None, folder, log, groups="idd7")["mean_iou"]
            scores[candidate] = {"target": target, "known": known["mean_iou"]}
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


def _score(
    bundle: Path, images: Path, labels: Path, names: Path | None, folder: Path, log: Path, groups: str = "camvid11"
) -> dict[str, Any]:
    path = folder / "score.json"
    command = ["evaluate", "--bundle", str(bundle), "--images", str(images), "--labels", str(labels)]
    command += ["--groups", groups, "--threads", "1", "--json", str(path)]
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
            values = [[100 * score[key] for score in scored if score[key] is not None] for key in ("target", "known")]
            cells = [_mean_spread(found) if found else "-" for found in values]
            chosen = sum(row["choice"] == candidate for row in own)
            told = [row["agrees"] for row in own if row["agrees"] is not None]
            agrees = f"{sum(told)} of {len(told)}" if candidate == "given" and told else ""
            columns = [drive, effort, candidate, *cells, f"{chosen} of {len(own)}", agrees]
            lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def _mean_spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "adapt_on_bags"))
