"""The nodes as programs: a clean end by a signal, and one sentence where they cannot start."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

OUTPUTS = {"cloud_node": "points", "ground_node": "grid"}
CLOUD_QOS = "qos_overrides./cloud_node_wrong/cloud_node/points"
NEEDED = {"ground_node": ("-p", "height_m:=1.0")}


@pytest.mark.parametrize("program", OUTPUTS)
def test_a_signal_ends_the_program_cleanly(start_node: Callable[..., Any], client: Any, program: str) -> None:
    process = start_node("-r", f"__ns:=/{program}_alone", "-p", "kep:=3", *NEEDED.get(program, ()), program=program)
    topic = f"/{program}_alone/{program}/{OUTPUTS[program]}"
    client.spin_until(lambda: client.node.count_publishers(topic) == 1, "the node's output")
    assert "parameter 'kep' does not exist and is ignored; was 'keep' meant?" in process.wait_for_log("kep")
    assert process.stop() == 0
    assert "Traceback" not in process.log()


@pytest.mark.parametrize(
    ("program", "parameter", "sentence"),
    [
        ("cloud_node", "stride:=0", "stride"),
        ("cloud_node", f"{CLOUD_QOS}.publisher.reliability:=none", "the node cannot be made: RuntimeError"),
        ("cloud_node", "min_depth_m:=20", "min_depth_m is 20 and max_depth_m 20, so that no depth counts"),
        ("ground_node", "frame:=''", "'' is no frame of tf"),
        ("ground_node", "pitch_deg:=12", "ground_node: the height of the camera is not given: set height_m"),
        ("ground_node", "use_tf:=true", "ground_node: use_tf needs the ROS package tf2_ros, which does not import"),
    ],
)
def test_a_start_that_cannot_be_ends_with_one_sentence(
    start_node: Callable[..., Any], program: str, parameter: str, sentence: str
) -> None:
    if "tf2_ros" in sentence and importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is installed here")
    process = start_node("-r", f"__ns:=/{program}_wrong", "-p", parameter, program=program)
    assert process.wait() == 2
    assert process.log().splitlines()[-1].startswith(f"{program}: ")
    assert sentence in process.log()
    assert "Traceback" not in process.log()


def test_the_programs_load_no_ros_before_they_have_looked_for_it() -> None:
    code = "import sys, hrda_ros.space.programs; sys.exit(any(name in sys.modules for name in ('rclpy', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
