"""The differences between TensorRT 8.6, 10.x and 11.x, found by looking for a member, never by comparing versions.

| | 8.6 | 10.x | 11.x |
|---|---|---|---|
| strongly typed networks (precision from the file) | no | yes | yes, only |
| FP16 and INT8 builder flags | yes | yes | no |
| EXPLICIT_BATCH | must be set | accepted | gone |
| progress monitor | no | yes | yes |
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

from hrda_core.errors import require
from hrda_core.inference.tensorrt.progress import BuildProgress, Progress

__all__ = ["make_log", "make_monitor", "network_flags", "parser_errors", "require_tensorrt", "set_precision"]


def require_tensorrt() -> ModuleType:
    """Return the `tensorrt` package. Call `hrda_core.nvidia_driver.require_driver` first: see there.

    Raises:
        MissingPackageError: it is not installed, or its libraries are not.
    """
    return require("tensorrt", "tensorrt")


def make_log(trt: Any) -> Any:
    """Make a TensorRT logger that keeps errors in its list `errors` and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(message.split()))

    return Log()


def network_flags(trt: Any) -> int:
    """Return the flags of `Builder.create_network`: strongly typed if possible, explicit batch where it must be set."""
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    elif hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        # Before 10 only: networks with an implicit batch are gone since, and so is the need to say it.
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return flags


def set_precision(trt: Any, network: Any, config: Any, precision: str) -> None:
    """Let a weakly typed network (8.6) use the precision of its graph; strongly typed ones read it from the graph."""
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") or precision == "fp32":
        return
    if hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)
    if hasattr(trt.BuilderFlag, "INT8") and precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    if hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"):
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        # Their sums overflow in half precision.
        if layer.type in (trt.LayerType.NORMALIZATION, trt.LayerType.SOFTMAX):
            layer.precision = trt.DataType.FLOAT
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.DataType.FLOAT)


def make_monitor(trt: Any, progress: Progress) -> Any | None:
    """Make a progress monitor that calls `progress`; return None where TensorRT has none (8.6).

    What `progress` raises ends the build; it is kept in the monitor's `error`.
    """
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._phases: dict[str, tuple[str, int]] = {}
            self._begin = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase or "", num_steps)
            self._report(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._report(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _report(self, phase: str, done: int) -> None:
            parent, total = self._phases.get(phase, ("", 0))
            try:
                progress(BuildProgress(phase, parent, done, total, time.monotonic() - self._begin))
            except BaseException as error:
                # It must not cross TensorRT's C++; also the interrupt of a user, which arrives here.
                self.error = self.error or error

    return Monitor()


def parser_errors(trt: Any, parser: Any) -> str:
    """Return the first errors of the ONNX parser with their nodes, for one sentence."""
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        what = " ".join(error.desc().split())
        text = f"{error.code().name}: {what} ({error.func()})"
        if hasattr(trt.ParserError, "node_name") and error.node_operator():
            text = f"node '{error.node_name()}' ({error.node_operator()}): {text}"
        elif error.node() >= 0:
            text = f"node number {error.node()}: {text}"
        lines.append(text)
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more
