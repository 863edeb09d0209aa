"""Keeps which of OpenVINO and ONNX Runtime is faster for a graph, measured once on this machine in about a second.

Neither is always faster: that depends on the processor, the graph and the releases. Each choice is one small JSON file
in `$HRDA_CACHE/backends`, named by what it depends on. Who removes it has it measured again.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hrda_core.errors import DataError, TextError
from hrda_core.inference.onnx_files import onnx_sha256
from hrda_core.inference.say import Say
from hrda_core.machine import cpu_model, usable_cores
from hrda_core.untrusted_text import read_json_file
from hrda_core.whole_files import cache_folder, write_whole

__all__ = ["BackendChoice", "choice_file", "keep_backend", "kept_backend", "time_in_turn"]

_BUDGET_S = 1.0


@dataclass(frozen=True)
class BackendChoice:
    """Median times of one image.

    Attributes:
        p50_ms: milliseconds by back end, at least one.
    """

    p50_ms: Mapping[str, float]

    @property
    def fastest(self) -> str:
        """Return the back end that took the least time."""
        return min(self.p50_ms, key=lambda name: self.p50_ms[name])


def choice_file(graph: Path, facts: Iterable[str]) -> Path:
    """Return the file of the choice for a graph.

    Args:
        graph: ONNX file.
        facts: what the choice depends on beside graph, processor and usable cores: versions, threads, device.
    """
    parts = [cpu_model(), str(usable_cores()), onnx_sha256(graph), *facts]
    return cache_folder() / "backends" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json"


def kept_backend(path: Path, names: Iterable[str]) -> BackendChoice | None:
    """Return the kept choice between the back ends `names`; None where there is none.

    A file that is damaged is ignored with a warning.
    """
    try:
        times = read_json_file(path)["p50_ms"]
        found = {name: float(times[name]) for name in names}
        if all(0 < value < float("inf") for value in found.values()):
            return BackendChoice(found)
        reason = f"times {found}"
    except FileNotFoundError:
        return None
    except (OSError, TextError, LookupError, TypeError, ValueError) as error:
        reason = repr(error)
    warnings.warn(
        f"the kept choice of the back end '{path}' is damaged ({reason}) and is measured again",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def keep_backend(path: Path, choice: BackendChoice, about: Mapping[str, str], say: Say) -> None:
    """Keep a choice for `kept_backend`; where the cache folder cannot be written, `say` is told.

    Args:
        about: for people who read the file.
    """
    values = {"fastest": choice.fastest, "p50_ms": {name: round(value, 3) for name, value in choice.p50_ms.items()}}
    text = json.dumps({**values, "cpu": cpu_model(), "cores": usable_cores(), **about}, indent=1) + "\n"
    try:
        write_whole(path, text, advice="set HRDA_CACHE to a folder that can be written")
    except DataError as error:
        say(f"which back end is faster is measured again at the next start: {error}")


def time_in_turn(
    runs: Mapping[str, Callable[[], object]],
    *,
    budget_s: float = _BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> BackendChoice:
    """Run all in turn, so that a change of the machine's load affects all of them; the first round does not count.

    Args:
        runs: what runs one image, by back end.
        budget_s: time for all rounds together, seconds; at least three rounds are run.
        clock: returns seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begin, rounds = clock(), 0
    while rounds < 3 or clock() - begin < budget_s:
        for name, run in runs.items():
            before = clock()
            run()
            if rounds:
                seconds[name].append(clock() - before)
        rounds += 1
    return BackendChoice({name: 1e3 * median(values) for name, values in seconds.items()})
