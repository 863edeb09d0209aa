"""Shared memory and socket buffers: each only for the RMW that depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrda_ros.doctor.transport import check_kernel_buffers, check_shared_memory
from hrda_ros.start import fastdds_profile
from hrda_ros.start.fastdds_profile import SEGMENT_BYTES

FAST, CYCLONE = "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp"


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastdds_profile, "_free_bytes", lambda memory: SEGMENT_BYTES)


def test_the_profile_that_the_node_takes_is_named_for_the_camera_driver(tmp_path: Path) -> None:
    environment = {"ROS_DISTRO": "jazzy"}
    (found,) = check_shared_memory(FAST, environment, tmp_path)
    assert found.state == "ok"
    assert "a camera driver needs FASTRTPS_DEFAULT_PROFILES_FILE=" in found.text
    assert environment == {"ROS_DISTRO": "jazzy"}
    assert check_shared_memory(CYCLONE, environment, tmp_path) == []


def test_too_little_shared_memory_warns_with_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastdds_profile, "_free_bytes", lambda memory: 1 << 20)
    (found,) = check_shared_memory(FAST, {}, tmp_path)
    assert found.state == "warn"
    assert "--shm-size=512m" in found.advice


def test_a_profile_of_the_user_must_be_a_file_and_own_transports_are_left_alone(tmp_path: Path) -> None:
    name = "FASTDDS_DEFAULT_PROFILES_FILE"
    environment = {"ROS_DISTRO": "kilted", name: str(tmp_path / "mine.xml")}
    (found,) = check_shared_memory(FAST, environment, tmp_path)
    assert (found.state, found.advice) == ("fail", f"mend {name}, or unset it")
    (tmp_path / "mine.xml").touch()
    assert [found.state for found in check_shared_memory(FAST, environment, tmp_path)] == ["ok"]
    (own,) = check_shared_memory(FAST, {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, tmp_path)
    assert own.state == "ok"


def test_segments_of_killed_processes_are_told_when_there_are_many(tmp_path: Path) -> None:
    for number in range(70):
        (tmp_path / f"fastrtps_{number}").touch()
    *_, found = check_shared_memory(FAST, {}, tmp_path)
    assert "70 files of Fast DDS" in found.text
    assert "fastdds shm clean" in found.advice


def settings(folder: Path, limit: int) -> Path:
    (folder / "net" / "core").mkdir(parents=True, exist_ok=True)
    (folder / "net" / "core" / "rmem_max").write_text(f"{limit}\n")
    return folder


def test_socket_buffers_matter_for_the_rmw_that_sends_images_by_udp(tmp_path: Path) -> None:
    proc = settings(tmp_path, 212992)
    (cyclone,) = check_kernel_buffers(CYCLONE, proc)
    assert cyclone.state == "warn"
    assert "net.core.rmem_max=2147483647" in cyclone.advice
    (connext,) = check_kernel_buffers("rmw_connextdds", proc)
    assert "net.core.rmem_max=4194304" in connext.advice
    assert [found.state for found in check_kernel_buffers(FAST, proc)] == ["ok"]
    assert check_kernel_buffers("rmw_zenoh_cpp", proc) == []
    assert [found.state for found in check_kernel_buffers(CYCLONE, settings(tmp_path, 1 << 31))] == ["ok"]
    assert check_kernel_buffers(CYCLONE, tmp_path / "none") == []
