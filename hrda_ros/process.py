"""Runs the node as a process: starts it, runs it until it is told to stop, and reports the result in the exit code."""

from __future__ import annotations

import signal
import sys

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException

from hrda_core.errors import HrdaError
from hrda_core.memory import keep_big_buffers
from hrda_ros.parameters import read_settings
from hrda_ros.segment_node import SegmentNode

__all__ = ["run_node"]


def run_node(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Args:
        args: command line with ROS arguments; None = that of the process.

    Returns:
        exit code: 0 after SIGINT, SIGTERM or a shutdown of the context, 2 if the node cannot start as asked.
    """
    keep_big_buffers()
    try:
        return _run(args)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (HrdaError, ParameterException, NameValidationException) as error:
        print(f"segment_node: {_first_line(error)}", file=sys.stderr)
        return 2
    except Exception:
        if rclpy.ok():
            raise
        return 0  # a signal took the context away in the middle of something
    finally:
        rclpy.try_shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _QuietSignals:
    """Python's part in SIGINT and SIGTERM, which rclpy chains to: note them, raise nothing.

    rclpy shuts its context down on either, and the node ends by that. Python's own handler would raise
    KeyboardInterrupt at any line, also in the middle of rclpy's constructors.
    """

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.seen = True


def _run(args: list[str] | None) -> int:
    signals = _QuietSignals()
    try:
        rclpy.init(args=args)
    except Exception as error:  # rclpy has several classes for a bad command line, and other ones in each distribution
        raise HrdaError(f"ROS does not start: {_first_line(error)}") from error
    if signals.seen:
        return 0
    node = SegmentNode()
    try:
        if read_settings(node).autostart and not node.start():
            return 2 if rclpy.ok() else 0
        rclpy.spin(node)
        return 0
    finally:
        node.close()
        node.destroy_node()
