"""`python -m hrda_ros.start.reload_call NODE MODEL`: lets a running node load what its parameter `model` leads to.

`hrda night` calls it after it has moved the link MODEL. It prints one JSON object: `refused`, whether the node was
asked and keeps its old model, and `message`. A node that is not there has refused nothing: it loads the link when it
starts. Exit code 0, whatever the node says.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from hrda_core.errors import HrdaError
from hrda_ros.start.requirements import check_requirements
from hrda_ros.start.service_answer import answer_of

__all__ = ["call", "main"]

FOUND_S, ANSWER_S = 10.0, 1800.0
"""Until the node is found, and until it has loaded the model, which can include the build of an engine; seconds."""


def main(argv: list[str] | None = None) -> int:
    """Call, and print what came of it."""
    node, model = sys.argv[1:] if argv is None else argv
    try:
        check_requirements()
    except HrdaError as error:
        return _tell(False, f"not reloaded, there is no ROS here: {error}")
    import rclpy

    from hrda_ros.start.fastdds_profile import choose_profile

    choose_profile()
    try:
        rclpy.init(args=[])
        own = rclpy.create_node("_hrda_night")
    except Exception as error:  # rclpy's own classes, other ones in each distribution
        return _tell(False, f"not reloaded, a node cannot join the graph: {' '.join(str(error).split())}")
    try:
        return _tell(*call(own, node, model))
    finally:
        own.destroy_node()
        rclpy.try_shutdown()


def call(own: Any, node: str, model: str, found_s: float = FOUND_S, answer_s: float = ANSWER_S) -> tuple[bool, str]:
    """Ask a node for its model, and let it reload if that is the link.

    Args:
        own: a node of this process, which nobody else spins.
        node: full name of the node to call.
        model: the link.
        found_s, answer_s: how long the node is looked for, and how long its answer is waited for, seconds.

    Returns:
        whether it refused, and one line.
    """
    from rcl_interfaces.srv import GetParameters
    from std_srvs.srv import Trigger

    names = {"names": ["model"]}
    asked = answer_of(own, GetParameters, f"{node}/get_parameters", names, found_s, found_s, again=True)
    if asked is None:
        return False, f"not reloaded, node '{node}' is not there; it loads the link when it starts"
    served = asked.values[0].string_value if asked.values else ""
    if not _same(served, model):
        return False, (
            f"not reloaded, node '{node}' serves '{served or 'the default model'}' and not this link; "
            f"ros2 param set {node} model {os.path.abspath(model)}"
        )
    answer = answer_of(own, Trigger, f"{node}/reload", {}, found_s, answer_s)
    if answer is None:
        return True, f"'{node}/reload' has not answered within {answer_s:.0f} s"
    return not answer.success, str(answer.message)


def _same(served: str, model: str) -> bool:
    """Whether the node's parameter names the link; by its text where another container has other mounts."""
    if not served:
        return False
    return os.path.abspath(served) == os.path.abspath(model) or os.path.realpath(served) == os.path.realpath(model)


def _tell(refused: bool, message: str) -> int:
    print(json.dumps({"refused": refused, "message": message}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
