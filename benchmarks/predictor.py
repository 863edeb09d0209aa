"""Predictor of a bundle against the same network in eager PyTorch, by window plan and image size."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.deploy.network import load_network
from hrda_core.inference import Bundle, Predictor
from hrda_core.machine import machine

SIZES = ((360, 480), (480, 640), (1080, 1920))


def main() -> int:
    """Interleave all candidates, so that a change of load meets each of them; print and record medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "hrda_lite")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(options.threads)
    bundle = Bundle.open(options.bundle)
    predictors = {plan: Predictor(bundle, plan=plan, threads=options.threads) for plan in ("tiles", "context")}
    figures = {}
    for height, width in SIZES:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        candidates: dict[str, Callable[[], object]] = {
            plan: partial(predictor, image) for plan, predictor in predictors.items()
        }
        candidates["tiles_eager_torch"] = _eager(bundle, predictors["tiles"], image)
        times = _interleave(candidates, options.frames)
        figures[f"{width}x{height}"] = times
        for name, summary in times.items():
            print(
                f"{width}x{height} {name:<18} p50 {summary['p50_ms']:7.1f} ms  {1e3 / summary['p50_ms']:5.1f} images/s"
            )
    settings = {
        "bundle": bundle.name,
        "threads": options.threads,
        "frames": options.frames,
        "long_side": bundle.long_side,
    }
    print(f"written: {write_record('predictor', figures=figures, settings=settings, before=before).relative_to(ROOT)}")
    return 0


def _interleave(candidates: dict[str, Callable[[], object]], frames: int) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for frame in range(frames + 2):
        for name, run in candidates.items():
            begin = time.perf_counter()
            run()
            if frame >= 2:  # the first two allocate and tune
                seconds[name].append(time.perf_counter() - begin)
    return {name: milliseconds(values) for name, values in seconds.items()}


def _eager(bundle: Bundle, predictor: Predictor, image: np.ndarray) -> Callable[[], object]:
    """The same padded image through the PyTorch network, to class ids."""
    model = load_network(bundle)
    plan = predictor.plan_for(*image.shape[:2])
    padded = predictor._pad(image, plan).copy()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (bundle.mean, bundle.std))

    @torch.inference_mode()
    def run() -> object:
        pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float()
        logits = model((pixels - mean) / std, bundle.graphs["tiles"].grid)
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False).argmax(1)

    return run


if __name__ == "__main__":
    raise SystemExit(main())
