"""Shows where the time of a frame goes: layers as a runtime names them, joined with the op list of the same graph.

Runtimes fuse and rename nodes, but keep a node's name as a part of the new one; that is how layers find their ops. Time
that belongs to no op (changes of layout) is listed under the runtime's name for it. Needs onnx.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.bench.graph_ops import GraphOp
from hrda_core.bench.roofline import Device, op_seconds
from hrda_core.deploy.onnx_graph import node_name
from hrda_core.errors import BackendError, require
from hrda_core.scratch import scratch_folder

__all__ = ["Layer", "LayerRow", "join_layers", "onnxruntime_layers"]

_RUNS = 5
_SUFFIX = re.compile(r"(_nchwc|_token_\d+|_quant|/?(MatMul\w*Fusion|Gemm\w*Fusion)/?)+$")


@dataclass(frozen=True)
class Layer:
    """Time of one layer as a runtime reports it: its name, the operation, and seconds for one frame."""

    name: str
    kind: str
    seconds: float


@dataclass(frozen=True)
class LayerRow:
    """Time of one or more ops.

    Attributes:
        name, kind: those of the first op, or the runtime's for what belongs to no op.
        seconds: time for one frame.
        flops, bytes: sums over the ops, from the op list.
        bound: t_roofline of the ops, seconds; 0 without a device or an op.
    """

    name: str
    kind: str
    seconds: float
    flops: int
    bytes: int
    bound: float

    def to_dict(self) -> dict[str, Any]:
        """Return milliseconds, achieved GFLOP/s and GB/s, and the share of the bound."""
        return {
            "name": self.name,
            "kind": self.kind,
            "ms": round(1e3 * self.seconds, 4),
            "gflops": round(self.flops / self.seconds / 1e9, 2),
            "gbytes_per_s": round(self.bytes / self.seconds / 1e9, 2),
            "roofline_share": round(self.bound / self.seconds, 3),
        }


def onnxruntime_layers(path: Path, image: npt.NDArray[np.uint8], threads: int) -> list[Layer]:
    """Run a graph in a session of its own with ONNX Runtime's profiler on the CPU; return means over a few frames.

    Args:
        path: ONNX file whose only input is the image.
        image: uint8 (1, H, W, 3).

    Raises:
        BackendError: ONNX Runtime fails.
        MissingPackageError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", "runtime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with scratch_folder("profile") as folder:
        options.profile_file_prefix = str(folder / "profile")
        try:
            session = ort.InferenceSession(_with_names(path), options, providers=["CPUExecutionProvider"])
            for _ in range(_RUNS + 1):
                session.run(None, {"image": image})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
            raise BackendError(f"ONNX Runtime cannot profile '{path}': {str(error).splitlines()[0][:200]}") from error
    return _layers(events)


def join_layers(layers: Iterable[Layer], ops: Sequence[GraphOp], device: Device | None = None) -> list[LayerRow]:
    """Join layers and ops, slowest first.

    Args:
        device: device for the bound of each row.
    """
    known = {name: number for number, op in enumerate(ops) for name in (*op.results, *op.nodes)}
    rows: list[tuple[set[int], float]] = []
    rest: dict[str, float] = defaultdict(float)
    for layer in layers:
        numbers = _ops_in(layer.name, known)
        if not numbers:
            rest[layer.kind] += layer.seconds
            continue
        # Layers that share an op become one row: its FLOPs must not count twice.
        touching = [row for row in rows if row[0] & numbers]
        rows = [row for row in rows if not row[0] & numbers]
        rows.append((numbers.union(*(row[0] for row in touching)), layer.seconds + sum(row[1] for row in touching)))
    joined = [_row([ops[number] for number in sorted(numbers)], seconds, device) for numbers, seconds in rows]
    joined += [LayerRow(f"({kind}, no op)", kind, seconds, 0, 0, 0.0) for kind, seconds in rest.items()]
    return sorted((row for row in joined if row.seconds > 0), key=lambda row: -row.seconds)


def _row(ops: Sequence[GraphOp], seconds: float, device: Device | None) -> LayerRow:
    main = max(ops, key=lambda op: (op.flops, op.bytes))
    bound = sum(op_seconds(op, device) for op in ops) if device else 0.0
    return LayerRow(main.name, main.kind, seconds, sum(op.flops for op in ops), sum(op.bytes for op in ops), bound)


def _ops_in(layer: str, known: Mapping[str, int]) -> set[int]:
    """Ops whose nodes or results a layer is named by: the name, with a runtime's suffix, or several in a list."""
    if (number := known.get(layer, known.get(_SUFFIX.sub("", layer)))) is not None:
        return {number}
    words = re.split(r"[\s+,\[\]{}()|]+|\.\.\.", layer)
    return {known[word] for word in words if word in known}


def _with_names(path: Path) -> str | bytes:
    """The graph with a name for each node, for the profiler tells those; the path itself where all have one."""
    model = onnx.load(str(path), load_external_data=False)
    if all(node.name for node in model.graph.node):
        return str(path)
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.name = node_name(node)
    return bytes(model.SerializeToString())


def _layers(events: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """Means over all frames but the first, which allocates."""
    runs = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    start = runs[1] if len(runs) > 1 else 0
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= start:
            key = event["name"].removesuffix("_kernel_time"), str(event["args"].get("op_name", "?"))
            seconds[key] += event["dur"] / 1e6
    frames = max(1, len(runs) - 1)
    return [Layer(name, kind, total / frames) for (name, kind), total in seconds.items()]
