"""Which engine of a bundle is found, what it is bound to, and where it lies. No GPU: the plans are bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core.errors import BackendError, GpuError, ImageError
from hrda_core.inference.backends import tensorrt_engines
from hrda_core.inference.backends.tensorrt_engines import (
    engine_folders,
    ensure_engine,
    find_engine,
    open_engine,
)
from hrda_core.inference.bundle import Bundle, GraphSpec, write_manifest
from hrda_core.inference.onnx_files import onnx_sha256
from hrda_core.inference.tensorrt.builder import BuildOptions
from hrda_core.inference.tensorrt.engine_cache import EngineCache
from hrda_core.inference.tensorrt.engine_key import describe_engine, describe_machine, difference, engine_key
from hrda_core.inference.tensorrt.timing_files import timing_cache
from hrda_core.nvidia_driver import Driver, Gpu, probe_driver
from hrda_core.window_plan import PlanChoice

ORIN = Driver((12, 6), Gpu("Orin", (8, 7), 16, 32 << 30))
GRAPH = GraphSpec(PlanChoice("tiles", (2, 2)), "model.onnx", (64, 128))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "bundle"))


def _facts(
    bundle: Bundle,
    driver: Driver = ORIN,
    tensorrt: str = "10.3.0",
    graph: GraphSpec = GRAPH,
    options: BuildOptions | None = None,
) -> dict[str, str]:
    digest = onnx_sha256(bundle.file(graph.file))
    return describe_engine(describe_machine(driver, tensorrt), bundle.name, graph, digest, options or BuildOptions())


def test_every_fact_of_machine_graph_and_options_changes_the_key(bundle: Bundle) -> None:
    gpu = ORIN.gpu
    others = [
        _facts(bundle, replace(ORIN, gpu=replace(gpu, name="Thor"))),
        _facts(bundle, replace(ORIN, gpu=replace(gpu, compute_capability=(8, 6)))),
        _facts(bundle, replace(ORIN, gpu=replace(gpu, sm_count=14))),
        _facts(bundle, replace(ORIN, cuda_version=(13, 0))),
        _facts(bundle, tensorrt="10.7.0"),
        _facts(bundle, graph=replace(GRAPH, file="context.onnx")),
        _facts(bundle, graph=replace(GRAPH, size=(128, 128))),
        _facts(bundle, options=BuildOptions(precision="fp16")),
        _facts(bundle, options=BuildOptions(workspace_bytes=1 << 30)),
        _facts(bundle, options=BuildOptions(optimization_level=5)),
    ]
    keys = {engine_key(facts) for facts in [_facts(bundle), *others]}
    assert len(keys) == 1 + len(others)
    assert all(difference(_facts(bundle), facts) for facts in others)
    assert engine_key(_facts(bundle)) == engine_key(_facts(bundle))


def test_a_minor_update_of_the_driver_keeps_the_engine(bundle: Bundle) -> None:
    assert engine_key(_facts(bundle, replace(ORIN, cuda_version=(12, 8)))) == engine_key(_facts(bundle))


def test_a_graph_with_other_bytes_needs_another_engine(bundle: Bundle) -> None:
    before = _facts(bundle)
    path = bundle.file(GRAPH.file)
    path.write_bytes(bundle.file("context.onnx").read_bytes())
    assert "was built for ONNX graph with sha256" in str(difference(before, _facts(bundle)))


def test_an_engine_is_found_in_the_bundle_and_in_the_cache_folder(bundle: Bundle) -> None:
    facts = _facts(bundle)
    for folder in engine_folders(bundle):
        EngineCache(folder).get_or_build(facts, lambda: b"plan")
        assert find_engine(bundle, facts).path.parent == folder
        EngineCache(folder).discard(facts)


def test_without_an_engine_the_command_that_builds_one_is_told(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match=r"no engine of graph 'model\.onnx' was built .*'hrda export BUNDLE --engine'"
    ):
        find_engine(bundle, _facts(bundle))


def test_an_engine_of_another_machine_is_told_with_the_command_that_builds_one(bundle: Bundle) -> None:
    EngineCache(engine_folders(bundle)[0]).get_or_build(_facts(bundle), lambda: b"plan")
    with pytest.raises(BackendError, match=r"built for TensorRT '10\.3\.0', here it is '11\.4\.0'; build it here with"):
        find_engine(bundle, _facts(bundle, tensorrt="11.4.0"))


def test_f4_a_damaged_engine_in_the_bundle_does_not_hide_the_one_in_the_cache_folder(bundle: Bundle) -> None:
    facts = _facts(bundle)
    for folder in engine_folders(bundle):
        EngineCache(folder).get_or_build(facts, lambda: b"plan")
    (engine_folders(bundle)[0] / f"{engine_key(facts)}.plan").write_bytes(b"pl")
    assert find_engine(bundle, facts).path.parent == engine_folders(bundle)[1]
    EngineCache(engine_folders(bundle)[1]).discard(facts)
    with pytest.raises(BackendError, match="has 2 bytes"):
        find_engine(bundle, facts)


def test_engines_do_not_belong_to_the_files_of_a_bundle(bundle: Bundle) -> None:
    EngineCache(engine_folders(bundle)[0]).get_or_build(_facts(bundle), lambda: b"plan")
    assert any((bundle.path / "engines").iterdir())
    write_manifest(bundle.path, bundle.manifest)
    assert sorted(Bundle.open(bundle.path).manifest["files"]) == sorted(bundle.manifest["files"])


def test_without_a_driver_nothing_is_built_or_opened(bundle: Bundle) -> None:
    if isinstance(probe_driver(), Driver):
        pytest.skip("there is an NVIDIA driver here")
    with pytest.raises(GpuError, match="NVIDIA driver"):
        ensure_engine(bundle, GRAPH)
    with pytest.raises(GpuError, match="NVIDIA driver"):
        open_engine(bundle, GRAPH)
    assert not engine_folders(bundle)[0].exists()


def test_the_check_takes_an_image_of_the_engines_size_only(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(self: object, facts: object, build: object, prove: Callable[[bytes], bytes], say: object) -> None:
        prove(b"plan")

    monkeypatch.setattr(tensorrt_engines, "_open_machine", lambda: SimpleNamespace(facts={}, driver=ORIN))
    monkeypatch.setattr(EngineCache, "get_or_build", prove)
    with pytest.raises(ImageError, match=re.escape("must be uint8 (64, 128, 3), found uint8 (128, 64, 3)")):
        ensure_engine(bundle, GRAPH, golden=np.zeros((128, 64, 3), np.uint8))


def test_timings_are_kept_by_machine_and_forgotten_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path))
    said: list[str] = []
    machine = describe_machine(ORIN, "10.3.0")
    timing_cache(machine, said.append).write(b"timings")
    assert timing_cache(machine, said.append).read() == b"timings"
    assert timing_cache(describe_machine(ORIN, "10.7.0"), said.append).read() == b""
    (path,) = (tmp_path / "tensorrt_timing").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert timing_cache(machine, said.append).read() == b""
    assert said == []
    path.chmod(0o666)
    assert timing_cache(machine, said.append).read() == b""
    assert "can be written by its group or by everyone" in said[0]


def test_timings_that_cannot_be_kept_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "file"))
    said: list[str] = []
    timing_cache(describe_machine(ORIN, "10.3.0"), said.append).write(b"timings")
    assert "are not kept" in said[0]
