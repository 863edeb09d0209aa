"""Folders, links, devices, disk and clock: what cannot be written or opened is named with what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrda_core.doctor import machine_checks
from hrda_core.doctor.machine_checks import check_clock, check_devices, check_disk, check_folders, check_link


@pytest.fixture
def without_rights(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Paths that this user may not open or write, whoever runs the tests."""
    refused: set[Path] = set()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in refused and real(path, mode))
    return refused


def test_folders_that_can_be_made_are_well_and_others_name_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_rights: set[Path]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "file" / "models"))
    cache, models = check_folders()
    assert (cache.state, models.state) == ("ok", "warn")
    assert "HRDA_MODELS" in models.advice
    without_rights.add(tmp_path)
    assert [found.state for found in check_folders()] == ["warn", "warn"]


def test_a_link_that_cannot_be_moved_or_leads_nowhere_is_told(tmp_path: Path, without_rights: set[Path]) -> None:
    (tmp_path / "bundle").mkdir()
    link = tmp_path / "current"
    link.symlink_to("bundle")
    found = check_link(link)
    assert found is not None
    assert found.state == "ok"
    without_rights.add(tmp_path)
    found = check_link(link)
    assert found is not None
    assert found.state == "warn"
    (tmp_path / "bundle").rmdir()
    found = check_link(link)
    assert found is not None
    assert found.state == "fail"
    assert check_link(tmp_path) is None


def test_a_device_that_is_closed_to_this_user_names_its_group(tmp_path: Path, without_rights: set[Path]) -> None:
    for name in ("video0", "nvmap"):
        (tmp_path / name).touch()
    assert check_devices(tmp_path) == []
    without_rights.add(tmp_path / "video0")
    (found,) = check_devices(tmp_path)
    assert "video0' cannot be opened" in found.text
    assert "usermod -aG" in found.advice


def test_little_disk_warns_and_hardly_any_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for free in (3 << 30, 1 << 30, 1 << 20):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        states += [found.state for found in check_disk([tmp_path, tmp_path / "not_yet"])]
    assert states == ["ok", "warn", "fail"]


def test_a_clock_that_was_never_set_fails_and_one_that_nobody_keeps_warns() -> None:
    assert check_clock(0.0, True).state == "fail"
    assert check_clock(1_800_000_000.0, False).state == "warn"
    assert check_clock(1_800_000_000.0, True).state == "ok"
    assert isinstance(machine_checks._synchronised(), bool)
