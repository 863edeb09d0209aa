"""Runs a node as a process: starts it, runs it until it is told to stop, and reports the result in the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException

from hrda_core.errors import HrdaError, reason_of, shown
from hrda_core.memory import keep_big_buffers
from hrda_ros.start.fastdds_profile import choose_profile
from hrda_ros.start.lasting_executor import LastingExecutor
from hrda_ros.start.stop_signals import StopSignals, end_if_hanging
from hrda_ros.start.streams import tell
from hrda_ros.start.supervisor import Supervisor

__all__ = ["run_node"]


def run_node(
    name: str,
    make_node: Callable[[], Any],
    start: Callable[[Any], bool] = lambda node: True,
    args: list[str] | None = None,
    *,
    signals: StopSignals,
) -> int:
    """Run a node until it is interrupted.

    Args:
        name: name of the program, for messages.
        make_node: makes the node, which has a method `close` beside those of rclpy.
        start: called before the node runs; False = it cannot, and the node has said why.
        args: command line with ROS arguments; None = that of the process.
        signals: what notes SIGINT and SIGTERM since the start of the process.

    Returns:
        exit code: 0 after SIGINT, SIGTERM or a shutdown of the context, 2 if the node cannot start as asked. A process
            in which a back end hangs ends here, with that code.
    """
    keep_big_buffers()
    code = _exit_code(name, make_node, start, args, signals)
    end_if_hanging(code)
    return code


def _exit_code(
    name: str,
    make_node: Callable[[], Any],
    start: Callable[[Any], bool],
    args: list[str] | None,
    signals: StopSignals,
) -> int:
    try:
        _refuse_other_arguments(name, args)
        return _run(make_node, start, args, signals)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (HrdaError, ParameterException, NameValidationException) as error:
        tell(f"{name}: {_first_line(error)}")
        return 2
    except Exception:
        if rclpy.ok():
            raise
        return 0  # a signal took the context away in the middle of something
    finally:
        rclpy.try_shutdown()


def _refuse_other_arguments(name: str, args: list[str] | None) -> None:
    """Refuse what does not stand behind `--ros-args`: ROS passes over it, and a parameter keeps its default."""
    if args is None and (other := _first_other(sys.argv[1:])) is not None:
        raise HrdaError(
            f"the argument '{shown(other)}' has no meaning here; names and parameters stand behind --ros-args: "
            f"{name} --ros-args -r TOPIC:=/other/topic -p PARAMETER:=value"
        )


def _first_other(arguments: list[str]) -> str | None:
    """The first argument outside of `--ros-args ... --`. (rclpy's own function reads parameter files on the way.)"""
    of_ros = False
    for argument in arguments:
        if argument == "--ros-args":
            of_ros = True
        elif of_ros and argument == "--":
            of_ros = False
        elif not of_ros:
            return argument
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _about_the_log(error: Exception) -> str:
    """What helps where ROS cannot write its log: HOME is not set, or is read-only."""
    told = str(error).lower()
    return "; set ROS_LOG_DIR to a folder that can be written" if "logging" in told or "home" in told else ""


def _made(make_node: Callable[[], Any]) -> Any:
    try:
        return make_node()
    except (HrdaError, ParameterException, NameValidationException, ExternalShutdownException):
        raise
    except Exception as error:  # of the middleware, which has classes of its own for names, types and QoS
        if not rclpy.ok():  # a signal
            raise
        # Fast DDS has no class for the limits of a process.
        if isinstance(error, OSError | MemoryError) or "too many open files" in str(error).lower():
            raise HrdaError(
                f"the node cannot be made: {reason_of(error)}; end other programs, or raise the limit of the process, "
                f"such as by 'ulimit -n 1024'"
            ) from error
        raise HrdaError(
            f"the node cannot be made: {reason_of(error)}; look at its name and namespace, remapped topics and "
            f"services, and qos_overrides"
        ) from error


def _run(
    make_node: Callable[[], Any], start: Callable[[Any], bool], args: list[str] | None, signals: StopSignals
) -> int:
    problem = choose_profile()
    try:
        rclpy.init(args=args)
    except Exception as error:  # rclpy has several classes for a bad command line, and other ones in each distribution
        raise HrdaError(f"ROS does not start: {_first_line(error)}{_about_the_log(error)}") from error
    if signals.seen:
        return 0
    node, supervisor = _made(make_node), Supervisor()
    if problem:
        node.get_logger().warning(problem)
    try:
        if not start(node):
            return 2 if rclpy.ok() else 0
        supervisor.ready()
        rclpy.spin(node, LastingExecutor(node.get_logger().name))
        return 0
    finally:
        supervisor.ends()
        node.close()
        node.destroy_node()
