"""ROS as `hrda doctor` sees it: what is sourced, what imports, which RMW; without ROS one line says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrda_core.errors import HrdaError
from hrda_ros.doctor import ros_checks
from hrda_ros.doctor.ros_checks import check_distribution, check_logs, check_packages, check_rmw, check_rviz

JAZZY = {"AMENT_PREFIX_PATH": "/home/me/ws/install/hrda_ros:/opt/ros/jazzy", "ROS_DISTRO": "jazzy"}


@pytest.fixture
def without_rclpy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No package of ROS can be found."""
    monkeypatch.setattr(ros_checks, "_there", lambda module: False)
    return monkeypatch


def test_a_distribution_is_named_and_two_of_them_fail() -> None:
    assert check_distribution(JAZZY).text == "jazzy"
    two = check_distribution({"AMENT_PREFIX_PATH": "/opt/ros/humble:/opt/ros/jazzy"})
    assert two.state == "fail"
    assert two.text.startswith("humble and jazzy are sourced")
    assert check_distribution({"ROS_DISTRO": "foxy"}).state == "warn"


def test_without_ros_one_warning_says_so_and_which_file_to_source(
    without_rclpy: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = check_distribution({}, tmp_path)
    assert nothing.state == "warn"
    assert "commands on recordings do" in nothing.text
    (tmp_path / "jazzy").mkdir()
    (tmp_path / "jazzy" / "setup.bash").touch()
    assert f"source {tmp_path}/jazzy/setup.bash" in check_distribution({}, tmp_path).advice
    assert check_packages({}) == []


def test_a_package_that_does_not_import_fails_with_the_nodes_own_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise HrdaError("the ROS package 'rclpy' does not import (no module); jazzy is sourced: run rosdep")

    monkeypatch.setattr(ros_checks, "check_requirements", refuse)
    (found,) = check_packages(JAZZY)
    assert (found.state, found.advice) == ("fail", "jazzy is sourced: run rosdep")


def test_an_rmw_that_is_not_the_one_asked_for_or_does_not_load_fails() -> None:
    def broken() -> str:
        raise RuntimeError("failed to load shared library\nlibrmw_x.so")

    wanted = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp", "ROS_DOMAIN_ID": "7"}
    assert check_rmw(lambda: "rmw_cyclonedds_cpp", wanted).text == "rmw_cyclonedds_cpp, by RMW_IMPLEMENTATION; domain 7"
    assert check_rmw(lambda: "rmw_fastrtps_cpp", wanted).state == "fail"
    found = check_rmw(broken, wanted)
    assert found.state == "fail"
    assert "ros-DISTRO-rmw-cyclonedds-cpp" in found.advice
    assert check_rmw(lambda: "rmw_fastrtps_cpp", {}).state == "ok"


def test_logs_that_cannot_be_written_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check_logs({"ROS_LOG_DIR": str(tmp_path / "logs")}).state == "ok"
    assert check_logs({"ROS_HOME": str(tmp_path)}).text == f"'{tmp_path / 'log'}' can be written"
    found = check_logs({"ROS_LOG_DIR": str(tmp_path / "file" / "logs")})
    assert (found.state, found.advice) == ("fail", "set ROS_LOG_DIR to a folder that can be written")


def test_rviz_is_for_people_and_its_absence_is_no_fault(tmp_path: Path) -> None:
    absent = check_rviz({"PATH": str(tmp_path), "ROS_DISTRO": "jazzy"})
    assert absent.state == "ok"
    assert "ros-jazzy-rviz2" in absent.text
    program = tmp_path / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(parents=True)
    program.touch()
    here = {"PATH": "", "AMENT_PREFIX_PATH": str(tmp_path)}
    assert "no screen" in check_rviz(here).text
    assert check_rviz(here | {"DISPLAY": ":0"}).text == str(tmp_path)
