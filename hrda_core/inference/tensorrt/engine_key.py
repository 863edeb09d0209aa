"""The facts that an engine is bound to. Each is part of its name, and one that differs is named to the user."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping

from hrda_core import __version__
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.tensorrt.builder import BuildOptions
from hrda_core.nvidia_driver import Driver

__all__ = ["describe_engine", "describe_machine", "difference", "engine_key"]

_WORDS = {
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "sm_count": "number of multiprocessors",
    "tensorrt": "TensorRT",
    "cuda_driver_major": "CUDA driver",
    "platform": "platform",
    "onnx_sha256": "ONNX graph with sha256",
    "precision": "precision",
    "image_size": "image size",
    "workspace_bytes": "workspace in bytes",
    "optimization_level": "optimisation level",
    "package": "hrda_ros",
}
"""Facts in the order in which a difference is told: the machine first, since it explains most."""


def describe_machine(driver: Driver, tensorrt_version: str) -> dict[str, str]:
    """Return the facts about this machine that every engine, and every timing of a kernel, is bound to."""
    return {
        "gpu": driver.gpu.name,
        "compute_capability": ".".join(map(str, driver.gpu.compute_capability)),
        "sm_count": str(driver.gpu.sm_count),
        "tensorrt": tensorrt_version,
        "cuda_driver_major": str(driver.cuda_version[0]),
        "platform": f"{sys.platform}-{platform.machine()}",
    }


def describe_engine(
    machine: Mapping[str, str], bundle_name: str, graph: GraphSpec, onnx_sha256: str, options: BuildOptions
) -> dict[str, str]:
    """Return all facts that an engine is bound to.

    The calibration of an int8 graph needs no fact of its own: it is written into the graph, and so is part of its hash.

    Args:
        machine: see `describe_machine`.
        onnx_sha256: hash of the ONNX file and its external weights, see `onnx_sha256`.
    """
    size = graph.size or options.image_size
    return {
        "bundle": bundle_name,
        "graph": graph.file,
        **machine,
        "onnx_sha256": onnx_sha256,
        "precision": options.precision,
        "image_size": "x".join(map(str, size)) if size else "any",
        "workspace_bytes": str(options.workspace_bytes),
        "optimization_level": "default" if options.optimization_level is None else str(options.optimization_level),
        "package": __version__,
    }


def engine_key(facts: Mapping[str, str]) -> str:
    """Return the sha256 over the facts in hex, which is the file name of the engine."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def difference(built: Mapping[str, object], here: Mapping[str, str]) -> str | None:
    """Return in words the first fact in which two engines differ, or None if they are the same."""
    for name in [*_WORDS, *sorted(here.keys() - _WORDS.keys())]:
        if built.get(name) != here.get(name):
            return f"was built for {_WORDS.get(name, name)} '{built.get(name)}', here it is '{here.get(name)}'"
    return None
