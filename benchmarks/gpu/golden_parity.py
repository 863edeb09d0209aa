"""Compares HRDA-MiT-B0 on a device, in single and half precision, with the golden values of the reference."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test" / "support"))

from golden import argmax_agreement, golden, relative_error
from golden_inference import ARRAYS, golden_inference

from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import write_json

BARS = {"fp32": (1e-4, 0.999), "bf16": (5e-2, 0.97)}
"""Largest relative error of a map and smallest share of equal classes. In single precision those of the tests; in half
precision ten times what bfloat16 rounds a value by, since no reference in half precision exists."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def parity(device: str, precision: str) -> dict[str, float]:
    """Return the relative error of each map, and `classes`, the share of equal classes, 0..1."""
    expected = golden("hrda_mitb0_inference")
    found = golden_inference(device, DTYPES[precision])
    errors = {
        own: float(relative_error(expected.sample(array, found[own]), expected[array])) for array, own in ARRAYS.items()
    }
    size = expected["image"].shape[2:]
    large = torch.nn.functional.interpolate(found["fused"], size=size, mode="bilinear", align_corners=False)
    equal = argmax_agreement(expected.sample("fused_argmax", large.argmax(1)), expected["fused_argmax"])
    return {**errors, "classes": float(equal)}


def main() -> int:
    """Compare, print and write; the exit code is 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--precisions", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # single precision means single
    figures, missed = {}, False
    for precision in options.precisions:
        largest, share = BARS[precision]
        row = parity(options.device, precision)
        reached = max(value for name, value in row.items() if name != "classes") <= largest and row["classes"] >= share
        missed |= not reached
        figures[precision] = {**row, "bar": [largest, share], "reached": reached}
        print(precision, figures[precision])
    write_json(options.json, figures)
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "golden_parity"))
