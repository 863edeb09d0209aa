"""Carries out the checks that need no ROS, in the order in which a reader wants them; one that fails is a finding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hrda_core.doctor.backend_checks import check_gpu, check_onnx_runtime, check_openvino, check_tensorrt
from hrda_core.doctor.python_checks import (
    check_commands,
    check_interpreter,
    check_libraries_together,
    check_numpy_series,
)
from hrda_core.findings import Finding, fail
from hrda_core.nvidia_driver import Driver, probe_driver

__all__ = ["examine", "guarded"]

Check: TypeAlias = "Callable[[], Finding | Iterable[Finding] | None]"


def guarded(name: str, check: Check) -> list[Finding]:
    """Return what a check finds; where it raises, that is the finding."""
    try:
        found = check()
        return [] if found is None else [found] if isinstance(found, Finding) else list(found)
    except Exception as error:
        text = f"the check itself failed: {type(error).__name__}: {' '.join(str(error).split())}"
        return [fail(name, text, "report this line, it is a fault of hrda doctor")]


def examine(models: Sequence[Path] = ()) -> Iterator[tuple[str, list[Finding]]]:
    """Yield (heading, findings) of the parts of this machine.

    Args:
        models: bundles to look at; empty = the default one and the user's own.
    """
    libraries = guarded("numpy, OpenCV", check_libraries_together)
    yield (
        "Python",
        [
            *guarded("Python", check_interpreter),
            *libraries,
            *guarded("numpy's series", lambda: check_numpy_series(bool(os.environ.get("AMENT_PREFIX_PATH")))),
            *guarded("commands", check_commands),
        ],
    )
    driver = probe_driver()
    yield (
        "back ends",
        [
            *guarded("ONNX Runtime", lambda: check_onnx_runtime(driver)),
            *guarded("OpenVINO", check_openvino),
            *guarded("TensorRT", lambda: check_tensorrt(driver)),
            *guarded("GPU", lambda: check_gpu(driver)),
        ],
    )
    sound = all(finding.state != "fail" for finding in libraries)
    yield "models", _models(models, driver, sound)
    yield "machine", _machine(models, sound)


def _models(named: Sequence[Path], driver: Driver | str, sound: bool) -> list[Finding]:
    if not sound:  # what reads a bundle imports them
        advice = "mend that first, and run hrda doctor again"
        return [fail("models", "not looked at, since numpy, OpenCV or PyYAML do not import", advice)]
    from hrda_core.doctor.bundle_checks import bundles_here, check_bundle, check_default, check_engines

    findings = [] if named else guarded("default model", check_default)
    for path in bundles_here(named):
        findings += guarded(f"model {path.name}", partial(check_bundle, path))
        findings += guarded(f"engines {path.name}", partial(check_engines, path, driver))
    return findings


def _machine(named: Sequence[Path], sound: bool) -> list[Finding]:
    if not sound:
        return []
    from hrda_core.doctor.machine_checks import check_clock, check_devices, check_disk, check_folders, check_link

    findings = guarded("folders", check_folders)
    for path in named:
        findings += guarded("link", partial(check_link, path))
    for name, check in (("devices", check_devices), ("disk", check_disk), ("clock", check_clock)):
        findings += guarded(name, check)
    return findings
