"""Compile ONNX graphs with a TensorRT compiler on a machine without a GPU, to see whether TensorRT takes them.

    .venv/bin/python tools/compile_with_tensorrt_rtx.py my_bundle/graphs/tiles_480x640_fp16.onnx
    .venv/bin/python tools/compile_with_tensorrt_rtx.py --size 512x640 models/hrda_lite/model.onnx   (takes any size)

The first call fetches 150 MB (TensorRT-RTX and Python bindings) into `$HRDA_WHEELS`, else `.venv/share/hrda_wheels`.
docs/results/proof_without_gpu.md says what a success proves and what not. It needs the environment of `make test`.
Exit status: 0 all compiled, 1 a graph was refused, 2 wrong arguments or no compiler on this machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "support")]

from tensorrt_rtx import TIME_LIMIT_S, RefusedError, compile_graph  # noqa: E402
from tensorrt_wheels import UnavailableError  # noqa: E402

from hrda_core.standard_streams import with_streams  # noqa: E402


def main(argv: list[str]) -> int:
    """Compile each graph and print one line for it."""
    options = parse(argv)
    absent = [str(graph) for graph in options.graphs if not graph.is_file()]
    if absent:
        print(f"error: there is no file '{absent[0]}'; name ONNX graphs", file=sys.stderr)
        return 2
    try:
        refused = [graph for graph in options.graphs if not compiles(graph, options.size, options.time_limit_s)]
    except UnavailableError as error:
        print(f"error: this says nothing about the graph: {error}", file=sys.stderr)
        return 2
    return 1 if refused else 0


def compiles(graph: Path, size: tuple[int, int] | None, time_limit_s: float) -> bool:
    """Compile one graph and print one line about it."""
    try:
        done = compile_graph(graph, size=size, time_limit_s=time_limit_s)
    except RefusedError as error:
        print(f"refused   {graph}: {error}")
        return False
    print(f"compiled  {graph}: {done.seconds:.1f} s, engine {done.plan_bytes / 1e6:.1f} MB, memory {done.peak_mb} MB")
    return True


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("graphs", nargs="+", type=Path, metavar="GRAPH.onnx", help="graphs to compile, one by one")
    parser.add_argument("--size", type=height_and_width, metavar="HxW", help="height and width, for graphs of any size")
    parser.add_argument(
        "--time-limit-s", type=float, default=TIME_LIMIT_S, metavar="S", help="for one graph (%(default)g)"
    )
    return parser.parse_args(argv)


def height_and_width(text: str) -> tuple[int, int]:
    """Turn `512x640` into (512, 640)."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write it as 512x640, height first")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(with_streams(lambda: main(sys.argv[1:]), "compile_with_tensorrt_rtx"))
