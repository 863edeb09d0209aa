"""The bond with a lifecycle manager, such as that of Nav2: it notices when the process of the node is gone.

It needs `bondpy`, which not every distribution has. Heartbeats come from a thread of bondpy, so a back end that hangs
does not break the bond; diagnostics tell of that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rclpy.lifecycle import LifecycleNode

__all__ = ["ManagerBond"]

_TOPIC = "bond"
_PERIOD_S, _TIMEOUT_S = 0.1, 4.0  # as the nodes of Nav2 have them


class ManagerBond:
    """A bond from activate to deactivate, under the name of the node.

    Args:
        node: node that a manager takes through its lifecycle.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._bond: Any = None

    def form(self) -> None:
        """Begin to send heartbeats. Without bondpy the log says what the manager needs instead."""
        try:
            from bondpy.bondpy import Bond
        except ImportError:
            self._node.get_logger().info(
                "bondpy is not installed, so there is no bond with the lifecycle manager; give the manager "
                "bond_timeout: 0.0, or it takes the node down"
            )
            return
        self._bond = Bond(_TOPIC, self._node.get_name(), self._node, on_broken=self._on_broken)
        self._bond.heartbeat_period, self._bond.heartbeat_timeout = _PERIOD_S, _TIMEOUT_S
        self._bond.start()

    def end(self) -> None:
        """Tell the manager that the node leaves as it was told to."""
        bond, self._bond = self._bond, None
        if bond is not None:
            with suppress(Exception):  # a signal has taken ROS down already
                bond.shutdown()

    def _on_broken(self) -> None:
        if self._bond is not None and self._node.context.ok():
            self._node.get_logger().warning("the bond with the lifecycle manager is broken: it is gone, or never came")
