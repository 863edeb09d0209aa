"""Builds a TensorRT plan from an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.errors import BackendError, GpuError
from hrda_core.inference.onnx_files import external_files
from hrda_core.inference.tensorrt.api import (
    make_log,
    make_monitor,
    network_flags,
    parser_errors,
    require_tensorrt,
    set_precision,
)
from hrda_core.inference.tensorrt.progress import Progress, heartbeat
from hrda_core.nvidia_driver import require_driver

__all__ = ["BuildOptions", "TimingCache", "build_plan"]


@dataclass(frozen=True)
class BuildOptions:
    """The options of an engine's build. All of them are part of the engine's key.

    Attributes:
        precision: precision that is written in the graph: `fp32`, `fp16` or `int8`. TensorRT 10 and later read it
            from the graph; 8.6 has to be told.
        image_size: height and width of the image, pixels, for a graph that takes any size; None for a static graph.
        workspace_bytes: limit of scratch memory; 0 = TensorRT's own (all of the GPU's memory).
        optimization_level: 0 (quick build) to 5 (quick engine); None = TensorRT's own (3).
    """

    precision: str = "fp32"
    image_size: tuple[int, int] | None = None
    workspace_bytes: int = 0
    optimization_level: int | None = None


@dataclass(frozen=True)
class TimingCache:
    """Timings of kernels from earlier builds. They make the next build quicker, and hardly change its result.

    Attributes:
        read: returns the bytes of the last build, empty if there are none.
        write: takes the bytes after this build.
    """

    read: Callable[[], bytes]
    write: Callable[[bytes], None]


def build_plan(
    onnx_path: Path,
    options: BuildOptions,
    progress: Progress | None = None,
    *,
    trt: Any = None,
    timing_cache: TimingCache | None = None,
) -> bytes:
    """Build the plan of one graph.

    Args:
        onnx_path: ONNX file; its weights may lie beside it.
        progress: called with the progress of the build; what it raises stops the build and is raised here.
        trt: the module `tensorrt`, or one with the same interface; None = import it, after asking for the driver.
        timing_cache: where timings of kernels are kept.

    Returns:
        the serialised engine.

    Raises:
        GpuError: there is no GPU or driver.
        MissingPackageError: TensorRT is not installed.
        BundleError: weights lie outside the folder of the graph.
        BackendError: TensorRT cannot read the graph or cannot build it.
    """
    external_files(onnx_path)
    if trt is None:
        require_driver()
        trt = require_tensorrt()
    log = make_log(trt)
    builder = _builder(trt, log)
    network = builder.create_network(network_flags(trt))
    # The parser owns memory that the network points into: it must live until the build is done.
    parser = _parse(trt, network, log, onnx_path)
    config = _configure(trt, builder, network, options)
    cache = _attach_timing_cache(config, timing_cache)
    plan = _build(trt, builder, network, config, progress)
    del parser
    if plan is None:
        raise BackendError(
            f"TensorRT {trt.__version__} cannot build an engine of '{onnx_path}': {_last(log.errors)}; "
            f"run the bundle with backend 'onnx', or export another graph with 'hrda export'"
        )
    if timing_cache is not None and cache is not None:
        timing_cache.write(bytes(cache.serialize()))
    return bytes(plan)


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except (RuntimeError, TypeError) as error:  # what the bindings make of a null pointer
        raise GpuError(f"TensorRT {trt.__version__} cannot use the GPU: {_last(log.errors)}") from error


def _parse(trt: Any, network: Any, log: Any, onnx_path: Path) -> Any:
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        reason = parser_errors(trt, parser) or _last(log.errors)
        raise BackendError(
            f"TensorRT {trt.__version__} cannot read graph '{onnx_path}': {reason}; "
            f"export the graph with a lower opset, or use a newer TensorRT"
        )
    return parser


def _configure(trt: Any, builder: Any, network: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    if options.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    set_precision(trt, network, config, options.precision)
    _fix_shapes(builder, network, config, options)
    return config


def _fix_shapes(builder: Any, network: Any, config: Any, options: BuildOptions) -> None:
    """Give inputs of any size the one size that the engine is for."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if all(-1 not in tuple(entry.shape) for entry in inputs):
        return
    if options.image_size is None or [entry.name for entry in inputs] != ["image"]:
        raise BackendError(
            "an engine is for one image size, and this graph takes any; export a graph of one size with "
            "'hrda export BUNDLE --size HEIGHTxWIDTH'"
        )
    shape = (1, *options.image_size, 3)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", shape, shape, shape)
    config.add_optimization_profile(profile)


def _attach_timing_cache(config: Any, timing_cache: TimingCache | None) -> Any | None:
    if timing_cache is None:
        return None
    cache = config.create_timing_cache(timing_cache.read())
    if cache is None or not config.set_timing_cache(cache, False):
        # Written by another TensorRT or for another GPU in spite of its name: start afresh.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _build(trt: Any, builder: Any, network: Any, config: Any, progress: Progress | None) -> Any | None:
    if progress is None:
        return builder.build_serialized_network(network, config)
    monitor = make_monitor(trt, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    with nullcontext() if monitor is not None else heartbeat(progress, "TensorRT builder"):
        plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.error is not None:
        raise monitor.error
    return plan


def _last(errors: list[str]) -> str:
    return errors[-1][:300] if errors else "it gives no reason"
