"""Memory, threads and descriptors of the node through reloads, errors and sizes.

The long form is benchmarks/node/memory_soak.py.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from served_node import WAIT_S, served_node
from tiny_bundle import write_tiny_bundle

from hrda_core.errors import HrdaError

BY_RELOADS_MB, BY_SIZES_MB = 60.0, 40.0
"""What 24 reloads of 7 MB of weights, and 1,000 sizes, may add: a third of what they add where nothing is freed."""


_START = """
import sys
from hrda_core.memory import share_one_pool
share_one_pool()  # as the node's program does, before it imports what starts threads
from soaked_node import main
main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of 7 MB, and a damaged one."""
    folder = tmp_path_factory.mktemp("soaked")
    written = [write_tiny_bundle(folder / name, name=name, weights_mb=7) for name in ("good", "other", "damaged")]
    graph = written[2] / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    return written


def soaked(repository: Path, bundles: list[Path], leaks: str) -> list[dict[str, Any]]:
    """What a process with the node holds: at first, after reloads, and after changes of size."""
    paths = [str(repository), str(repository / "test" / "support"), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-c", _START, leaks, *map(str, bundles)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    return found


def growth(found: list[dict[str, Any]]) -> tuple[float, float]:
    """MB by the reloads, and by the sizes."""
    first, second, third = (held["resident_mb"] for held in found)
    return second - first, third - second


def test_l8_m10_reloads_errors_and_a_thousand_sizes_hold_memory_threads_and_descriptors(
    ros: Any, repository: Path, bundles: list[Path]
) -> None:
    found = soaked(repository, bundles, "none")
    assert len({(held["threads"], held["descriptors"]) for held in found}) == 1, found
    by_reloads, by_sizes = growth(found)
    assert by_reloads < BY_RELOADS_MB
    assert by_sizes < BY_SIZES_MB


def test_l8_m10_a_node_that_keeps_old_models_and_masks_is_told_by_the_same_bounds(
    ros: Any, repository: Path, bundles: list[Path]
) -> None:
    by_reloads, by_sizes = growth(soaked(repository, bundles, "models_and_masks"))
    assert by_reloads > BY_RELOADS_MB
    assert by_sizes > BY_SIZES_MB


def test_l8_the_program_shares_one_pool_of_memory_before_its_imports_start_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hrda_ros import __main__ as program

    events: list[str] = []

    def refuse() -> None:
        events.append("imports")
        raise HrdaError("something is missing")

    monkeypatch.setattr(program, "StopSignals", MagicMock())
    monkeypatch.setattr(program, "share_one_pool", lambda: events.append("one pool"))
    monkeypatch.setattr(program, "check_requirements", refuse)
    assert program.main([]) == 2
    assert events == ["one pool", "imports"]


def test_l8_the_node_gives_memory_back_after_a_reload(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrda_ros import segment_node

    calls: list[str] = []
    monkeypatch.setattr(segment_node, "give_back_memory", lambda: calls.append("given back"))
    with served_node("tidy", lazy=False) as served:
        load, _ = served.node._prepare_reload()
        served.node._models.reload(load, lambda outcome: calls.append(str(outcome.success)))
        assert served.node._models.join(WAIT_S)
        assert calls == ["True", "given back"]


# The judgement of the long soak.


@pytest.fixture
def verdict(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `soak_verdict` of the benchmark."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks" / "node"))
    return importlib.import_module("soak_verdict")


def made_run(verdict: ModuleType, *, mb_an_hour: float = 0.0, hours: float = 0.2, **growing: Any) -> list[Any]:
    """300 samples of a node that warms up by 60 MB, with noise of 8 MB, and half of them in the middle of a reload."""
    noise = np.random.default_rng(0).normal(0, 8, 300)
    samples = []
    for number, at_s in enumerate(np.linspace(0, 3600 * hours, 300)):
        resident = 200 + min(60, 2 * number) + noise[number] + mb_an_hour * at_s / 3600
        values = {"threads": 22 + number % 2, "descriptors": 28 + number % 2}
        values |= {name: values[name] + round(step * number / 299) for name, step in growing.items()}
        samples.append(verdict.Held(at_s, resident, 66.0, **values))
    return samples


def test_l8_a_node_that_warms_up_and_stays_is_said_to_hold(verdict: ModuleType) -> None:
    figures, growing = verdict.judge(made_run(verdict), growth_mb=24.0)
    assert not growing
    assert figures["threads"] == {"after_warm_up": 22, "at_end": 22, "largest": 23}
    assert 250 < figures["resident_mb"]["after_warm_up"] < 270


@pytest.mark.parametrize(
    ("growing", "named"),
    [
        ({"mb_an_hour": 200.0}, "resident memory"),
        ({"mb_an_hour": 20.0, "hours": 2.0}, "resident memory"),
        ({"threads": 4}, "threads grow from"),
        ({"descriptors": 4}, "descriptors grow from"),
    ],
)
def test_l8_what_grows_slowly_is_named(verdict: ModuleType, growing: dict[str, Any], named: str) -> None:
    (sentence,) = verdict.judge(made_run(verdict, **growing), growth_mb=24.0)[1]
    assert named in sentence
