"""Checks of model bundles: they open, their hashes are right, they answer like themselves; engines fit this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hrda_core.errors import BackendError, BundleError, HrdaError, MissingPackageError
from hrda_core.findings import Finding, of_error, ok, warn
from hrda_core.machine import versions
from hrda_core.nvidia_driver import Driver

__all__ = ["bundles_here", "check_bundle", "check_default", "check_engines"]


def bundles_here(named: Sequence[Path]) -> list[Path]:
    """Return the bundles to look at: those that were named, else the default one and the user's own."""
    from hrda_core.inference.bundle import MANIFEST_NAME
    from hrda_core.inference.model_folders import default_model, models_home

    if named:
        return list(named)
    home = models_home()
    own = sorted(path.parent for path in home.glob(f"*/{MANIFEST_NAME}")) if home is not None else []
    try:
        found = [default_model(), *own]
    except BundleError:  # what is missing is told by the check of the folders
        found = own
    return list({os.path.realpath(path): path for path in found}.values())


def check_bundle(path: Path) -> Finding:
    """Open a bundle, compare the hash of every file, and let the default graph answer the made image."""
    from hrda_core.inference.bundle import Bundle
    from hrda_core.inference.predictor import Predictor

    subject = f"model {path.name}"
    try:
        bundle = Bundle.open(path)
    except HrdaError as error:
        return of_error(subject, "fail", error)
    try:
        predictor = Predictor(bundle, "onnx", threads=1)
    except MissingPackageError as error:
        return warn(subject, f"'{path}': whole, its answer was not tried ({error})", "install ONNX Runtime first")
    except HrdaError as error:
        return of_error(subject, "fail", error)
    answer = "the answer that it records" if predictor.graph.answer is not None else "an answer of a model"
    predictor.close()
    return ok(subject, f"'{path}': {len(bundle.manifest['files'])} files with the right hash, gives {answer}")


def check_engines(path: Path, driver: Driver | str, tensorrt: str | None = None) -> list[Finding]:
    """Compare the TensorRT engines of a bundle with this GPU and this TensorRT; nothing where it has no engines.

    Args:
        tensorrt: version of TensorRT, empty = it is not installed; None = ask.
    """
    from hrda_core.inference.backends.tensorrt_engines import engine_folders, find_engine
    from hrda_core.inference.bundle import Bundle
    from hrda_core.inference.onnx_files import onnx_sha256
    from hrda_core.inference.tensorrt.builder import BuildOptions
    from hrda_core.inference.tensorrt.engine_key import describe_engine, describe_machine

    try:
        bundle = Bundle.open(path, verify=False)
    except HrdaError:
        return []  # `check_bundle` says it
    subject = f"engines {path.name}"
    built = any(folder.is_dir() and any(folder.glob("*.json")) for folder in engine_folders(bundle))
    version = versions().get("tensorrt", "") if tensorrt is None else tensorrt
    if not built:
        return []
    if not isinstance(driver, Driver) or not version:
        why = "there is no TensorRT" if isinstance(driver, Driver) else "there is no GPU"
        return [ok(subject, f"engines were built, and are not used here: {why}")]
    findings = []
    for graph in bundle.static_graphs:
        options = BuildOptions(precision=graph.precision)
        machine = describe_machine(driver, version)
        try:
            facts = describe_engine(machine, bundle.name, graph, onnx_sha256(bundle.file(graph.file)), options)
            find_engine(bundle, facts)
        except BackendError as error:
            findings.append(of_error(subject, "warn", error))
        except HrdaError as error:
            findings.append(of_error(subject, "fail", error))
        else:
            findings.append(ok(subject, f"that of '{graph.file}' is whole and of this GPU and TensorRT {version}"))
    return findings


def check_default() -> Finding | None:
    """Say where the model that comes with the package is missing; None where it is there."""
    from hrda_core.inference.model_folders import default_model

    try:
        default_model()
    except BundleError as error:
        return of_error("default model", "fail", error)
    return None
