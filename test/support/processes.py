"""Start several processes of one program, as a user does with torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def torchrun(processes: int, arguments: Sequence[str]) -> str:
    """Run a script or `-m MODULE` on several processes of this machine; returns what it printed.

    Raises:
        AssertionError: it failed; the message is its output.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
