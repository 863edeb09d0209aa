"""Opens the one of OpenVINO and ONNX Runtime that is faster on this machine, and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from hrda_core.errors import BackendError, MissingPackageError, require
from hrda_core.inference.backend_choice import BackendChoice, choice_file, keep_backend, kept_backend, time_in_turn
from hrda_core.inference.backends.protocol import Backend, Reason
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.openvino.reading import require_openvino
from hrda_core.inference.say import Say

__all__ = ["open_faster"]

_NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}

Open = Callable[[], Backend]
Measure = Callable[[Mapping[str, Callable[[], object]]], BackendChoice]


def open_faster(
    open_openvino: Open,
    open_onnx: Open,
    graph: Path,
    size: tuple[int, int],
    facts: Sequence[str],
    say: Say,
    measure: Measure = time_in_turn,
) -> Backend:
    """Open the back end that was faster when it was measured on this machine; measure where that was not done yet.

    Args:
        open_openvino, open_onnx: open the two.
        graph: ONNX file.
        size: height and width of the image to measure with, pixels.
        facts: what the choice depends on beside the graph, the machine and the versions.
        say: takes lines for the user.
        measure: times one image by back end.

    Returns:
        the back end, whose description has the reason.

    Raises:
        BackendError, BundleError, MissingPackageError: neither can be opened; the error is that of ONNX Runtime.
    """
    versions = {name: _version(name) for name in _NAMES}
    if not versions["openvino"]:
        return _because(open_onnx(), Reason("no OpenVINO", "the package 'openvino' is not installed"))
    path = choice_file(graph, [*facts, *versions.values()])
    choice = kept_backend(path, _NAMES)
    if choice is not None and choice.fastest == "onnxruntime" and versions["onnxruntime"]:
        return _because(open_onnx(), _slower(choice))
    try:
        openvino = open_openvino()
    except (BackendError, MissingPackageError) as error:
        return _because(open_onnx(), Reason("no OpenVINO", str(error)))
    if choice is not None:
        return _because(openvino, _slower(choice))
    if not versions["onnxruntime"]:
        return _because(openvino, Reason("no ONNX Runtime", "the package 'onnxruntime' is not installed"))
    return _measured(openvino, open_onnx(), path, graph, size, say, measure)


def _measured(
    openvino: Backend, onnx: Backend, path: Path, graph: Path, size: tuple[int, int], say: Say, measure: Measure
) -> Backend:
    """The faster of two that are open; the other one is closed."""
    backends = {"openvino": openvino, "onnxruntime": onnx}
    choice = measure({name: partial(backend, golden_image(*size)) for name, backend in backends.items()})
    if openvino.info.kind != "openvino":  # it failed, and has handed over
        openvino.close()
        return _because(onnx, *openvino.info.reasons)
    about = {"graph": str(graph), "size": "x".join(map(str, size))}
    keep_backend(path, choice, {**about, **{_NAMES[name]: backends[name].info.what for name in backends}}, say)
    taken = backends.pop(choice.fastest)
    for backend in backends.values():
        backend.close()
    return _because(taken, _slower(choice))


def _slower(choice: BackendChoice) -> Reason:
    """Why the slower one does not run."""
    slower = max(choice.p50_ms, key=lambda name: choice.p50_ms[name])
    times = f"{choice.p50_ms[slower]:.1f} ms against {choice.p50_ms[choice.fastest]:.1f} ms"
    return Reason(f"not {_NAMES[slower]}", f"it was slower here when both were timed, {times} for a small image")


def _because(backend: Backend, *reasons: Reason) -> Backend:
    backend.info = backend.info.because(*reasons)
    return backend


def _version(module: str) -> str:
    """Version of a package; empty where it is not installed."""
    try:
        return str((require_openvino() if module == "openvino" else require(module, module)).__version__)
    except MissingPackageError:
        return ""
