"""The CUDA runtime through cuda-python, imported from where its version keeps it, and its errors in words."""

from __future__ import annotations

import importlib
from typing import Any

from hrda_core.errors import GpuError, MissingPackageError, missing_text
from hrda_core.nvidia_driver import Driver

__all__ = ["check_runtime", "checked", "require_cuda"]


def require_cuda() -> Any:
    """Return the module of the CUDA runtime. Call `hrda_core.nvidia_driver.require_driver` first.

    Raises:
        MissingPackageError: cuda-python is not installed.
    """
    reasons: list[ImportError] = []
    # cuda-python 12.6 and later; 12.0 to 12.5.
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ImportError as error:  # noqa: PERF203
            reasons.append(error)
    raise MissingPackageError(missing_text("cuda-python", "tensorrt", reasons[0]))


def check_runtime(rt: Any, driver: Driver) -> None:
    """Refuse a CUDA runtime of a later major version than the driver supports.

    Raises:
        GpuError: the runtime is of a later major version.
    """
    version = int(checked(rt.cudaRuntimeGetVersion(), "asking for the CUDA version"))
    if version // 1000 > driver.cuda_version[0]:
        raise GpuError(
            f"the NVIDIA driver is too old for this cuda-python: it serves CUDA {driver.cuda_version[0]}, the package "
            f"is for {version // 1000}; update the driver, or install cuda-python {driver.cuda_version[0]}"
        )


def checked(result: tuple[Any, ...], doing: str) -> Any:
    """Return the value of a CUDA call, which returns (error code, value); None for calls without a value.

    Args:
        doing: what was tried, for the message, for example `"allocating 6 MB on the GPU"`.

    Raises:
        GpuError: the call failed.
    """
    code, *values = result
    if int(code) != 0:
        name = getattr(code, "name", str(int(code)))
        hint = "; other programs use its memory, or the image is too large" if "MemoryAllocation" in name else ""
        raise GpuError(f"the GPU failed while {doing}: {name}{hint}")
    return values[0] if values else None
