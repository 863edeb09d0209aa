"""Back ends and GPU: what is missing is told apart from what is broken and from what nobody needs."""

from __future__ import annotations

from pathlib import Path

from hrda_core.doctor.backend_checks import (
    check_gpu,
    check_onnx_runtime,
    check_openvino,
    check_tensorrt,
    nvidia_devices,
)
from hrda_core.inference.backends.onnx_backend import reads
from hrda_core.nvidia_driver import Driver, Gpu

NONE = "no NVIDIA driver here (libcuda.so.1 not found)"
ORIN = Driver((12, 6), Gpu("Orin", (8, 7), 8, 7620 << 20))


def test_an_onnx_runtime_that_is_absent_or_broken_fails_each_with_its_own_advice() -> None:
    absent = check_onnx_runtime(NONE, lambda code: (1, "No module named 'onnxruntime'"), "")
    broken = check_onnx_runtime(NONE, lambda code: (-11, "undefined symbol"), "1.17.0")
    assert (absent.state, broken.state) == ("fail", "fail")
    assert "not installed" in absent.text
    assert broken.text == "version 1.17.0 does not import (undefined symbol)"
    assert "remove it" in broken.advice


def test_the_operator_set_is_that_of_the_release() -> None:
    assert [reads(version) for version in ("1.11.0", "1.17.3", "1.18.0", "1.32.0")] == [0, 20, 21, 23]
    found = check_onnx_runtime(ORIN, lambda code: (0, "1.23.0 23 CUDAExecutionProvider CPUExecutionProvider"), "1.23.0")
    assert found.text == "version 1.23.0, reads operator sets up to 23, on the GPU too"


def test_a_gpu_without_its_driver_is_told_and_a_machine_without_a_gpu_is_well() -> None:
    assert check_gpu(NONE, 0).state == "ok"
    assert check_gpu(NONE, 1).state == "warn"
    assert check_gpu(ORIN, 0).text.startswith("Orin, 7620 MiB, its driver serves CUDA 12.6")


def test_devices_are_counted_on_the_bus_and_on_a_jetson(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate((("0x10de", "0x030000"), ("0x10de", "0x040300"), ("0x8086", "0x030000"))):
        device = tmp_path / "sys" / "bus" / "pci" / "devices" / str(number)
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert nvidia_devices(tmp_path / "sys", tmp_path) == 1  # not the sound of the card, not the other maker's
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "compatible").write_bytes(b"nvidia,p3768\0nvidia,tegra234\0")
    assert nvidia_devices(tmp_path, tmp_path) == 1


def test_tensorrt_is_never_imported_without_a_driver() -> None:
    def imported(code: str) -> tuple[int, str]:
        raise AssertionError("TensorRT may end a process that has no driver")

    assert check_tensorrt(NONE, imported).state == "ok"
    assert check_tensorrt(ORIN, lambda code: (0, "10.3.0")).text == "version 10.3.0"
    missing = check_tensorrt(ORIN, lambda code: (1, "No module named 'tensorrt'"))
    assert missing.state == "warn"
    assert "JetPack" in missing.advice


def test_openvino_is_told_where_it_is_installed_only_and_warned_of_where_it_is_broken() -> None:
    assert check_openvino(lambda code: (1, "not asked"), "") is None
    there = check_openvino(lambda code: (0, "CPU, GPU"), "2025.3.0")
    broken = check_openvino(lambda code: (1, "no module"), "2025.3.0")
    assert there is not None
    assert there.text == "version 2025.3.0, devices CPU, GPU"
    assert broken is not None
    assert broken.state == "warn"
