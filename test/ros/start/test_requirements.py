"""What the node needs before it starts: where ROS does not import, one sentence and exit code 2."""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import pytest

from hrda_ros.__main__ import main


@pytest.fixture
def without_rclpy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """rclpy as if it were not installed."""
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr("hrda_ros.__main__.StopSignals", MagicMock())
    return monkeypatch


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr().err
    assert told.startswith("segment_node: the ROS package 'rclpy' does not import")
    assert told.count("\n") == 1
    return told


def test_no_sourced_distribution(without_rclpy: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "source /opt/ros/DISTRO/setup.bash" in sentence(capsys)


def test_two_sourced_distributions(without_rclpy: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without_rclpy.setenv("AMENT_PREFIX_PATH", "/home/me/ws/install/hrda_ros:/opt/ros/jazzy:/opt/ros/humble")
    assert main([]) == 2
    assert "humble and jazzy are sourced in this shell" in sentence(capsys)


def test_a_distribution_without_the_package(
    without_rclpy: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_rclpy.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    assert main([]) == 2
    assert "jazzy is sourced: run 'rosdep install" in sentence(capsys)
