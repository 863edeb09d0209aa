"""Whose time a node takes, and what a running node says of itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from hrda_ros.doctor.graph_checks import check_time, look


def test_simulated_time_that_nobody_publishes_fails_and_one_that_is_not_taken_warns() -> None:
    found = {
        (clocks, simulated): check_time(clocks, simulated, "/n").state
        for clocks in (0, 1)
        for simulated in (True, False, None)
    }
    assert found == {
        (0, True): "fail",
        (0, False): "ok",
        (0, None): "ok",
        (1, True): "ok",
        (1, False): "warn",
        (1, None): "ok",
    }


@pytest.fixture
def running(ros: Any) -> Iterator[str]:
    """A node with the parameters that are asked for, which waits for a simulated time."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    node = ros.create_node("examined", parameter_overrides=[Parameter("use_sim_time", value=True)])
    node.declare_parameter("model", "models/night")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield "/examined"
    executor.shutdown()
    thread.join()
    node.destroy_node()


def test_a_running_node_is_asked_for_its_model_and_its_time(
    ros: Any, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrda_ros.doctor.graph_checks._ANSWER_S", 60.0)
    own = ros.create_node("_asking")
    try:
        found = {finding.subject: finding for finding in look(own, running)}
    finally:
        own.destroy_node()
    assert found["graph"].state == "ok"
    assert found["node"].text == "'/examined' answers, model 'models/night'"
    assert found["time"].state == "fail"


def test_a_node_that_does_not_answer_fails(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrda_ros.doctor.graph_checks._ANSWER_S", 0.2)
    own = ros.create_node("_asking")
    try:
        *_, found = look(own, "/nobody")
    finally:
        own.destroy_node()
    assert (found.subject, found.state) == ("node", "fail")
