"""Facts about machine, commit and memory that stand in a record."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrda_core import machine as bench_machine
from hrda_core.machine import commit, machine, versions


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_machine, "probe_driver", lambda: "no NVIDIA driver")
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert len(facts["load_average"]) == 3
    assert "gpu" not in facts


def test_versions_are_those_of_what_is_installed() -> None:
    assert versions()["numpy"] == np.__version__
    assert "no-such-package" not in versions()


def test_the_commit_is_that_of_the_tree_and_says_when_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_machine, "_ROOT", tmp_path)
    assert commit() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    clean = commit()
    assert len(clean) == 12
    (tmp_path / "file").write_text("2")
    assert commit() == f"{clean}+changes"


PEAKS = """
import numpy as np
from hrda_core.machine import peak_memory_bytes, reset_peak_memory

print(reset_peak_memory())
print(peak_memory_bytes())
block = np.ones(64 << 20, np.uint8)
print(peak_memory_bytes())
del block
reset_peak_memory()
print(peak_memory_bytes())
"""


def test_the_peak_of_memory_counts_from_its_reset() -> None:
    # In a process of its own: freed memory that earlier tests left in this one would be taken without a new peak.
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    counted, *peaks = done.stdout.split()
    if counted == "False":
        pytest.skip("this kernel does not reset the peak")
    before, peak, after = map(int, peaks)
    assert peak >= before + 0.9 * (64 << 20)
    assert after < peak


def test_power_is_told_in_the_words_of_the_tool_that_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench_machine._power() == "unknown"
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN'\necho 0\n")
    tool.chmod(0o755)
    assert bench_machine._power() == "NV Power Mode: MAXN; 0"
