"""`python -m hrda_ros.doctor`: the findings on ROS, one JSON object a line, the quick ones first."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator

from hrda_core.findings import Finding, fail
from hrda_ros.doctor.ros_checks import (
    check_distribution,
    check_logs,
    check_packages,
    check_rmw,
    check_rviz,
    rmw_in_use,
    ros_is_here,
)
from hrda_ros.doctor.transport import check_kernel_buffers, check_shared_memory

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Print the findings. Exit code 0, whatever they are."""
    parser = argparse.ArgumentParser(prog="python -m hrda_ros.doctor")
    parser.add_argument("--node", default="")
    node = parser.parse_args(argv).node
    for finding in _findings(node):
        print(json.dumps(finding.to_dict()), flush=True)  # what was found is told even if the next check ends this
    return 0


def _findings(node: str) -> Iterator[Finding]:
    yield check_distribution()
    packages = check_packages()
    yield from packages
    if not ros_is_here():
        if node:
            yield fail("node", f"'{node}' cannot be asked: there is no ROS in this shell", "source ROS first")
        return
    rmw = rmw_in_use(os.environ)
    yield check_logs()
    yield check_rviz()
    yield from check_shared_memory(rmw)
    yield from check_kernel_buffers(rmw)
    if any(finding.state == "fail" for finding in packages):
        return
    found = check_rmw(_loaded_rmw)
    yield found
    if found.state != "fail":
        yield from _guarded(lambda: _graph(node))


def _loaded_rmw() -> str:
    from rclpy.utilities import get_rmw_implementation_identifier

    return str(get_rmw_implementation_identifier())


def _graph(node: str) -> list[Finding]:
    from hrda_ros.doctor.graph_checks import check_graph

    return check_graph(node)


def _guarded(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except Exception as error:  # rclpy's own classes, other ones in each distribution
        text = f"a node cannot join it ({' '.join(str(error).split())})"
        return [fail("graph", text, "look into docs/robot/troubleshooting.md, 'At start'")]


if __name__ == "__main__":
    sys.exit(main())
