"""Answers of another node's services, for commands that join the ROS graph for a moment. Calls need rclpy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["answer_of", "spin_until"]

_AGAIN_S = 3.0


def answer_of(
    own: Any, kind: Any, name: str, values: Mapping[str, Any], found_s: float, answer_s: float, *, again: bool = False
) -> Any:
    """Call a service and return its response; None where it is not there or does not answer.

    Args:
        own: a node of this process, which nobody else spins.
        kind: the service's type, such as `rcl_interfaces.srv.GetParameters`.
        name: full name of the service.
        values: fields of the request.
        found_s, answer_s: how long the service is looked for, and how long its answer is waited for, seconds.
        again: ask again every three seconds, for what may be asked twice: a node loses the answer to a client that it
            has yet to find.
    """
    client = own.create_client(kind, name)
    try:
        if not spin_until(own, client.service_is_ready, found_s):
            return None
        answers: list[Any] = []
        deadline = time.monotonic() + answer_s
        while True:
            answers.append(client.call_async(kind.Request(**values)))
            left_s = deadline - time.monotonic()
            spin_until(own, lambda: any(map(_done, answers)), min(left_s, _AGAIN_S) if again else left_s)
            if found := next(filter(_done, answers), None):
                return found.result()
            if time.monotonic() >= deadline:
                return None
    finally:
        own.destroy_client(client)


def spin_until(own: Any, condition: Callable[[], bool], timeout_s: float) -> bool:
    """Handle what comes for a node until a condition holds; return whether it came to hold within `timeout_s`."""
    import rclpy

    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        rclpy.spin_once(own, timeout_sec=0.05)
    return True


def _done(answer: Any) -> bool:
    return bool(answer.done())
