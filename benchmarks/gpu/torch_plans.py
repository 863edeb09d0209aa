"""Times all window plans of a network in PyTorch (CUDA graphs on a GPU) with `hrda bench`, against measured peaks.

    python benchmarks/gpu/torch_plans.py hrda_mitb5 --peaks peaks.json --json plans.json --bundles runs/bundles

Networks other than the shipped `hrda_lite` have random weights: their times are those of trained ones, their masks mean
nothing. A plan that fails is recorded with its reason, and the others go on; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from hrda_core.bench.record import ROOT
from hrda_core.bench.request import BenchRequest
from hrda_core.bench.run import run_bench
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.errors import HrdaError
from hrda_core.inference.bundle import Bundle
from hrda_core.inference.made_image import golden_image
from hrda_core.input_scale import InputScale
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import HRDA, create_model
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import read_json, write_json
from hrda_core.window_plan import HRDA_PLANS

SHIPPED = "hrda_lite"


def bundle_of(preset: str, folder: Path) -> Path:
    """Return the shipped bundle, or write one of a network with random weights; one that is there is taken."""
    if preset == SHIPPED:
        return ROOT / "models" / SHIPPED
    place = folder / preset
    if not place.exists():
        torch.manual_seed(0)
        network = create_model(preset, len(CITYSCAPES19))
        assert isinstance(network, HRDA)
        with torch.no_grad():  # spread the logits, so that the winner does not hang on the last digit
            network.decode_head.head.conv_seg.weight.mul_(100)  # type: ignore[union-attr,operator]
        spec = ExportSpec(preset, preset, {}, InputScale(), {"weights": "random"}, CITYSCAPES19)
        export_bundle(network, spec, place, golden_image(256, 256)[0], say=print)
    return place


def time_plan(bundle: Bundle, plan: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of `hrda bench` and the share of the measured peak that was reached, or `error`."""
    peaks = read_json(options.peaks)
    tflops = peaks["tflops"][precision]
    given = {"peak_tflops": tflops, "bandwidth_gbs": peaks["copy"]["gbs"]}
    try:
        request = BenchRequest(
            bundle.path,
            plan,
            tuple(options.size),
            "torch",
            precision=precision,
            frames=options.frames,
            layers=0,
            **given,
        )
        figures = run_bench(bundle, request, say=print)["figures"]
    except (HrdaError, RuntimeError) as error:  # a plan that a CUDA graph cannot hold, a full memory
        return {"error": str(error).splitlines()[0][:300] if str(error) else type(error).__name__}
    figures.pop("roofline_fps", None)
    if "achieved_gflops" in figures:
        figures["share_of_product"] = round(figures["achieved_gflops"] / 1e3 / tflops, 4)
    return figures


def main() -> int:
    """Time every plan in every precision; the file is replaced after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="hrda_lite, hrda_mitb0, hrda_mitb5, ...")
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--plans", nargs="+", default=list(HRDA_PLANS), choices=HRDA_PLANS)
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--peaks", type=Path, required=True, help="file of benchmarks/gpu/peaks.py")
    parser.add_argument("--bundles", type=Path, required=True, help="folder for bundles with random weights")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    options = parser.parse_args()
    bundle = Bundle.open(bundle_of(options.preset, options.bundles))
    figures: dict[str, dict[str, Any]] = {}
    for precision in options.precisions:
        for plan in options.plans:
            row = time_plan(bundle, plan, precision, options)
            figures[f"{plan} {precision}"] = row
            print(plan, precision, row.get("error") or f"p50 {row['latency']['p50_ms']} ms", flush=True)
            write_json(options.json, figures)
    return int(any("error" in row for row in figures.values()))


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "torch_plans"))
