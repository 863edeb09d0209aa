"""Time and memory of classes made in bands, against logits of the whole image, at 16 megapixels.

    python benchmarks/class_bands.py    # half a minute; writes benchmarks/results/class_bands.json

The network is models/hrda_lite with plan `context` in PyTorch, one thread, an image of 4096 x 4096 pixels. Each run is
a process of its own, in turns; the memory is the largest that it held (`ru_maxrss`) beyond that before the image.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from statistics import median

import torch

from hrda_core.bench.record import ROOT, write_record
from hrda_core.deploy.network import load_network
from hrda_core.inference import Bundle, predict_logits
from hrda_core.standard_streams import with_streams
from hrda_core.windows.class_bands import predict_classes

SIDE, PLAN, ROUNDS = 4096, "context", 3
ARMS = ("whole", "bands")


def main() -> None:
    """Print the medians and write the record; with the name of an arm, run that once."""
    if len(sys.argv) == 2:
        print(json.dumps(run(sys.argv[1])))
        return
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(ROUNDS):
        for arm in ARMS:
            done = subprocess.run([sys.executable, __file__, arm], check=True, capture_output=True, text=True)
            found[arm].append(json.loads(done.stdout))
    rows = [
        {"arm": arm, **{key: round(median(run[key] for run in runs), 2) for key in runs[0]}}
        for arm, runs in found.items()
    ]
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    settings = {"side": SIDE, "plan": PLAN, "rounds": ROUNDS, "threads": 1}
    print(f"wrote {write_record('class_bands', figures={'rows': rows}, settings=settings)}")


def run(arm: str) -> dict[str, float]:
    """Predict one image; return seconds, and megabytes at the most beyond those before it."""
    torch.set_num_threads(1)
    network = load_network(Bundle.open(ROOT / "models" / "hrda_lite")).eval()
    image = torch.zeros(1, 3, SIDE, SIDE)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if arm == "bands":
        predict_classes(network, image, PLAN)
    else:
        top = predict_logits(network, image, PLAN).softmax(1).max(1)
        top.indices.to(torch.uint8)
    taken = time.perf_counter() - start
    return {"seconds": taken, "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "class_bands"))
