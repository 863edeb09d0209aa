"""A turn of `hrda night` is killed before each change that it makes to the disk, and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("HRDA_NIGHT_TESTS"), reason="minutes on a busy machine: HRDA_NIGHT_TESTS=1 runs it"
    ),
]


def test_a_kill_before_any_change_leaves_a_whole_bundle_linked_and_the_next_call_ends_as_if_it_had_not_been(
    repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    support = repository / "test" / "support"
    path = os.pathsep.join([str(repository), str(support), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(support / "killed_writes.py"), "night", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["broken"] == []
    assert result["kills"] >= 40
    assert result["found"] == sorted(result["found"], reverse=True)
    assert set(result["found"]) == {"old", "new"}
