"""The probe of the NVIDIA driver. The libraries here are compiled for the test and answer as broken drivers do; none
of them stands for a GPU in any other test."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hrda_core.errors import GpuError
from hrda_core.nvidia_driver import Driver, Gpu, probe_driver, require_driver

LIBRARY = """
#include <string.h>
#include <stddef.h>
int cuDriverGetVersion(int* v) { *v = VERSION; return 0; }
int cuInit(unsigned f) { return INIT; }
int cuGetErrorName(int e, const char** n) { *n = e == 100 ? "CUDA_ERROR_NO_DEVICE" : 0; return *n ? 0 : 1; }
int cuDeviceGetCount(int* n) { *n = COUNT; return 0; }
int cuDeviceGet(int* d, int i) { *d = i; return 0; }
int cuDeviceGetName(char* n, int l, int d) { strncpy(n, "Orin", l); return 0; }
int cuDeviceTotalMem_v2(size_t* b, int d) { *b = 30000000000; return 0; }
int cuDeviceGetAttribute(int* v, int a, int d) { *v = a == 16 ? 16 : a == 75 ? 8 : a == 76 ? 7 : -1; return 0; }
"""


def _compile(folder: Path, code: str, **values: int) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here to make a library that answers as a driver")
    source = folder / "driver.c"
    source.write_text(code)
    library = folder / "libdriver.so"
    defines = [f"-D{name}={value}" for name, value in values.items()]
    subprocess.run(["gcc", "-shared", "-fPIC", *defines, "-o", library, source], check=True, timeout=240)
    return str(library)


def test_without_a_driver_the_sentence_names_the_library() -> None:
    found = probe_driver("libcuda_of_nobody.so.1")
    assert found == "no NVIDIA driver here (libcuda_of_nobody.so.1 not found)"


def test_this_machine_has_a_driver_or_says_why_not() -> None:
    found = probe_driver()
    if isinstance(found, Driver):
        assert found.gpu.sm_count > 0
        assert found.gpu.memory_bytes > 0
    else:
        assert "NVIDIA driver" in found
        with pytest.raises(GpuError, match="NVIDIA driver"):
            require_driver()


def test_a_file_that_is_no_library_is_told(tmp_path: Path) -> None:
    path = tmp_path / "libcuda.so.1"
    path.write_text("no library")
    assert "does not load" in str(probe_driver(str(path)))


def test_a_library_without_the_calls_of_a_driver_is_told(tmp_path: Path) -> None:
    found = probe_driver(_compile(tmp_path, "int other(void) { return 0; }"))
    assert "not usable" in str(found)


def test_an_old_driver_is_told_with_both_versions(tmp_path: Path) -> None:
    found = probe_driver(_compile(tmp_path, LIBRARY, VERSION=11040, INIT=0, COUNT=1))
    assert "too old: it serves CUDA 11.4, needed is 12.0" in str(found)


@pytest.mark.parametrize(
    ("code", "name"), [(100, r"CUDA_ERROR_NO_DEVICE \(100\)"), (999, "error 999")], ids=["known", "unknown"]
)
def test_a_driver_that_does_not_start_is_told_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    library = _compile(tmp_path, LIBRARY, VERSION=12060, INIT=code, COUNT=1)
    assert re.search(f"cuInit gives {name}.*CUDA_VISIBLE_DEVICES is '7'", str(probe_driver(library)))


def test_a_driver_without_a_gpu_is_told(tmp_path: Path) -> None:
    found = probe_driver(_compile(tmp_path, LIBRARY, VERSION=12060, INIT=0, COUNT=0))
    assert "finds no GPU" in str(found)


def test_what_the_driver_says_is_read_whole(tmp_path: Path) -> None:
    found = probe_driver(_compile(tmp_path, LIBRARY, VERSION=12060, INIT=0, COUNT=2))
    assert found == Driver((12, 6), Gpu("Orin", (8, 7), 16, 30_000_000_000))
