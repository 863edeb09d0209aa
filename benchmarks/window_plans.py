"""Time, cost and agreement of each window plan, and what sharing the detail crops of nested windows saves.

MiT-B0 with random weights at a quarter of the paper's scale, so that two CPU cores suffice: 1024 x 2048 with windows of
1024 and detail crops of 512 becomes 256 x 512 with 256 and 128. All candidates run in turn in each round, so that a
change of load meets each of them. With random weights the agreement with `nested` says only that plans differ; for a
trained network give `--bundle` and `--images`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.deploy.network import load_network
from hrda_core.inference import Bundle
from hrda_core.machine import machine
from hrda_core.models import HRDA, create_model
from hrda_core.window_plan import HRDA_PLANS
from hrda_core.windows.flops import FlopCounter
from hrda_core.windows.torch_windows import plan_for, predict_logits, run_plan

Times = dict[str, list[float]]
NAIVE = "nested, every crop anew"
SHARED_SINGLE = "nested, one crop a run"
NAIVE_SINGLE = "nested, every crop anew, one a run"


def main() -> int:
    """Run, print and record."""
    options = _options()
    before = machine()
    torch.set_num_threads(options.threads)
    model, mean, std = _network(options.bundle, options.detail_crop)
    images = [(image - mean) / std for image in _images(options)]
    candidates = _candidates(model, options.height, options.width)
    agreement = _agreement(candidates, images)  # first, since it warms up as well
    wall, cpu = _interleave(candidates, images[0], options.rounds)
    cost = FlopCounter(model)
    figures = {}
    for name in candidates:
        plan = name.partition(",")[0]
        flops = cost(plan, options.height, options.width, share_detail="anew" not in name)
        counts = {"gflop": round(flops.giga, 2), "windows": flops.windows, "detail_crops": flops.crops}
        cpu_ms = milliseconds(cpu[name])["p50_ms"]
        figures[name] = {**counts, **milliseconds(wall[name]), "cpu_p50_ms": cpu_ms, **agreement[name]}
        print(
            f"{name:36} {flops.giga:8.1f} GFLOP  {flops.crops:3} crops  p50 {cpu_ms:8.0f} ms CPU "
            f"{figures[name]['p50_ms']:8.0f} ms wall  "
            f"same class as nested {100 * agreement[name]['same_class']:6.2f} %"
        )
    settings = {**vars(options), "bundle": str(options.bundle), "images": str(options.images), "taken": len(images)}
    settings |= {"network": "MiT-B0, random weights" if options.bundle is None else str(options.bundle)}
    print(f"written: {write_record(options.name, figures=figures, settings=settings, before=before).relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--detail-crop", type=int, default=128, help="without --bundle")
    parser.add_argument("--bundle", type=Path, help="a trained network instead of MiT-B0 with random weights")
    parser.add_argument("--images", type=Path, help="folder of images for the agreement; else one made image")
    parser.add_argument("--count", type=int, default=8, help="images taken from the folder, evenly spread")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="window_plans", help="name of the record")
    return parser.parse_args()


def _interleave(candidates: dict[str, Callable[[Tensor], Tensor]], image: Tensor, rounds: int) -> tuple[Times, Times]:
    """Wall and processor seconds. On a shared machine with one thread the latter say more."""
    wall: Times = {name: [] for name in candidates}
    cpu: Times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            run(image)
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - begin_cpu)
    return wall, cpu


def _candidates(model: HRDA, height: int, width: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Each plan, and nested windows that compute shared crops again: in one batch, and one by one."""
    naive = plan_for(model, "nested", height, width, share_detail=False)
    plans: dict[str, Callable[[Tensor], Tensor]] = {
        plan: lambda image, plan=plan: predict_logits(model, image, plan) for plan in HRDA_PLANS
    }
    return plans | {
        NAIVE: lambda image: run_plan(model, image, naive),
        SHARED_SINGLE: lambda image: predict_logits(model, image, "nested", max_batch=1),
        NAIVE_SINGLE: lambda image: run_plan(model, image, naive, max_batch=1),
    }


def _agreement(candidates: dict[str, Callable[[Tensor], Tensor]], images: list[Tensor]) -> dict[str, dict[str, float]]:
    """Share of pixels with the class of `nested`, and the largest difference of logits relative to the largest."""
    same: dict[str, list[float]] = {name: [] for name in candidates}
    apart: dict[str, list[float]] = {name: [] for name in candidates}
    for image in images:
        reference = candidates["nested"](image)
        for name, run in candidates.items():
            found = run(image)
            same[name].append(float((found.argmax(1) == reference.argmax(1)).float().mean()))
            apart[name].append(float((found - reference).abs().max() / reference.abs().max()))
    return {
        name: {
            "same_class": round(float(np.mean(same[name])), 6),
            "largest_difference": float(f"{max(apart[name]):.2g}"),
        }
        for name in candidates
    }


def _network(bundle: Path | None, detail_crop: int) -> tuple[HRDA, Tensor, Tensor]:
    """An HRDA network in eval mode, and the normalisation of its images."""
    if bundle is not None:
        opened = Bundle.open(bundle)
        model, mean, std = load_network(opened), opened.mean, opened.std
    else:
        torch.manual_seed(0)
        model, mean, std = create_model("hrda_mitb0", 19, detail_crop=(detail_crop, detail_crop)), [127.5] * 3, [60] * 3
    if not isinstance(model, HRDA):
        raise SystemExit(f"{bundle} is not an HRDA network; window plans compare only for those")
    return model.eval(), torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)


def _images(options: argparse.Namespace) -> list[Tensor]:
    """RGB images 0..255 as float (1, 3, height, width)."""
    if options.images is None:
        generator = np.random.default_rng(0)
        coarse = generator.integers(0, 256, (options.height // 16, options.width // 16, 3), np.uint8)
        pictures = [cv2.resize(coarse, (options.width, options.height), interpolation=cv2.INTER_CUBIC)]
    else:
        paths = sorted(path for path in options.images.rglob("*") if path.suffix in (".png", ".jpg"))
        chosen = paths[:: max(1, len(paths) // options.count)][: options.count]
        read = (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in chosen)
        pictures = [
            cv2.resize(picture, (options.width, options.height), interpolation=cv2.INTER_AREA) for picture in read
        ]
    return [torch.from_numpy(picture).permute(2, 0, 1)[None].float() for picture in pictures]


if __name__ == "__main__":
    raise SystemExit(main())
