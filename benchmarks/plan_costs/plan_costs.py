"""Measures accuracy against cost of the window plans: the figures of docs/robot/real_time.md, with the shipped weights.

    python benchmarks/plan_costs/plan_costs.py masks     # masks of every arm on CamVid; resumable; long for PyTorch
    python benchmarks/plan_costs/plan_costs.py speed     # every arm in turn at 480 x 640, one and two threads
    python benchmarks/plan_costs/plan_costs.py collect   # benchmarks/results/plan_costs.json, table and picture

`masks` and `collect` need the CamVid frames that lie beside clones of developers (or --camvid). Operations at 1080 x
1920 are counted, not run. plan_costs_arms.py defines the arms. `--also NAME=BUNDLE` adds another model, such as a slim
one, with its plans `tiles` and `context`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import torch
from plan_costs_arms import ARMS, BUNDLE, CHECK_ARMS, GRID, NESTED, OVERLAP, Arm, arm_named
from plan_costs_masks import load_frames, predict_masks, scores
from plan_costs_picture import draw
from plan_costs_speed import SPEED_SIZE, flops_at_1080, graph_gflop, measure, ratios
from plan_costs_table import tables

from hrda_core.bench.record import ROOT, write_record
from hrda_core.machine import load_average, machine
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import write_json
from hrda_core.window_plan import PlanChoice

SPEED_FILE = "speed.json"
CHECK_EVERY = 3
"""Checks, which take long, are scored on each third frame of the day's video."""


def main() -> int:
    """Carry one action out."""
    options = _options()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    also = [arm for entry in options.also for arm in _further(entry)]
    chosen = [arm_named(name, also) for name in options.arm] if options.arm else [*ARMS, *also]
    if options.action == "masks":
        frames = load_frames(options.camvid, options.every)
        for arm in chosen if options.arm else [*chosen, *CHECK_ARMS]:
            few = load_frames(options.camvid, CHECK_EVERY) if arm in CHECK_ARMS else frames
            predict_masks(arm, few, options.work)
            print(f"{arm.name}: done", flush=True)
    elif options.action == "speed":
        before = machine()
        figures = measure(chosen if options.arm else [*chosen, *CHECK_ARMS], options.work, options.rounds)
        record = {"machine": before, "load_average_after": load_average(), "rounds": options.rounds}
        write_json(options.work / SPEED_FILE, {**record, "figures": figures})
    else:
        _collect(options, also)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("masks", "speed", "collect"))
    parser.add_argument("--arm", nargs="+", default=[], help="names of arms; without it all")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=BUNDLE", help="further models")
    parser.add_argument("--every", type=int, default=1, help="score each nth frame of the day's video")
    parser.add_argument("--rounds", type=int, default=15, help="speed: rounds, each of one image through each arm")
    parser.add_argument("--camvid", type=Path, default=ROOT.parent / "shared" / "data" / "camvid")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "plan_costs")
    return parser.parse_args()


def _further(entry: str) -> list[Arm]:
    name, _, bundle = entry.partition("=")
    if not (Path(bundle) / "manifest.yaml").is_file():
        raise SystemExit(f"--also takes NAME=BUNDLE with a folder that is a bundle, not '{entry}'")
    path = Path(bundle).resolve()
    return [
        Arm(f"{name}, tiles", PlanChoice("tiles", GRID), bundle=path),
        Arm(f"{name}, context", PlanChoice("context"), bundle=path),
    ]


def _collect(options: argparse.Namespace, also: list[Arm]) -> None:
    """Score the masks, add speed and operations, write record, table and picture."""
    frames = load_frames(options.camvid, options.every)
    speed = json.loads((options.work / SPEED_FILE).read_text(encoding="utf-8"))
    few = load_frames(options.camvid, CHECK_EVERY)
    arms: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    for arm in [*ARMS, *also]:
        arms[arm.name] = {"gflop": graph_gflop(arm, options.work), **speed["figures"].get(arm.name, {})}
        arms[arm.name] |= scores(arm, frames, options.work)
    for arm in [arm_named(NESTED), arm_named(OVERLAP), *CHECK_ARMS]:
        checks[arm.name] = {"gflop": graph_gflop(arm, options.work), **speed["figures"].get(arm.name, {})}
        checks[arm.name] |= scores(arm, few, options.work)
    figures = {
        "arms": arms,
        "checks": checks,
        "ratios": ratios(speed["figures"]),
        "gflop_1080x1920": flops_at_1080(),
    }
    settings = {
        "bundle": str(BUNDLE.relative_to(ROOT)),
        "every": options.every,
        "speed_size": list(SPEED_SIZE),
        "rounds": speed["rounds"],
        "also": [arm.name for arm in also],
        "load_average_after_speed": speed["load_average_after"],
    }
    write_record("plan_costs", figures=figures, settings=settings, before=speed["machine"])
    print(tables(figures))
    draw(figures, ROOT / "docs" / "images" / "accuracy_against_cost.png")


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "plan_costs"))
