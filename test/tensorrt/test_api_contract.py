"""Every name of TensorRT and CUDA that the engine code touches exists in the real bindings of every version it serves.

No GPU, no driver and no TensorRT: see test/support/tensorrt_stubs.py, and docs/results/proof_without_gpu.md for what
this proves and what not.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tensorrt_api_use import MODULE, Reading, api_uses
from tensorrt_stubs import Surface, cuda_surface, tensorrt_surface
from tensorrt_wheels import BINDINGS, CUDA_PYTHON, UnavailableError

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

TENSORRT = {
    "trt": MODULE,
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
"""What a variable or attribute of this name holds in the engine code, where its type does not follow from the code."""

CUDA_RUNTIME = {"rt": MODULE}

Sources = dict[str, str]


@pytest.fixture(scope="module")
def sources(repository: Path) -> Sources:
    """The engine code by file name."""
    inference = repository / "hrda_core" / "inference"
    files = sorted([*(inference / "tensorrt").glob("*.py"), *(inference / "backends").glob("tensorrt_*.py")])
    return {file.name: file.read_text(encoding="utf-8") for file in files}


@pytest.fixture(scope="module")
def tensorrt() -> dict[str, Surface]:
    return {version: available(tensorrt_surface, version) for version in BINDINGS}


@pytest.fixture(scope="module")
def cuda() -> dict[str, Surface]:
    return {version: available(cuda_surface, version, "runtime") for version in CUDA_PYTHON}


def available(surface, *arguments: str) -> Surface:
    try:
        return surface(*arguments)
    except UnavailableError as error:
        pytest.skip(str(error))


def misspelt(sources: Sources, file: str, name: str) -> Sources:
    """The sources with one name misspelt in one file."""
    assert name in sources[file]
    return {**sources, file: sources[file].replace(name, f"{name}x")}


@pytest.mark.parametrize("version", BINDINGS)
def test_tensorrt_has_every_name_that_the_engine_code_uses(version, sources, tensorrt):
    reading = api_uses(sources, tensorrt[version], TENSORRT)
    assert reading.missing == []
    assert owners(reading) >= {
        "Builder",
        "IBuilderConfig",
        "ICudaEngine",
        "IExecutionContext",
        "INetworkDefinition",
        "OnnxParser",
        "Runtime",
    }


@pytest.mark.parametrize("version", CUDA_PYTHON)
def test_cuda_python_has_every_name_that_the_engine_code_uses(version, sources, cuda):
    reading = api_uses(sources, cuda[version], CUDA_RUNTIME)
    assert reading.missing == []
    assert {use.name for use in reading.uses} >= {
        "cudaMalloc",
        "cudaMemcpyAsync",
        "cudaGraphLaunch",
        "cudaStreamDestroy",
    }


def test_no_other_file_calls_tensorrt_or_cuda(repository):
    calls = re.compile(r"\b(trt|rt)\.[A-Za-z]|^\s*(import|from) (tensorrt|cuda)\b", re.MULTILINE)
    found = {
        file.name
        for package in ("hrda_core", "hrda_ros", "training")
        for file in (repository / package).rglob("*.py")
        if calls.search(file.read_text(encoding="utf-8")) and file.parent.name != "tensorrt"
    }
    assert found <= {"tensorrt_backend.py", "backend_checks.py"}  # the doctor asks for the version, in another process


def test_every_function_of_the_engine_code_is_read_in_some_version(sources, tensorrt):
    unread = [api_uses(sources, surface, TENSORRT).unread for surface in tensorrt.values()]
    assert frozenset.intersection(*unread) == frozenset()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("builder.py", "create_builder_config"),
        ("builder.py", "build_serialized_network"),
        ("api.py", "phase_finish"),
        ("runner.py", "execute_async_v3"),
        ("runner.py", "TensorIOMode"),
        ("runner.py", "get_tensor_dtype"),
    ],
)
def test_a_misspelt_name_is_found(file, name, sources, tensorrt):
    assert any(f".{name}x" in line for line in missing_somewhere(misspelt(sources, file, name), tensorrt, TENSORRT))


@pytest.mark.parametrize(("file", "name"), [("runner.py", "cudaGraphLaunch"), ("buffers.py", "cudaHostAlloc")])
def test_a_misspelt_name_of_cuda_is_found(file, name, sources, cuda):
    assert any(f".{name}x" in line for line in missing_somewhere(misspelt(sources, file, name), cuda, CUDA_RUNTIME))


def test_code_for_one_version_is_refused_by_the_others(tensorrt):
    """The member tables of the releases themselves: what came and went between them."""
    old = {"code.py": "def build(trt, config):\n    config.set_flag(trt.BuilderFlag.FP16)\n"}
    new = {"code.py": "def build(trt, config):\n    config.progress_monitor = trt.IProgressMonitor()\n"}
    gone = {"code.py": "def run(context):\n    context.execute_async_v2([], 0)\n"}
    calls = {"code.py": "def run(context):\n    context.execute_async_v3()\n"}
    assert versions_without(old, tensorrt) == ["11.4.0.106"]
    assert versions_without(new, tensorrt) == ["8.6.1"]
    assert versions_without(gone, tensorrt) == ["10.3.0", "10.16.1.11", "11.4.0.106"]
    assert versions_without(calls, tensorrt) == list(BINDINGS)


def missing_somewhere(sources: Sources, surfaces: dict[str, Surface], variables: dict[str, str]) -> list[str]:
    return [line for surface in surfaces.values() for line in api_uses(sources, surface, variables).missing]


def versions_without(sources: Sources, surfaces: dict[str, Surface]) -> list[str]:
    return [version for version, surface in surfaces.items() if api_uses(sources, surface, TENSORRT).missing]


def owners(reading: Reading) -> set[str]:
    return {use.owner for use in reading.uses}
