"""Models: damage is found before the node finds it, and engines are compared with this machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core.doctor.bundle_checks import bundles_here, check_bundle, check_engines
from hrda_core.inference.answers import Answer, record_answer
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.bundle import Bundle
from hrda_core.inference.onnx_files import onnx_sha256
from hrda_core.inference.tensorrt.builder import BuildOptions
from hrda_core.inference.tensorrt.engine_cache import EngineCache
from hrda_core.inference.tensorrt.engine_key import describe_engine, describe_machine
from hrda_core.nvidia_driver import Driver, Gpu

ORIN = Driver((12, 6), Gpu("Orin", (8, 7), 8, 7620 << 20))


def test_a_sound_bundle_is_well(tiny_bundle: Path) -> None:
    found = check_bundle(tiny_bundle)
    assert found.state == "ok", found
    assert "2 files with the right hash" in found.text


def test_a_changed_file_and_a_missing_bundle_fail_with_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(tiny_bundle, tmp_path / "damaged"))
    content = (damaged / "model.onnx").read_bytes()
    (damaged / "model.onnx").write_bytes(content[:-1] + b"?")
    found = check_bundle(damaged)
    assert (found.state, found.advice) == ("fail", "the file was changed or damaged, copy the bundle again")
    assert check_bundle(tmp_path / "nowhere").state == "fail"


def test_a_bundle_that_answers_like_another_model_fails(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny"))
    run = OnnxBackend(bundle.file("model.onnx"), threads=1)
    answer = record_answer(run, bundle.graphs["tiles"].made_size(bundle.multiple_of), 19)
    other = Answer((answer.labels + 1) % 16, answer.confidence)
    for name, recorded, state in (("right", answer, "ok"), ("wrong", other, "fail")):
        graph = replace(bundle.graphs["tiles"], answer=recorded)
        folder = write_tiny_bundle(
            tmp_path / name, graphs={"tiles": graph.to_dict(), "context": {"file": "context.onnx"}}
        )
        assert check_bundle(folder).state == state


def test_those_that_are_named_are_looked_at_else_the_shipped_one_and_the_users(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "mine")
    (tmp_path / "no_model").mkdir()
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path))
    assert [path.name for path in bundles_here([])] == ["hrda_lite", "mine"]
    assert bundles_here([tiny_bundle]) == [tiny_bundle]


def test_an_engine_of_another_tensorrt_is_told_and_one_of_this_is_well(tmp_path: Path) -> None:
    static = [{"plan": "tiles", "file": "model.onnx", "size": [64, 64], "precision": "fp16"}]
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny", static_graphs=static))
    assert check_engines(bundle.path, ORIN, "10.3.0") == []
    (graph,) = bundle.static_graphs
    sha256, options = onnx_sha256(bundle.file(graph.file)), BuildOptions(precision="fp16")
    facts = describe_engine(describe_machine(ORIN, "10.3.0"), bundle.name, graph, sha256, options)
    EngineCache(bundle.path / "engines").get_or_build(facts, lambda: b"plan")
    assert [found.state for found in check_engines(bundle.path, ORIN, "10.3.0")] == ["ok"]
    (found,) = check_engines(bundle.path, ORIN, "10.7.0")
    assert found.state == "warn"
    assert "was built for TensorRT '10.3.0', here it is '10.7.0'" in found.text
    assert [found.state for found in check_engines(bundle.path, "no driver", "10.3.0")] == ["ok"]
