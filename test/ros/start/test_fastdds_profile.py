"""The profile for images is there without a launch file, and never in place of the user's."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from hrda_ros.start import fastdds_profile
from hrda_ros.start.fastdds_profile import PROFILE, SEGMENT_BYTES, choose_profile

NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastdds_profile, "_free_bytes", lambda memory: SEGMENT_BYTES)


@pytest.mark.parametrize(
    ("distribution", "name"),
    [("humble", OLD), ("jazzy", OLD), ("kilted", NEW), ("lyrical", NEW), ("rolling", NEW)],
)
def test_the_distribution_says_which_variable_is_read(distribution: str, name: str) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert choose_profile(environment) is None
    assert set(environment) == {"ROS_DISTRO", name}
    assert Path(environment[name]).is_file()
    assert Path(environment[name]).name == PROFILE.name


@pytest.mark.parametrize(("version", "name"), [("3.3.15", OLD), ("7.1.6", OLD), ("9.1.2", NEW), ("11.0.0", NEW)])
def test_without_a_sourced_distribution_the_version_of_rclpy_says_it(
    monkeypatch: pytest.MonkeyPatch, version: str, name: str
) -> None:
    monkeypatch.setattr(metadata, "version", lambda package: version)
    environment: dict[str, str] = {}
    assert choose_profile(environment) is None
    assert set(environment) == {name}


@pytest.mark.parametrize("chosen", [NEW, OLD, "FASTDDS_BUILTIN_TRANSPORTS", "HRDA_FASTDDS_PROFILE"])
@pytest.mark.parametrize("value", ["", "/my/profile.xml"])
def test_what_the_user_chose_stays(chosen: str, value: str) -> None:
    environment = {chosen: value}
    assert choose_profile(environment) is None
    assert environment == {chosen: value}


def test_another_middleware_gets_no_profile_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastdds_profile, "_free_bytes", lambda memory: 0)
    environment = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    assert choose_profile(environment) is None
    assert environment == {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    assert choose_profile({"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}) is not None


def test_a_container_with_little_shared_memory_is_told_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastdds_profile, "_free_bytes", lambda memory: 64 << 20)
    environment: dict[str, str] = {}
    sentence = choose_profile(environment)
    assert sentence is not None
    assert "'/dev/shm' has 64 MiB free" in sentence
    assert "--shm-size=512m" in sentence
    assert environment == {}


def test_a_profile_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fastdds_profile, "share_folders", lambda: iter([tmp_path]))
    environment: dict[str, str] = {}
    sentence = choose_profile(environment)
    assert sentence is not None
    assert "is not installed" in sentence
    assert environment == {}
