"""docs/recordings/adapt_on_your_bags.md runs as written: its `sh` blocks in turn, in a folder like a fresh clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hrda_core.inference import Bundle

PAGE = "docs/recordings/adapt_on_your_bags.md"
LINKED = ("demo", "models", "docs", "hrda_core", "hrda_ros", "training", "config", "setup.py", "constraints.txt")


def commands(text: str) -> list[str]:
    """The `sh` blocks; others are for machines with ROS or data."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_tutorial_has_its_steps(repository: Path) -> None:
    found = "\n".join(commands((repository / PAGE).read_text(encoding="utf-8")))
    for step in ("make_drive.py", "hrda export", "hrda bag info", "hrda adapt", "hrda predict", "run_demo.py"):
        assert step in found


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_tutorial_ends_with_an_adopted_model_and_the_node_showing_it(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    for name in LINKED:
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "tools").mkdir()
    # The environment is the one that runs this test.
    (tmp_path / "tools" / "in_venv").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "tools" / "in_venv").chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    blocks = commands((repository / PAGE).read_text(encoding="utf-8"))
    script = "set -e\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    made = tmp_path / "runs" / "tutorial"
    adopted = Bundle.open(made / "after")
    assert adopted.manifest["provenance"]["adaptation"]["choice"] == "instant"
    assert (made / "after" / "report.html").is_file()
    assert (made / "dusk.html").is_file()
    assert (made / "masks" / "metadata.yaml").is_file()
    assert (made / "node" / "contact_sheet.png").is_file()
