"""Which of OpenVINO and ONNX Runtime `auto` takes, by injected timings and back ends that are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrda_core.errors import BackendError
from hrda_core.inference.backend_choice import BackendChoice
from hrda_core.inference.backends import faster
from hrda_core.inference.backends.faster import open_faster
from hrda_core.inference.backends.protocol import Backend, BackendInfo, Reason
from hrda_core.inference.say import silent

SLOWER_ONNX = Reason(
    "not ONNX Runtime", "it was slower here when both were timed, 16.1 ms against 12.0 ms for a small image"
)


class _BackEnd:
    def __init__(self, kind: str) -> None:
        self.info, self.closed = BackendInfo(kind, "1"), False

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return image[..., 0], image[..., 1]

    def close(self) -> None:
        self.closed = True


class _Machine:
    """Opens back ends and times them as the test says; what was opened and measured is counted."""

    def __init__(self, graph: Path) -> None:
        self.graph, self.opened, self.measured = graph, [], 0
        self.times = {"openvino": 12.0, "onnxruntime": 16.1}
        self.error: Exception | None = None

    def open(self) -> Backend:
        return open_faster(
            self._opener("openvino"), self._opener("onnxruntime"), self.graph, (64, 64), ["0"], silent, self._measure
        )

    def _opener(self, kind: str) -> Callable[[], Any]:
        def opened() -> _BackEnd:
            if kind == "openvino" and self.error is not None:
                raise self.error
            self.opened.append(_BackEnd(kind))
            return self.opened[-1]

        return opened

    def _measure(self, runs: Mapping[str, Callable[[], object]]) -> BackendChoice:
        self.measured += 1
        for run in runs.values():
            run()
        return BackendChoice(self.times)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of the installed packages, for the test to change."""
    versions = {"openvino": "2026.4", "onnxruntime": "1.32"}
    monkeypatch.setattr(faster, "_version", lambda name: versions[name])
    return versions


@pytest.fixture
def machine(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> _Machine:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path))
    return _Machine(tiny_bundle / "model.onnx")


def test_the_faster_one_is_taken_with_the_reason_and_the_other_one_is_closed(machine: _Machine) -> None:
    backend = machine.open()
    assert (backend.info.kind, backend.info.reasons) == ("openvino", (SLOWER_ONNX,))
    assert [one.closed for one in machine.opened] == [False, True]


def test_it_is_measured_once_and_then_the_slower_one_is_not_even_opened(machine: _Machine) -> None:
    machine.times = {"openvino": 20.0, "onnxruntime": 10.0}
    assert machine.open().info.kind == "onnxruntime"
    machine.opened.clear()
    backend = machine.open()
    assert [one.info.kind for one in machine.opened] == ["onnxruntime"]
    assert backend.info.reasons[0].what == "not OpenVINO"
    assert "20.0 ms against 10.0 ms" in backend.info.reasons[0].why
    assert machine.measured == 1


def test_another_version_of_either_is_measured_again(machine: _Machine, versions: dict[str, str]) -> None:
    machine.open()
    for name in ("openvino", "onnxruntime"):
        versions[name] += ".1"
        machine.open()
    assert machine.measured == 3


def test_without_openvino_onnx_runtime_runs_and_says_so(machine: _Machine, versions: dict[str, str]) -> None:
    versions["openvino"] = ""
    backend = machine.open()
    assert backend.info.kind == "onnxruntime"
    assert backend.info.reasons == (Reason("no OpenVINO", "the package 'openvino' is not installed"),)
    assert machine.measured == 0


def test_an_openvino_that_cannot_run_the_graph_is_told(machine: _Machine) -> None:
    machine.error = BackendError("OpenVINO 1 cannot read graph 'g'")
    backend = machine.open()
    assert (backend.info.kind, backend.info.reasons) == ("onnxruntime", (Reason("no OpenVINO", str(machine.error)),))
    assert machine.measured == 0


def test_without_onnx_runtime_openvino_runs_unmeasured(machine: _Machine, versions: dict[str, str]) -> None:
    versions["onnxruntime"] = ""
    backend = machine.open()
    assert backend.info.kind == "openvino"
    assert backend.info.reasons == (Reason("no ONNX Runtime", "the package 'onnxruntime' is not installed"),)


def test_an_openvino_that_fails_while_it_is_timed_is_not_kept_as_a_choice(machine: _Machine) -> None:
    measure = machine._measure

    def failing(runs: Mapping[str, Callable[[], object]]) -> BackendChoice:
        machine.opened[0].info = BackendInfo("onnxruntime", "1").because(Reason("OpenVINO failed", "a sentence"))
        return measure(runs)

    machine._measure = failing
    backend = machine.open()
    assert backend is machine.opened[1]
    assert backend.info.reasons == (Reason("OpenVINO failed", "a sentence"),)
    machine._measure = measure
    assert machine.open().info.kind == "openvino"
    assert machine.measured == 2
