"""The process-wide memory settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_frame_sized_buffers_are_not_faulted_in_again() -> None:
    result = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 500, "1,500 pages a buffer otherwise"
