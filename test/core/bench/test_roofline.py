"""The bound of an op list on a device."""

from __future__ import annotations

import pytest

from hrda_core.bench.graph_ops import GraphOp
from hrda_core.bench.roofline import DEVICES, Device, find_device, measure_cpu, op_seconds, roofline
from hrda_core.errors import BackendError

TOY = Device("toy", {"fp16": 100.0, "int8": 200.0}, 10.0, "made up")


def op(flops: int, values: int, *, precision: str = "fp32", width: int = 4, other: int = 0) -> GraphOp:
    return GraphOp("n", "Conv", flops, precision, values, values * width, other, ("n",), ("n",))


def test_each_op_takes_the_longer_of_its_arithmetic_and_its_traffic() -> None:
    found = roofline([op(1000, 1, precision="fp16", width=2), op(0, 25, precision="fp16", width=2)], TOY)
    assert found.seconds == pytest.approx(1000 / 100 + 50 / 10)
    assert found.rate == pytest.approx(1 / 15)
    assert found.compute_share == pytest.approx(10 / 15)
    assert (found.flops, found.bytes) == (1000, 52)


def test_another_precision_changes_peak_and_width_but_not_integers() -> None:
    ops = [op(0, 10, other=5)]
    assert roofline(ops, TOY).seconds == pytest.approx(4.5)
    assert roofline(ops, TOY, "fp16").seconds == pytest.approx(2.5)
    assert roofline(ops, TOY, "int8").seconds == pytest.approx(1.5)
    assert op_seconds(op(1000, 0), TOY, "int8") == pytest.approx(5)


def test_the_better_of_two_measurements_counts() -> None:
    first, second = Device("cpu", {"fp32": 7.0}, 2.0, "a"), Device("cpu", {"fp32": 6.0}, 3.0, "b")
    assert first.at_best(second) == Device("cpu", {"fp32": 7.0}, 3.0, "a")


def test_a_precision_without_a_peak_counts_as_the_16_bit_one() -> None:
    assert TOY.rate("fp32") == 100
    assert Device("cpu", {"fp32": 7.0}, 1.0, "").rate("bf16") == 7
    with pytest.raises(BackendError, match="'fp64' is not known"):
        roofline([op(1, 1)], TOY, "fp64")


def test_the_table_of_devices_is_that_of_the_design() -> None:
    table = {device.name: (device.peak["fp16"], device.peak["int8"], device.bandwidth) for device in DEVICES}
    assert table["H200"] == (790e12, 1580e12, 4.3e12)
    assert table["RTX 4090"] == (165e12, 660e12, 1.008e12)
    assert table["AGX Orin 64GB"] == (42.6e12, 85.2e12, 204.8e9)
    assert table["Orin Nano Super"] == (16.7e12, 33.4e12, 102e9)
    assert all(device.source for device in DEVICES)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("Orin NVIDIA Jetson AGX Orin Developer Kit", "AGX Orin 64GB"),
        ("Orin NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "Orin Nano Super"),
        ("Orin NVIDIA Jetson Orin Nano Developer Kit", None),
        ("Orin", None),
        ("NVIDIA T4", None),
    ],
)
def test_a_gpu_is_found_by_its_name_and_that_of_its_board(name: str, found: str | None) -> None:
    device = find_device(name)
    assert (device.name if device else None) == found


def test_the_cpu_is_measured_in_plausible_figures() -> None:
    pytest.importorskip("onnxruntime")
    cpu = measure_cpu(1)
    assert 1e9 < cpu.peak["fp32"] < 1e12  # one core
    assert 1e8 < cpu.bandwidth < 1e12
    assert "1 thread:" in cpu.source
