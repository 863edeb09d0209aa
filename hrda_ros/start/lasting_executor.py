"""Calls the callbacks of a node, and goes on where one of them raises.

rclpy reads requests and messages in callbacks of its own, which raise on values that nobody should send: a parameter of
a type that there is not, a /clock before 1970. `rclpy.spin` hands that on, and one message would end the node.
"""

from __future__ import annotations

import traceback
from typing import Any

from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.logging import get_logger

from hrda_core.errors import reason_of

__all__ = ["LastingExecutor"]

_WARN_EVERY_S = 5.0


class LastingExecutor(SingleThreadedExecutor):
    """An executor for `rclpy.spin`. What a callback raises is one line in the log, with the traceback at level debug.

    Args:
        logger_name: name of the logger.
    """

    def __init__(self, logger_name: str) -> None:
        super().__init__()
        self._logger = get_logger(logger_name)

    def spin_once(self, timeout_sec: Any = None) -> None:
        """As rclpy's, but an exception of the callback is logged, every few seconds at most."""
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        handler()
        error = handler.exception()
        if error is None:
            return
        # Where a message could not even be taken, rclpy keeps its entity and what shares its callback group for busy:
        # a node that hears nothing any more should rather end, so that it is started again.
        if not self.context.ok() or not isinstance(error, Exception) or getattr(entity, "_executor_event", False):
            raise error
        self._logger.debug("".join(traceback.format_exception(error)))
        self._logger.error(
            f"a request or message that came in cannot be handled and is left out: {reason_of(error)}; look at who "
            f"sends it",
            throttle_duration_sec=_WARN_EVERY_S,
        )
