"""The record that every benchmark writes: figures with the machine, versions, load and commit they were taken on.

    from hrda_core.bench.record import write_record
    write_record("node_overhead", figures={"p50_ms": 4.2}, settings={"frames": 200})

Files go to benchmarks/results/NAME.json of the source tree; `hrda bench --json` writes the same record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.machine import commit, load_average, machine, versions
from hrda_core.whole_files import write_json

__all__ = ["RESULTS", "ROOT", "milliseconds", "record", "write_record"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Summarise durations: count, and min, p10, p50, p95, p99, max in milliseconds."""
    values = 1e3 * np.asarray(seconds, float)
    if not values.size:
        return {"count": 0}
    names = {"min_ms": 0, "p10_ms": 10, "p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "max_ms": 100}
    summary = dict(zip(names, np.percentile(values, list(names.values())), strict=True))
    return {"count": len(values), **{name: round(float(value), 3) for name, value in summary.items()}}


def record(
    name: str, *, figures: Mapping[str, Any], settings: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return figures, and what they were taken on, as plain values.

    Args:
        name: name of the benchmark.
        figures: what was measured.
        settings: what it was measured with.
        before: `machine()` from the start of the run, to show the load that was there already; None = taken now.
    """
    return {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": before or machine(),
        "load_average_after": load_average(),
        "versions": versions(),
        "settings": dict(settings),
        "figures": dict(figures),
    }


def write_record(
    name: str, *, figures: Mapping[str, Any], settings: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> Path:
    """Write the `record` to benchmarks/results/NAME.json and return its path.

    Raises:
        DataError: the file cannot be written.
    """
    path = RESULTS / f"{name}.json"
    write_json(path, record(name, figures=figures, settings=settings, before=before))
    return path
