"""Inference back ends behind one small interface, and the choice between them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from hrda_core.errors import BackendError, GpuError, MissingPackageError, require
from hrda_core.inference.backends.protocol import Backend, BackendInfo, Reason
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.say import Level, Say, silent
from hrda_core.inference.tensorrt.builder import BuildOptions
from hrda_core.inference.tensorrt.progress import Progress
from hrda_core.memory import within_free_memory

__all__ = [
    "AUTO_VARIABLE",
    "BACKEND_NAMES",
    "GPU_FAILURE_CHOICES",
    "Backend",
    "BackendInfo",
    "Reason",
    "open_backend",
]

BACKEND_NAMES = ("auto", "onnx", "openvino", "cuda", "tensorrt", "torch")
"""What a user can ask for. `auto` takes the fastest that can run here: a TensorRT engine, ONNX Runtime on an NVIDIA GPU
(`cuda`), of OpenVINO (`openvino`) and ONNX Runtime on the CPU (`onnx`) the one that was faster here. `torch` is for
research."""

GPU_FAILURE_CHOICES = ("fall_back", "stop")
"""What to do where the GPU or OpenVINO cannot be used: go on with ONNX Runtime on the CPU, or raise."""

AUTO_VARIABLE = "HRDA_AUTO"
"""Environment variable with the names that `auto` chooses from, with commas between, where not all shall be tried."""

_AUTO_NAMES = ("tensorrt", "cuda", "openvino", "onnx")


@dataclass(frozen=True)
class _Request:
    bundle: Bundle
    graph: GraphSpec
    threads: int
    on_gpu_failure: str
    build_engine: bool
    engine_options: BuildOptions | None
    openvino: OpenVinoOptions | None
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
    openvino: OpenVinoOptions | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> Backend:
    """Load one graph into a back end. Its `info` says which one it is and why nothing faster runs.

    Args:
        name: one of `BACKEND_NAMES`.
        graph: a graph of the bundle.
        threads: CPU threads for one inference; 0 = all cores but one, at least one.
        on_gpu_failure: one of `GPU_FAILURE_CHOICES`; applies to `cuda`, `tensorrt` and `openvino` when they are opened,
            and to everything that runs on the GPU or in a named OpenVINO while it runs.
        build_engine: for `auto` and `tensorrt`: build the TensorRT engine if there is none, which takes minutes.
            Otherwise nothing is ever built.
        engine_options: how the engine is, or was, built; None = TensorRT's defaults.
        openvino: for `auto` and `openvino`: device and number format; None = the processor, in single precision.
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
    request = _Request(bundle, graph, threads, on_gpu_failure, build_engine, engine_options, openvino, say, progress)
    if name == "auto":
        return _open_auto(request)
    if name == "torch":
        require("torch", "train")
        from hrda_core.deploy.torch_backend import TorchBackend

        return TorchBackend(bundle, graph, threads=threads)
    if name == "onnx":
        return _open_cpu(request)
    if name == "openvino":
        return _open_named_openvino(request)
    return _open_named_gpu(name, request)


def _open_auto(request: _Request) -> Backend:
    reasons: list[Reason] = []
    allowed = _allowed_in_auto()
    for name, what, opener in (
        ("tensorrt", "no TensorRT engine", _open_tensorrt),
        ("cuda", "no CUDA", _open_cuda),
    ):
        if name not in allowed:
            continue
        try:
            return _guarded(opener(request), request, reasons)
        except (BackendError, MissingPackageError) as error:
            reasons.append(Reason(what, str(error)))
    backend = _open_cpu(request) if "openvino" not in allowed else _open_faster_one(request)
    backend.info = replace(backend.info, reasons=()).because(*reasons, *backend.info.reasons)
    return backend


def _allowed_in_auto() -> tuple[str, ...]:
    """The back ends that `auto` chooses from, `onnx` always among them."""
    names = tuple(name.strip() for name in os.environ.get(AUTO_VARIABLE, "").split(",") if name.strip()) or _AUTO_NAMES
    unknown = [name for name in names if name not in _AUTO_NAMES]
    if unknown:
        raise BackendError(
            f"the environment variable {AUTO_VARIABLE} names '{unknown[0]}', expected some of {', '.join(_AUTO_NAMES)} "
            f"with commas between; correct or unset it"
        )
    return names


def _open_faster_one(request: _Request) -> Backend:
    """OpenVINO or ONNX Runtime, with the reason in its description."""
    from hrda_core.inference.backends.faster import open_faster

    size = request.graph.made_size(request.bundle.multiple_of)
    path = request.bundle.file(request.graph.file)
    options = request.openvino or OpenVinoOptions()
    facts = (str(request.threads), options.device, options.precision)

    def open_openvino() -> Backend:
        # Whatever happens to it while it runs, the user did not name it: ONNX Runtime goes on.
        return _with_onnx_behind(_open_openvino(request), request)

    return open_faster(open_openvino, lambda: _open_cpu(request), path, size, facts, request.say)


def _open_named_openvino(request: _Request) -> Backend:
    try:
        backend = _open_openvino(request)
    except (BackendError, MissingPackageError) as error:
        if request.on_gpu_failure == "stop":
            raise
        request.say(f"back end 'openvino' cannot run: {error}; going on with ONNX Runtime on the CPU", Level.WARNING)
        backend = _open_cpu(request)
        backend.info = backend.info.because(Reason("not 'openvino'", str(error)))
        return backend
    return backend if request.on_gpu_failure == "stop" else _with_onnx_behind(backend, request)


def _with_onnx_behind(backend: Backend, request: _Request) -> Backend:
    from hrda_core.inference.backends.fallback import FallBackBackend

    return FallBackBackend(backend, lambda: _open_cpu(request), request.say, BackendError)


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


def _open_openvino(request: _Request) -> Backend:
    from hrda_core.inference.backends.openvino_backend import OpenVinoBackend

    bundle, graph = request.bundle, request.graph
    with within_free_memory():  # constants are computed at load, and a graph of 1 kB can ask for 40 GB of them
        return OpenVinoBackend(bundle, graph, threads=request.threads, options=request.openvino, say=request.say)


def _open_cuda(request: _Request) -> Backend:
    from hrda_core.inference.backends.onnx_backend import OnnxBackend

    path = request.bundle.file(request.graph.file)
    return OnnxBackend(path, threads=request.threads, device="cuda")


def _open_cpu(request: _Request) -> Backend:
    from hrda_core.inference.backends.onnx_backend import OnnxBackend

    with within_free_memory():
        return OnnxBackend(request.bundle.file(request.graph.file), threads=request.threads)
