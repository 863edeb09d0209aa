"""Builds or opens the TensorRT engine of a bundle, from the parts of the package `tensorrt`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, ImageError, require
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.golden import check_golden, make_golden
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.model_folders import is_shipped
from hrda_core.inference.onnx_files import onnx_sha256
from hrda_core.inference.tensorrt.api import require_tensorrt
from hrda_core.inference.tensorrt.builder import BuildOptions, build_plan
from hrda_core.inference.tensorrt.cuda import check_runtime, require_cuda
from hrda_core.inference.tensorrt.engine_cache import EngineCache, StoredEngine
from hrda_core.inference.tensorrt.engine_key import describe_engine, describe_machine
from hrda_core.inference.tensorrt.progress import Progress
from hrda_core.inference.tensorrt.runner import EngineRunner
from hrda_core.inference.tensorrt.timing_files import timing_cache
from hrda_core.nvidia_driver import Driver, require_driver
from hrda_core.whole_files import cache_folder

__all__ = ["OpenEngine", "engine_folders", "ensure_engine", "find_engine", "open_engine"]

UInt8Array: TypeAlias = "npt.NDArray[np.uint8]"
_HOW_TO_BUILD = "build it here with 'hrda export BUNDLE --engine', or start with build_engine"


@dataclass(frozen=True)
class _Machine:
    """TensorRT and CUDA, ready to be called."""

    trt: Any
    rt: Any
    driver: Driver
    facts: Mapping[str, str]


@dataclass(frozen=True)
class OpenEngine:
    """An engine on the GPU that has passed its golden check, and its description."""

    runner: EngineRunner
    info: BackendInfo


def ensure_engine(
    bundle: Bundle,
    graph: GraphSpec,
    options: BuildOptions | None = None,
    *,
    golden: UInt8Array | None = None,
    rebuild: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> Path:
    """Return the engine of a graph on this machine; build, compare with ONNX Runtime and store it if there is none.

    This takes minutes on a Jetson. A second process that asks for the same engine meanwhile waits, and uses the result.

    Args:
        graph: a graph of the bundle.
        options: how to build; the precision is the graph's. None = TensorRT's defaults.
        golden: uint8 (H, W, 3) RGB image of the engine's size for the comparison, preferably from the target domain;
            None = a synthetic one.
        rebuild: build even if there is an engine.
        say: takes lines for the user.
        progress: called with the progress of the build; see `log_lines`.

    Returns:
        the plan's file, in `BUNDLE/engines`, or in the cache folder where the bundle cannot be written or came with the
        package.

    Raises:
        GpuError: there is no driver or GPU, or its memory is full.
        MissingPackageError: TensorRT, cuda-python or ONNX Runtime is not installed.
        BackendError: TensorRT refuses the graph, the engine gives other labels than ONNX Runtime, or the disk is full.
        ImageError: `golden` has another size.
    """
    options = _options(graph, options)
    machine = _open_machine()
    require("onnxruntime", "runtime")  # before minutes of building, not after
    facts = _facts(bundle, graph, options, machine)
    onnx_path = bundle.file(graph.file)

    def build() -> bytes:
        say(f"building a TensorRT engine of '{onnx_path}' for {machine.driver.gpu.name}; this can take minutes")
        timings = timing_cache(machine.facts, say)
        return build_plan(onnx_path, options, progress, trt=machine.trt, timing_cache=timings)

    def prove(plan: bytes) -> bytes:
        say("comparing the engine with ONNX Runtime")
        image = _checked_image(golden, _image_size(graph, options))
        packed = make_golden(image, *OnnxBackend(onnx_path)(image))
        runner = EngineRunner(machine.trt, machine.rt, plan)
        try:
            equal = check_golden(packed, runner.run, options.precision)
        finally:
            runner.close()
        say(f"the engine gives ONNX Runtime's class on {equal:.3%} of the clear pixels")
        return packed

    cache = EngineCache(_folder_to_write(bundle))
    if rebuild:
        cache.discard(facts)
    return cache.get_or_build(facts, build, prove, say=say).path


def open_engine(bundle: Bundle, graph: GraphSpec, options: BuildOptions | None = None) -> OpenEngine:
    """Load the engine of a graph and run its golden check. This never builds an engine.

    Raises:
        GpuError: there is no driver or GPU, or its memory is full.
        MissingPackageError: TensorRT or cuda-python is not installed.
        BackendError: there is no engine, or it is not for this machine and graph, is not whole, can be written by
            others, or gives other labels than when it was built.
    """
    options = _options(graph, options)
    machine = _open_machine()
    stored = find_engine(bundle, _facts(bundle, graph, options, machine))
    runner = EngineRunner(machine.trt, machine.rt, stored.plan)
    try:
        check_golden(stored.golden, runner.run, options.precision)
    except BaseException:
        runner.close()
        raise
    way = f"no CUDA graph ({runner.graph_problem})" if runner.graph_problem else "CUDA graph"
    info = BackendInfo(
        "tensorrt",
        machine.trt.__version__,
        "cuda",
        machine.driver.gpu.name,
        precision=options.precision,
        details=(f"engine {stored.path.stem[:12]}", way),
    )
    return OpenEngine(runner, info)


def engine_folders(bundle: Bundle) -> tuple[Path, Path]:
    """Return the folders of a bundle's engines: in the bundle, and in the cache folder for read-only bundles."""
    return bundle.path / "engines", cache_folder() / "engines"


