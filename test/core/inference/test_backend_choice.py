"""The choice between two back ends that was measured once, kept on disk, by injected clocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hrda_core.inference.backend_choice import BackendChoice, choice_file, keep_backend, kept_backend, time_in_turn
from hrda_core.inference.say import silent

NAMES = ("openvino", "onnxruntime")


@pytest.fixture
def path(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path))
    return choice_file(tiny_bundle / "model.onnx", ["1.0"])


def test_a_choice_is_found_again(path: Path) -> None:
    assert kept_backend(path, NAMES) is None
    keep_backend(path, BackendChoice({"openvino": 3.0, "onnxruntime": 2.0}), {"size": "64x64"}, silent)
    found = kept_backend(path, NAMES)
    assert found is not None
    assert found.fastest == "onnxruntime"
    assert json.loads(path.read_text())["size"] == "64x64"


def test_a_choice_is_for_one_graph_and_one_set_of_versions(path: Path, tiny_bundle: Path) -> None:
    others = [choice_file(tiny_bundle / "model.onnx", ["1.1"]), choice_file(tiny_bundle / "context.onnx", ["1.0"])]
    assert len({path, *others}) == 3


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"p50_ms": {"openvino": 1}}', '{"p50_ms": {"openvino": -1, "onnxruntime": 1}}', '{"p50_ms": 3}'],
)
def test_a_damaged_choice_is_measured_again(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.warns(RuntimeWarning, match="is damaged .* and is measured again"):
        assert kept_backend(path, NAMES) is None


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    said: list[str] = []
    choice = BackendChoice({"openvino": 1.0})
    keep_backend(tmp_path / "file" / "choice.json", choice, {}, lambda line, level=None: said.append(line))
    assert said[0].startswith("which back end is faster is measured again at the next start: ")


def test_back_ends_run_in_turn_until_the_time_is_over_and_the_first_round_does_not_count() -> None:
    now, order = [0.0], []

    def runs(name: str, seconds: list[float]) -> object:
        order.append(name)
        now[0] += seconds[min(order.count(name), len(seconds)) - 1]
        return None

    choice = time_in_turn(
        {"openvino": lambda: runs("openvino", [9.0, 0.1, 0.3, 0.2]), "onnxruntime": lambda: runs("onnxruntime", [0.4])},
        budget_s=11,
        clock=lambda: now[0],
    )
    assert order == [*NAMES] * 4
    assert choice.p50_ms == pytest.approx({"openvino": 200, "onnxruntime": 400})
    assert choice.fastest == "openvino"


def test_slow_back_ends_run_three_times_all_the_same() -> None:
    now, count = [0.0], [0]

    def run() -> None:
        now[0], count[0] = now[0] + 60, count[0] + 1

    assert time_in_turn({"openvino": run}, clock=lambda: now[0]).p50_ms == {"openvino": 60_000}
    assert count == [3]
