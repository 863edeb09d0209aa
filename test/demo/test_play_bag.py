"""The demo's camera, as a process on a DDS domain of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from street_demo.environment import child_environment
from street_demo.events import parse
from street_demo.paths import BAG, DEMO, FASTDDS_PROFILE


# rclpy's type support loads a parser library that uses deprecated modules.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_frame_is_played_before_the_named_node_answers(tmp_path: Path) -> None:
    rclpy = pytest.importorskip("rclpy")
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage
    from street_demo.recording import open_recording

    environment = child_environment(tmp_path, FASTDDS_PROFILE)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int(environment["ROS_DOMAIN_ID"]))
    executor = SingleThreadedExecutor(context=context)
    frames: list[object] = []

    def spin_until(done: Callable[[], bool], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not done() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)

    early = rclpy.create_node("early", context=context, start_parameter_services=False)
    topic = open_recording(BAG).topic
    early.create_subscription(CompressedImage, topic, frames.append, qos_profile_sensor_data)
    executor.add_node(early)
    command = [sys.executable, str(DEMO / "play_bag.py"), str(BAG), "--rate", "20", "--max-frames", "3"]
    with subprocess.Popen([*command, "--node", "late"], env=environment, stdout=subprocess.PIPE, text=True) as player:
        try:
            spin_until(lambda: early.count_publishers(topic) > 0, 60.0)
            spin_until(lambda: bool(frames), 1.0)
            assert frames == [], "a frame was played although the node had not answered"
            executor.add_node(rclpy.create_node("late", context=context))
            spin_until(lambda: len(frames) == 3, 60.0)
        finally:
            player.terminate()
        printed = player.communicate(timeout=60)[0]
    rclpy.shutdown(context=context)
    assert player.returncode == 0
    events = [found["event"] for line in printed.splitlines() if (found := parse(line))]
    assert events == ["frame", "frame", "frame", "end"]
    assert len(frames) == 3
