"""The process-wide memory settings."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hrda_core import memory
from hrda_core.memory import free_memory, within_free_memory

_CODE = """
import resource
import numpy as np
from hrda_core.memory import keep_big_buffers
assert keep_big_buffers()
np.ones(6 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(6 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


_POOLS = """
import ctypes
import tempfile
import threading
import numpy as np
from hrda_core.memory import give_back_memory, keep_big_buffers, share_one_pool
if {one}:
    assert share_one_pool()
keep_big_buffers()

def resident_mb():
    status = open("/proc/self/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

def pools():
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile("r") as report:
        stream = ctypes.c_void_p(libc.fopen(report.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return report.read().count("<heap nr=")

def load(all_load):
    all_load.wait()  # a pool is taken by a thread that finds the others in use
    kept = [np.ones(1 << 20, np.uint8) for _ in range(20)]
    all_load.wait()

before, pools_before = resident_mb(), pools()
barrier = threading.Barrier(4)
threads = [threading.Thread(target=load, args=(barrier,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
give_back_memory()
print(resident_mb() - before, pools() - pools_before)
"""


def _left(one: bool) -> tuple[float, int]:
    """Megabytes that four threads leave behind, and pools that they have made."""
    code = _POOLS.format(one=one)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes, pools = done.stdout.split()
    return float(megabytes), int(pools)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_l8_threads_share_one_pool_and_what_they_have_freed_goes_back_to_the_kernel() -> None:
    megabytes, pools = _left(one=True)
    assert pools == 0
    assert megabytes < 10  # of 80; what several pools keep depends on the order in which the threads end
    assert _left(one=False)[1] > 0, "otherwise glibc needs no setting any more"


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_frame_sized_buffers_are_not_faulted_in_again() -> None:
    result = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 500, "1,500 pages a buffer otherwise"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's /proc is read")
def test_free_memory_is_less_than_all_of_it() -> None:
    free = free_memory()

    assert free is not None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    swap = next(int(line.split()[1]) for line in lines if line.startswith("SwapTotal")) * 1024
    assert 0 < free < pages + swap


def test_l8_what_is_not_free_is_not_to_be_had_as_long_as_somebody_is_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 30)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_free_memory():
        bytes(100 << 20)
        with pytest.raises(MemoryError), within_free_memory():
            bytes(2 << 30)
        with pytest.raises(MemoryError):  # one is still within
            bytes(2 << 30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    bytes(2 << 30)


def test_l8_where_the_kernel_does_not_tell_what_is_free_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_free_memory():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize(("free_mb", "allowed_mb"), [(0, 256), (60, 316), (2048, 2304), (4096, 4096), (16384, 14336)])
def test_l8_where_little_is_free_the_limit_lies_above_it_and_where_there_is_plenty_below(
    free_mb: int, allowed_mb: int
) -> None:
    assert memory._allowed(free_mb << 20) == allowed_mb << 20
