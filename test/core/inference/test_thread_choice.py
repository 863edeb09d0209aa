"""The number of threads that was measured to be best, kept on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hrda_core.errors import DataError
from hrda_core.inference import thread_choice
from hrda_core.inference.thread_choice import best_threads, keep_choice, pick_threads, thread_counts
from hrda_core.machine import cpu_model

pytest.importorskip("onnxruntime")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(thread_choice, "usable_cores", lambda: 4)
    return tmp_path / "cache"


@pytest.fixture
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "model.onnx"


def test_a_choice_is_found_again(cache: Path, graph: Path) -> None:
    assert best_threads(graph) is None
    path = keep_choice(graph, 2, {1: 10.0, 2: 6.123456})
    assert path.parent == cache / "threads"
    assert best_threads(graph) == 2
    kept = json.loads(path.read_text())
    assert kept["p50_ms"] == {"1": 10.0, "2": 6.123}
    assert kept["cpu"] == cpu_model()
    keep_choice(graph, 1, {1: 5.0, 2: 6.0})
    assert best_threads(graph) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_choice_is_for_one_graph_and_one_machine(cache: Path, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_choice(graph, 2, {2: 6.0})
    assert best_threads(graph.with_name("context.onnx")) is None
    for name, other in (
        ("usable_cores", lambda: 8),
        ("cpu_model", lambda: "another"),
        ("_runtime_version", lambda runtime: "9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(thread_choice, name, other)
            assert best_threads(graph) is None
    assert best_threads(graph) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[2]",
        b"{}",
        b'{"threads": "2"}',
        b'{"threads": true}',
        b'{"threads": 0}',
        b'{"threads": 5}',
    ],
)
def test_a_damaged_choice_is_ignored_with_a_warning(cache: Path, graph: Path, content: bytes) -> None:
    path = keep_choice(graph, 2, {2: 6.0})
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="is damaged .* and is ignored"):
        assert best_threads(graph) is None


def test_a_cache_that_cannot_be_written_is_one_sentence(cache: Path, graph: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="set HRDA_CACHE"):
        keep_choice(graph, 2, {2: 6.0})


def test_fewer_threads_win_a_near_draw() -> None:
    assert pick_threads({1: 10.0, 2: 6.0, 4: 5.9}) == 2
    assert pick_threads({1: 10.0, 2: 6.0, 4: 5.8}) == 4
    assert pick_threads({1: 10.0, 2: 11.0}) == 1


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_a_sweep_doubles_up_to_all_cores(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_a_choice_is_for_one_runtime(cache: Path, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_choice, "_runtime_version", lambda runtime: "1")
    keep_choice(graph, 2, {2: 6.0})
    assert best_threads(graph, "openvino") is None
    assert keep_choice(graph, 3, {3: 6.0}, "openvino").parent == cache / "threads"
    assert (best_threads(graph), best_threads(graph, "openvino")) == (2, 3)
