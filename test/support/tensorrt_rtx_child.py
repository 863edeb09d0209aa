"""Compiles one graph with the project's builder. Runs in a process of its own; see tensorrt_rtx.py.

    tensorrt_rtx_child.py GRAPH.onnx [HEIGHT WIDTH]

Prints `loaded VERSION`, then `built {...}`, `refused "reason"` or `unusable "reason"`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path


def main(graph: Path, size: list[int]) -> None:
    import tensorrt

    # The logger of this builder is the first thing that calls into the libraries.
    tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR)).create_network(0)
    print("loaded", tensorrt.__version__, flush=True)
    from hrda_core.errors import GpuError, HrdaError
    from hrda_core.inference.tensorrt.builder import BuildOptions, build_plan

    options = BuildOptions(image_size=(size[0], size[1]) if size else None)
    begin = time.monotonic()
    try:
        plan = build_plan(graph, options, lambda _: None, trt=tensorrt)
    except GpuError as error:
        print("unusable", json.dumps(str(error)), flush=True)
        return
    except HrdaError as error:
        print("refused", json.dumps(str(error)), flush=True)
        return
    found = {"plan_bytes": len(plan), "seconds": time.monotonic() - begin, "peak_mb": peak_mb()}
    print("built", json.dumps(found), flush=True)


def peak_mb() -> int:
    """Most memory that this process had. (The figure of `getrusage` is not its own: it begins with the parent's.)"""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found.group(1)) // 1024 if found else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(value) for value in sys.argv[2:]])
