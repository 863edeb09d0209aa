"""Keeps the best number of CPU threads for a graph, measured once on this machine (`hrda bench --sweep_threads`).

More threads than free cores make inference slower, and on a robot cores are seldom free, so the number is measured and
not guessed. Each choice is one small JSON file in `$HRDA_CACHE/threads`, named by what it depends on: processor, usable
cores, graph, ONNX Runtime or OpenVINO. Needs neither torch nor onnx.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from hrda_core.errors import TextError, require
from hrda_core.inference.onnx_files import onnx_sha256
from hrda_core.machine import cpu_model, usable_cores
from hrda_core.untrusted_text import read_json_file
from hrda_core.whole_files import cache_folder, write_whole

__all__ = ["best_threads", "keep_choice", "pick_threads", "thread_counts"]

_ENOUGH = 1.03
"""Fewer threads win when they are within this factor of the quickest: the cores are wanted elsewhere."""


def best_threads(graph: Path, runtime: str = "onnxruntime") -> int | None:
    """Return the number of threads that was measured to be best for this graph on this machine.

    A file that is damaged is ignored with a warning.

    Args:
        graph: ONNX file.
        runtime: the package that runs it, `onnxruntime` or `openvino`.

    Returns:
        number of threads; None where nothing was measured.

    Raises:
        MissingPackageError: the package is not installed.
    """
    if not os.path.isdir(cache_folder() / "threads"):  # also where it may not be looked into
        return None  # the usual case: no graph is hashed for it
    path = _choice_file(graph, runtime)
    try:
        threads = read_json_file(path)["threads"]
        if type(threads) is int and 1 <= threads <= usable_cores():
            return threads
        reason = f"{threads!r} threads"
    except FileNotFoundError:
        return None
    except (OSError, TextError, LookupError, TypeError) as error:
        reason = repr(error)
    warnings.warn(
        f"the kept number of threads '{path}' is damaged ({reason}) and is ignored; delete it, or measure again with "
        f"'hrda bench BUNDLE --sweep_threads'",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def keep_choice(graph: Path, threads: int, p50_ms: Mapping[int, float], runtime: str = "onnxruntime") -> Path:
    """Keep a choice for `best_threads`; an older one is replaced, whole or not at all.

    Args:
        graph: ONNX file.
        threads: the choice.
        p50_ms: median times by number of threads, for people who read the file.
        runtime: the package that ran it, `onnxruntime` or `openvino`.

    Returns:
        the file that was written.

    Raises:
        DataError: the cache folder cannot be written.
        MissingPackageError: the package is not installed.
    """
    path = _choice_file(graph, runtime)
    about = {"cpu": cpu_model(), "cores": usable_cores(), "graph": str(graph), runtime: _runtime_version(runtime)}
    choice = {"threads": threads, "p50_ms": {str(count): round(value, 3) for count, value in p50_ms.items()}, **about}
    write_whole(path, json.dumps(choice, indent=1) + "\n", advice="set HRDA_CACHE to a folder that can be written")
    return path


def pick_threads(p50_ms: Mapping[int, float]) -> int:
    """Return the smallest number of threads whose median is within 3 % of the best one."""
    best = min(p50_ms.values())
    return min(threads for threads, value in p50_ms.items() if value <= _ENOUGH * best)


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers that a sweep tries: 1, 2, 4 and so on below `cores`, and `cores`."""
    powers = [1 << exponent for exponent in range(cores.bit_length()) if 1 << exponent < cores]
    return (*powers, cores)


def _choice_file(graph: Path, runtime: str) -> Path:
    parts = [cpu_model(), str(usable_cores()), onnx_sha256(graph), _runtime_version(runtime)]
    if runtime != "onnxruntime":  # files of earlier releases keep their names
        parts.append(runtime)
    return cache_folder() / "threads" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json"


def _runtime_version(runtime: str) -> str:
    return str(require(runtime, "runtime" if runtime == "onnxruntime" else runtime).__version__)
