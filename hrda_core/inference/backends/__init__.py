"""Inference back ends behind one small interface, and the choice between them."""

from __future__ import annotations

from dataclasses import dataclass

from hrda_core.errors import BackendError, GpuError, MissingPackageError, require
from hrda_core.inference.backends.protocol import Backend, BackendInfo, Reason
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.say import Level, Say, silent
from hrda_core.inference.tensorrt.builder import BuildOptions
from hrda_core.inference.tensorrt.progress import Progress

__all__ = ["BACKEND_NAMES", "GPU_FAILURE_CHOICES", "Backend", "BackendInfo", "Reason", "open_backend"]

BACKEND_NAMES = ("auto", "onnx", "cuda", "tensorrt", "torch")
"""What a user can ask for. `auto` takes the fastest that can run here: a TensorRT engine, ONNX Runtime on an NVIDIA GPU
(`cuda`), ONNX Runtime on the CPU (`onnx`). `torch` is for research."""

GPU_FAILURE_CHOICES = ("fall_back", "stop")
"""What to do where the GPU cannot be used: go on with ONNX Runtime on the CPU, or raise."""


@dataclass(frozen=True)
class _Request:
    bundle: Bundle
    graph: GraphSpec
    threads: int
    on_gpu_failure: str
    build_engine: bool
    engine_options: BuildOptions | None
    say: Say
    progress: Progress | None


def open_backend(
    name: str,
    bundle: Bundle,
    graph: GraphSpec,
    *,
    threads: int = 0,
    on_gpu_failure: str = "stop",
    build_engine: bool = False,
    engine_options: BuildOptions | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> Backend:
    """Load one graph into a back end. Its `info` says which one it is and why nothing faster runs.

    Args:
        name: one of `BACKEND_NAMES`.
        graph: a graph of the bundle.
        threads: CPU threads for one inference; 0 = all cores but one, at least one.
        on_gpu_failure: one of `GPU_FAILURE_CHOICES`; applies to `cuda` and `tensorrt` when they are opened, and to
            everything that runs on the GPU while it runs.
        build_engine: for `auto` and `tensorrt`: build the TensorRT engine if there is none, which takes minutes.
            Otherwise nothing is ever built.
        engine_options: how the engine is, or was, built; None = TensorRT's defaults.
        say: takes lines for the user: builds, waits, and hand-overs to the CPU.
        progress: called with the progress of a build.

    Raises:
        BackendError: the name is unknown, or the back end cannot run here (`GpuError` for the GPU's reasons).
        BundleError: the graph cannot be loaded.
        MissingPackageError: the back end's package is not installed.
    """
    if name not in BACKEND_NAMES:
        raise BackendError(f"back end '{name}' is not known; choose one of {', '.join(BACKEND_NAMES)}")
    if on_gpu_failure not in GPU_FAILURE_CHOICES:
        choices = " or ".join(GPU_FAILURE_CHOICES)
        raise BackendError(f"on_gpu_failure must be {choices}, not '{on_gpu_failure}'")
    request = _Request(bundle, graph, threads, on_gpu_failure, build_engine, engine_options, say, progress)
    if name == "auto":
        return _open_auto(request)
    if name == "torch":
        require("torch", "train")
        from hrda_core.deploy.torch_backend import TorchBackend

        return TorchBackend(bundle, graph, threads=threads)
    if name == "onnx":
        return _open_cpu(request)
    return _open_named_gpu(name, request)


def _open_auto(request: _Request) -> Backend:
    reasons: list[Reason] = []
    for what, opener in (("no TensorRT engine", _open_tensorrt), ("no CUDA", _open_cuda)):
        try:
            return _guarded(opener(request), request, reasons)
        except (BackendError, MissingPackageError) as error:  # noqa: PERF203
            reasons.append(Reason(what, str(error)))
    backend = _open_cpu(request)
    backend.info = backend.info.because(*reasons)
    return backend


def _open_named_gpu(name: str, request: _Request) -> Backend:
    opener = _open_tensorrt if name == "tensorrt" else _open_cuda
    try:
        return _guarded(opener(request), request, [])
    except GpuError as error:
        if request.on_gpu_failure == "stop":
            raise GpuError(f"back end '{name}' cannot run: {error}; use backend 'auto' or 'onnx' here") from error
        request.say(f"back end '{name}' cannot run: {error}; going on with ONNX Runtime on the CPU", Level.WARNING)
        backend = _open_cpu(request)
        backend.info = backend.info.because(Reason(f"not '{name}'", str(error)))
        return backend


def _guarded(backend: Backend, request: _Request, reasons: list[Reason]) -> Backend:
    """With the hand-over to the CPU if that was asked for, and why a faster back end was not taken."""
    backend.info = backend.info.because(*reasons)
    if request.on_gpu_failure == "stop":
        return backend
    from hrda_core.inference.backends.fallback import FallBackBackend

    return FallBackBackend(backend, lambda: _open_cpu(request), request.say)


def _open_tensorrt(request: _Request) -> Backend:
    from hrda_core.inference.backends.tensorrt_backend import TensorRTBackend

    arguments = (request.bundle, request.graph, request.engine_options)
    if not request.build_engine:
        return TensorRTBackend(*arguments)
    from hrda_core.inference.backends.tensorrt_engines import ensure_engine

    ensure_engine(*arguments, say=request.say, progress=request.progress)
    try:
        return TensorRTBackend(*arguments)
    except GpuError:
        raise
    except BackendError as error:
        # Whole and for this machine, but TensorRT does not take it or it computes something else: once afresh.
        request.say(f"{error}; building it again")
    ensure_engine(*arguments, rebuild=True, say=request.say, progress=request.progress)
    return TensorRTBackend(*arguments)


def _open_cuda(request: _Request) -> Backend:
    from hrda_core.inference.backends.onnx_backend import OnnxBackend

    path = request.bundle.file(request.graph.file)
    return OnnxBackend(path, threads=request.threads, device="cuda")


def _open_cpu(request: _Request) -> Backend:
    from hrda_core.inference.backends.onnx_backend import OnnxBackend

    return OnnxBackend(request.bundle.file(request.graph.file), threads=request.threads)
