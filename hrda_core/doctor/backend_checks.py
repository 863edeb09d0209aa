"""Checks of what runs a network: ONNX Runtime, OpenVINO, TensorRT, and the GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrda_core.doctor.python_checks import run_python
from hrda_core.errors import how_to_install
from hrda_core.findings import Finding, fail, ok, warn
from hrda_core.machine import versions
from hrda_core.nvidia_driver import Driver

__all__ = ["check_gpu", "check_onnx_runtime", "check_openvino", "check_tensorrt", "nvidia_devices"]

_ONNX_RUNTIME = """
import onnxruntime
from hrda_core.inference.backends.onnx_backend import reads
print(onnxruntime.__version__, reads(onnxruntime.__version__), *onnxruntime.get_available_providers())
"""
_TENSORRT = """
import tensorrt
from hrda_core.inference.tensorrt.cuda import require_cuda
require_cuda()
print(tensorrt.__version__)
"""
_INSTALL_TENSORRT = "install it with: pip install -e '.[tensorrt]' in the source folder of hrda_ros"
_OPENVINO = (
    "from hrda_core.inference.openvino.reading import require_openvino; "
    "print(', '.join(require_openvino().Core().available_devices))"
)
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor, and the first digits of the class, on the PCI bus


def check_onnx_runtime(
    driver: Driver | str, run: Callable[[str], tuple[int, str]] = run_python, package: str | None = None
) -> Finding:
    """Import ONNX Runtime and ask which graphs it reads, and whether it runs on a GPU that is there.

    Args:
        driver: see `hrda_core.nvidia_driver.probe_driver`.
        package: the installed version; None = ask.
    """
    installed = package if package is not None else _version("onnxruntime", "onnxruntime-gpu")
    code, line = run(_ONNX_RUNTIME)
    if code and not installed:
        return fail("ONNX Runtime", "not installed, and the node runs by it on every CPU", how_to_install("runtime"))
    if code:
        return fail(
            "ONNX Runtime",
            f"version {installed} does not import ({line})",
            "remove it ('python3 -m pip uninstall onnxruntime onnxruntime-gpu') and " + how_to_install("runtime"),
        )
    version, opset, *providers = line.split()
    text = f"version {version}, reads operator sets up to {opset}"
    if not isinstance(driver, Driver):
        return ok("ONNX Runtime", text)
    return ok("ONNX Runtime", text + (", on the GPU too" if "CUDAExecutionProvider" in providers else ", on the CPU"))


def check_openvino(run: Callable[[str], tuple[int, str]] = run_python, package: str | None = None) -> Finding | None:
    """Import OpenVINO and list its devices; None where it is not installed, since nothing needs it.

    Args:
        package: the installed version, empty = none; None = ask.
    """
    version = _version("openvino") if package is None else package
    if not version:
        return None
    code, line = run(_OPENVINO)
    if not code:
        return ok("OpenVINO", f"version {version}, devices {line}")
    text = f"version {version} does not import ({line}), so the back end auto leaves it out"
    return warn("OpenVINO", text, "install it again, or remove it: python3 -m pip uninstall openvino")


def check_tensorrt(driver: Driver | str, run: Callable[[str], tuple[int, str]] = run_python) -> Finding:
    """Import TensorRT and cuda-python where there is a GPU; without a driver TensorRT may end the process."""
    version = _version("tensorrt")
    if not isinstance(driver, Driver):
        there = f"version {version} is installed, and not used without a GPU" if version else "not installed"
        return ok("TensorRT", there)
    code, line = run(_TENSORRT)
    if not code:
        return ok("TensorRT", f"version {line}")
    text = f"does not import ({line}): the node runs the GPU by ONNX Runtime, or not at all"
    return warn("TensorRT", text, "on a Jetson it comes with JetPack (docs/robot/jetson.md), else " + _INSTALL_TENSORRT)


def check_gpu(driver: Driver | str, devices: int | None = None) -> Finding:
    """Look for an NVIDIA GPU and a driver that serves it.

    Args:
        driver: see `hrda_core.nvidia_driver.probe_driver`.
        devices: number of NVIDIA devices on the bus or board; None = look.
    """
    if isinstance(driver, Driver):
        gpu, cuda = driver.gpu, ".".join(map(str, driver.cuda_version))
        text = f"{gpu.name}, {gpu.memory_bytes >> 20} MiB, its driver serves CUDA {cuda}"
        return ok("GPU", text)
    if (nvidia_devices() if devices is None else devices) == 0:
        return ok("GPU", "no NVIDIA GPU: networks run on the CPU")
    advice = "install NVIDIA's driver (in a container: start it with --gpus all, on a Jetson with --runtime nvidia)"
    return warn("GPU", f"an NVIDIA GPU is there and cannot be used: {driver}", advice)


def nvidia_devices(system: Path = Path("/sys"), proc: Path = Path("/proc")) -> int:
    """Return how many NVIDIA GPUs the kernel lists on the PCI bus, and one more on a Jetson."""
    vendors = system.glob("bus/pci/devices/*/vendor")
    count = sum(
        _read(vendor) == _NVIDIA and _read(vendor.with_name("class")).startswith(_DISPLAY) for vendor in vendors
    )
    return count + ("nvidia,tegra" in _read(proc / "device-tree" / "compatible"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # not there, or a device that has just gone
        return ""


def _version(*packages: str) -> str:
    """Version of the first package that is installed; empty where none is."""
    installed = versions()
    return next((installed[package] for package in packages if package in installed), "")
