"""Measures a training step of one process with two threads against two processes of one thread (gloo), same batch.

    python benchmarks/uda_processes.py [--crop 192 256] [--batch 2] [--iterations 20] [--rounds 3]

Runs `hrda train` and `torchrun --nproc_per_node 2 -m hrda_training -- train` in turn on packs/streets, and one process
with one thread beside them. The seconds are those of the runs' own logs; the first three steps of a run are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.machine import machine
from hrda_core.standard_streams import with_streams

PACK = ROOT / "packs" / "streets"
ARMS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}
"""Processes, and threads of each."""
FIRST = 3
"""Steps that allocate and tune, which do not count."""


def recipe(crop: tuple[int, int], batch: int, iterations: int, threads: int) -> dict[str, Any]:
    """Return the self-training of `config/recipes/hrda_lite.yaml`, without MIC, from the pack to its own images."""
    height, width = crop
    images, names = str(PACK / "images"), str(PACK / "train.txt")
    return {
        "name": "uda_processes",
        "method": "self_training",
        "source": {"name": "streets", "images": images, "labels": str(PACK / "labels"), "names": names},
        "target": {"name": "streets", "path": images, "names": names},
        "model": {
            "preset": "hrda_lite",
            "overrides": {"detail_crop": [height // 2, width // 2]},
            "weights": str(ROOT / "models" / "hrda_lite_source" / "model.safetensors"),
            "freeze_encoder_norm": True,
        },
        "crop": {"height": height, "width": width, "scale_min": 0.5, "scale_max": 1.0},
        "iterations": iterations,
        "batch_size": batch,
        "evaluate_every": 0,
        "pictures_every": 0,
        "runtime": {"device": "cpu", "threads": threads},
    }


def seconds_of(folder: Path, processes: int, threads: int, options: argparse.Namespace) -> list[float]:
    """Train, and return the seconds of each step that counts."""
    path, run = folder / "recipe.yaml", folder / "run"
    path.write_text(yaml.safe_dump(recipe(tuple(options.crop), options.batch, options.iterations, threads)))
    several = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    words = ["hrda_training", *(["--"] if several else []), "train", str(path), "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *several, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["seconds"] + line["wait_seconds"] for line in lines[FIRST:]]


def main() -> int:
    """Run the arms in turn, so that a change of load affects all; print and record medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, nargs=2, default=(192, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=2, help="images of a step, over all processes")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="uda_processes", help="of the file below benchmarks/results")
    options = parser.parse_args()
    before = machine()
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for number in range(options.rounds):
        for arm, (processes, threads) in ARMS.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds[arm] += seconds_of(Path(folder), processes, threads, options)
            print(f"round {number + 1}, {arm}: {milliseconds(seconds[arm])['p50_ms']:.0f} ms a step so far", flush=True)
    summary = {arm: milliseconds(values) for arm, values in seconds.items()}
    ratio = summary["one process, two threads"]["p50_ms"] / summary["two processes"]["p50_ms"]
    print(f"two processes of one thread are {ratio:.2f} times as fast as one process with two")
    settings = {key: value for key, value in vars(options).items() if key != "name"}
    path = write_record(options.name, figures=summary | {"ratio": round(ratio, 3)}, settings=settings, before=before)
    print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "uda_processes"))
