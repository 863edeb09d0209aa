"""Joins the ROS graph for a moment: the RMW works, who publishes the time, and what a running node says of itself."""

from __future__ import annotations

from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.utilities import get_rmw_implementation_identifier

from hrda_core.findings import Finding, fail, ok, warn
from hrda_ros.start.fastdds_profile import choose_profile
from hrda_ros.start.service_answer import answer_of, spin_until

__all__ = ["check_graph", "check_time", "look"]

_LOOK_S, _ANSWER_S = 1.0, 5.0
_NAMES = ("use_sim_time", "model")


def check_graph(node: str) -> list[Finding]:
    """Join the graph and look.

    Args:
        node: full name of a running node to ask; empty = none.
    """
    choose_profile()
    rclpy.init(args=[])
    try:
        own = rclpy.create_node("_hrda_doctor")
        try:
            return look(own, node)
        finally:
            own.destroy_node()
    finally:
        rclpy.try_shutdown()


def look(own: Any, node: str) -> list[Finding]:
    """Look around with a node; see `check_graph`."""
    values = _ask(own, node) if node else None
    if values is None:  # who was asked has been found, and so have the others
        spin_until(own, lambda: own.count_publishers("/clock") > 0, _LOOK_S)
    clocks = own.count_publishers("/clock")
    findings = [ok("graph", f"joined it by {get_rmw_implementation_identifier()}")]
    if node and values is None:
        text = f"no node '{node}' answers within {_ANSWER_S:.0f} s"
        return [*findings, fail("node", text, "start it, give its full name, and compare ROS_DOMAIN_ID on both sides")]
    if values is not None:
        findings.append(ok("node", f"'{node}' answers, model '{values['model'] or 'the default'}'"))
    return [*findings, check_time(clocks, None if values is None else bool(values["use_sim_time"]), node)]


def check_time(clocks: int, simulated: bool | None, node: str = "") -> Finding:
    """Compare whose time a node takes with who publishes one.

    Args:
        clocks: number of publishers of /clock.
        simulated: `use_sim_time` of the node; None = no node was asked.
        node: its name.
    """
    if simulated and not clocks:
        text = f"'{node}' waits for /clock (use_sim_time), and nobody publishes it: its time stands still"
        return fail("time", text, "start what publishes /clock (ros2 bag play --clock), or set use_sim_time to false")
    if clocks and simulated is False:
        text = f"/clock is published, and '{node}' does not take it: ages of frames are n/a or wrong"
        return warn("time", text, f"run 'ros2 param set {node} use_sim_time true'")
    if simulated:
        return ok("time", f"'{node}' takes that of /clock")
    if clocks:
        return ok("time", "/clock is published: start nodes with use_sim_time:=true")
    return ok("time", "that of this machine; nobody publishes /clock")


def _ask(own: Any, node: str) -> dict[str, Any] | None:
    names = {"names": list(_NAMES)}
    answer = answer_of(own, GetParameters, f"{node}/get_parameters", names, _ANSWER_S, _ANSWER_S, again=True)
    if answer is None:
        return None
    simulated, model = answer.values
    return {"use_sim_time": simulated.bool_value, "model": model.string_value}