def find_engine(bundle: Bundle, facts: Mapping[str, str]) -> StoredEngine:
    """Return the stored engine for these facts (see `describe_engine`).

    Raises:
        BackendError: there is none that is whole, trusted and for this machine; the text says what is there.
    """
    reasons = []
    for folder in engine_folders(bundle):
        cache = EngineCache(folder)
        try:
            stored = cache.find(facts)
        except BackendError as error:
            reasons.append(str(error))
            continue
        if stored is not None:
            return stored
        if other := cache.other_engine(facts):
            reasons.append(f"{other}; {_HOW_TO_BUILD}")
    raise BackendError(
        reasons[0] if reasons else f"no engine of graph '{facts['graph']}' was built for this machine; {_HOW_TO_BUILD}"
    )


def _checked_image(image: UInt8Array | None, size: tuple[int, int]) -> UInt8Array:
    """The image for the golden check, uint8 (1, H, W, 3); a made one where none is given."""
    if image is None:
        return golden_image(*size)
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise ImageError(
            f"the image for the engine's check must be uint8 {(*size, 3)}, found {image.dtype} {image.shape}", "size"
        )
    return np.ascontiguousarray(image[None])


def _open_machine() -> _Machine:
    driver = require_driver()
    rt = require_cuda()
    check_runtime(rt, driver)
    trt = require_tensorrt()
    return _Machine(trt, rt, driver, describe_machine(driver, trt.__version__))


def _facts(bundle: Bundle, graph: GraphSpec, options: BuildOptions, machine: _Machine) -> dict[str, str]:
    _image_size(graph, options)
    return describe_engine(machine.facts, bundle.name, graph, onnx_sha256(bundle.file(graph.file)), options)


def _options(graph: GraphSpec, options: BuildOptions | None) -> BuildOptions:
    return replace(options or BuildOptions(), precision=graph.precision)


def _image_size(graph: GraphSpec, options: BuildOptions) -> tuple[int, int]:
    size = graph.size or options.image_size
    if size is None:
        raise BackendError(
            f"graph '{graph.file}' takes images of any size and an engine is for one; export a graph of one size with "
            f"'hrda export BUNDLE --size HEIGHTxWIDTH'"
        )
    return size


def _folder_to_write(bundle: Bundle) -> Path:
    own, shared = engine_folders(bundle)
    if is_shipped(bundle.path):  # the next build or update of the package would take it away
        return shared
    return own if os.access(own if own.is_dir() else bundle.path, os.W_OK) else shared
