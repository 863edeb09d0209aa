"""The service `~/enable`: switches the work on frames off and on, while the node stays active and keeps its model."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import SetBool

__all__ = ["EnableService"]


class EnableService:
    """The service `~/enable` (`std_srvs/srv/SetBool`) of a node.

    The switch is on at first and stays as it was set until the next call, whatever transitions come between.

    Args:
        node: node that owns the service.

    Attributes:
        on: whether frames are worked on; safe to read from any thread.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self.on = True
        self._service = node.create_service(SetBool, "~/enable", self._serve)

    def _serve(self, request: Any, response: Any) -> Any:
        before, self.on = self.on, bool(request.data)
        state = "on" if self.on else "off: frames are dropped before they are decoded"
        response.success = True
        response.message = f"segmentation {'is' if before != self.on else 'was already'} switched {state}"
        if before != self.on:
            self._node.get_logger().info(response.message)
        return response
