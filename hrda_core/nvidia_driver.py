"""Finds out with ctypes alone whether there is an NVIDIA driver with a GPU, before TensorRT or CUDA are imported.

A TensorRT runtime that is created without a driver can end the whole process, so nothing of TensorRT may be touched
until this module has found one.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from hrda_core.errors import GpuError

__all__ = ["NEEDED_CUDA", "Driver", "Gpu", "probe_driver", "require_driver"]

NEEDED_CUDA = (12, 0)
"""Oldest driver that cuda-python 12 runs on; JetPack 6 brings 12.2 or newer."""

# Attribute numbers of cuDeviceGetAttribute.
_SM_COUNT, _MAJOR, _MINOR = 16, 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: name that the driver reports, for example `Orin`.
        compute_capability: major and minor version, for example (8, 7).
        sm_count: number of streaming multiprocessors.
        memory_bytes: size of its memory; on a Jetson this is shared with the CPU.
    """

    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver and the GPU that is used, which is the first one that CUDA_VISIBLE_DEVICES leaves visible.

    Attributes:
        cuda_version: newest CUDA version that the driver supports, for example (12, 6).
        gpu: the GPU.
    """

    cuda_version: tuple[int, int]
    gpu: Gpu


def require_driver() -> Driver:
    """Return the driver and its GPU.

    Raises:
        GpuError: there is none; the text says why.
    """
    found = probe_driver()
    if isinstance(found, str):
        raise GpuError(found)
    return found


def probe_driver(library: str = "libcuda.so.1", needed: tuple[int, int] = NEEDED_CUDA) -> Driver | str:
    """Ask the driver for its version and its first GPU. This never raises.

    Args:
        library: name or path of the driver's library.
        needed: oldest CUDA version that is sufficient.

    Returns:
        the driver, or one sentence (without a full stop) that says why there is none.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        if "No such file" in str(error):
            return f"no NVIDIA driver here ({library} not found)"
        return f"the NVIDIA driver does not load ({error})"
    try:
        return _ask(cuda, needed)
    except _CallError as error:
        return str(error)
    except AttributeError as error:
        return f"the NVIDIA driver is not usable ({error})"


class _CallError(Exception):
    """A driver call failed; the text is the sentence for the user."""


def _ask(cuda: ctypes.CDLL, needed: tuple[int, int]) -> Driver | str:
    version = ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    found = (version.value // 1000, version.value % 1000 // 10)
    if found < needed:
        return (
            f"the NVIDIA driver is too old: it serves CUDA {_dotted(found)}, needed is {_dotted(needed)} or newer; "
            f"update the driver (on a Jetson: JetPack 6 or newer)"
        )
    _call(cuda, "cuInit", ctypes.c_uint(0))
    count = ctypes.c_int()
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        return f"the NVIDIA driver finds no GPU{_visible_devices()}"
    return Driver(found, _first_gpu(cuda))


def _first_gpu(cuda: ctypes.CDLL) -> Gpu:
    device = ctypes.c_int()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    memory = ctypes.c_size_t()
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor, sm_count = (_attribute(cuda, number, device) for number in (_MAJOR, _MINOR, _SM_COUNT))
    return Gpu(name.value.decode(errors="replace"), (major, minor), sm_count, memory.value)


def _attribute(cuda: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
    return value.value


def _call(cuda: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(cuda, function)(*arguments)
    if code:
        raise _CallError(
            f"the NVIDIA driver does not work: {function} gives {_error_name(cuda, code)}{_visible_devices()}"
        )


def _error_name(cuda: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    if (
        hasattr(cuda, "cuGetErrorName")
        and cuda.cuGetErrorName(ctypes.c_int(code), ctypes.byref(name)) == 0
        and name.value
    ):
        return f"{name.value.decode(errors='replace')} ({code})"
    return f"error {code}"


def _visible_devices() -> str:
    """A hint where the environment hides GPUs."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f" (CUDA_VISIBLE_DEVICES is '{chosen}')"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
