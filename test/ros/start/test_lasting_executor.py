"""A callback that raises does not end the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_p3_c6_a_parameter_of_no_type_and_a_clock_before_1970_do_not_end_the_node(
    start_node: Callable[..., Any], client: Any, tiny_bundle: Path
) -> None:
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import SetParameters
    from rosgraph_msgs.msg import Clock

    process = start_node(
        "-r", "__node:=lasting", "-p", f"model:={tiny_bundle}", "-p", "use_sim_time:=true", "-r", "/clock:=/odd_clock"
    )
    process.wait_for_log("segmenting images")
    clock = client.node.create_publisher(Clock, "/odd_clock", 5)
    setter = client.node.create_client(SetParameters, "/lasting/set_parameters")
    client.meet("/lasting", clock)
    client.spin_until(setter.service_is_ready, "set_parameters")
    no_type = Parameter(name="lazy", value=ParameterValue(type=200))
    setter.call_async(SetParameters.Request(parameters=[no_type]))
    line = process.wait_for_log("cannot be handled and is left out")
    assert "200 is not a valid Parameter.Type" in line
    message = Clock()
    message.clock.sec = -1
    for _ in range(5):
        clock.publish(message)
        client.spin_for(0.05)
    assert client.set_parameter("/lasting", "lazy", False).successful
    assert process.stop() == 0
    assert "Traceback" not in process.log()
