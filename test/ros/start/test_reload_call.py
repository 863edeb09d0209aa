"""The call of `~/reload` by `hrda night`: only of a node that serves the link, and only its own no is a refusal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrda_ros.start import reload_call


def test_without_ros_it_is_said_and_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert reload_call.main(["/segment_node", "current"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["refused"] is False
    assert answer["message"].startswith("not reloaded, there is no ROS here")


class Served:
    """A node with a parameter `model` and the service `~/reload`."""

    def __init__(self, rclpy: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter
        from std_srvs.srv import Trigger

        self._parameter = Parameter
        self.success, self.calls = True, 0
        self.node = rclpy.create_node("served")
        self.node.declare_parameter("model", "")
        self.node.create_service(Trigger, "~/reload", self._reload)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def _reload(self, request: Any, response: Any) -> Any:
        self.calls += 1
        response.success, response.message = self.success, "so it is"
        return response

    def serve(self, model: str) -> None:
        self.node.set_parameters([self._parameter("model", value=model)])


@pytest.fixture(scope="module")
def served(ros: Any) -> Iterator[Served]:
    served = Served(ros)
    yield served
    served.executor.shutdown()
    served.thread.join()
    served.node.destroy_node()


@pytest.fixture(scope="module")
def own(ros: Any) -> Iterator[Any]:
    node = ros.create_node("_caller")
    yield node
    node.destroy_node()


def test_a_node_that_serves_the_link_reloads_and_its_no_is_a_refusal(served: Served, own: Any, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("bundle")
    served.serve(str(link))
    assert reload_call.call(own, "/served", str(link)) == (False, "so it is")
    served.success = False
    served.serve(str(tmp_path / "bundle"))  # by what the link leads to
    assert reload_call.call(own, "/served", str(link)) == (True, "so it is")
    assert served.calls == 2


def test_a_node_that_serves_something_else_is_not_called_and_told_how_to_serve_the_link(
    served: Served, own: Any, tmp_path: Path
) -> None:
    before = served.calls
    for model in ("", str(tmp_path / "other")):
        served.serve(model)
        refused, message = reload_call.call(own, "/served", str(tmp_path / "current"))
        assert not refused
        assert f"ros2 param set /served model {tmp_path / 'current'}" in message
    assert served.calls == before


def test_a_node_that_is_not_there_has_refused_nothing(own: Any) -> None:
    refused, message = reload_call.call(own, "/nobody", "current", found_s=0.2)
    assert not refused
    assert "it loads the link when it starts" in message
