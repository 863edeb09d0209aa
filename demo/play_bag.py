"""Play a bag as a camera: publish its compressed images at a steady rate, stamps and bytes untouched.

    python demo/play_bag.py demo/street_day_dusk --rate 10

It waits for a first subscriber, and with `--node` until that node knows this camera. Then it keeps its rate whatever
the subscribers do: no acknowledgement, no repetition. It prints one event for each frame (street_demo/events.py) and
stays until SIGINT or SIGTERM, so that the last frame arrives.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage
from street_demo.events import emit
from street_demo.recording import Recording, open_recording

from hrda_core.errors import HrdaError
from hrda_core.standard_streams import with_streams

MATCH_POLL_S = 0.02


def play(
    node: Node, recording: Recording, stamps: frozenset[int], rate_hz: float, stop: threading.Event, subscriber: str
) -> None:
    """Publish the frames with these stamps; the first one is due one period after a subscriber has matched.

    Args:
        subscriber: name of a node that must know this camera before that; empty = none.
    """
    publisher = node.create_publisher(CompressedImage, recording.topic, qos_profile_sensor_data)
    frames = [(image.stamp_ns, image.raw) for image in recording.images() if image.stamp_ns in stamps]
    while publisher.get_subscription_count() == 0 and not stop.wait(MATCH_POLL_S):
        pass
    if subscriber:
        _wait_until_known(node, subscriber, stop)
    start = time.monotonic()
    for index, (stamp, raw) in enumerate(frames, start=1):
        if stop.wait(max(0.0, start + index / rate_hz - time.monotonic())):
            return
        published_ns = time.monotonic_ns()
        publisher.publish(raw)
        emit("frame", stamp=stamp, time_ns=published_ns)
    emit("end")
    stop.wait()


def _wait_until_known(node: Node, subscriber: str, stop: threading.Event) -> None:
    """Wait for an answer of the subscribing node: it has then found the camera, and no first frame is lost.

    That this side has found the node's subscription does not tell it: the node drops best-effort frames of a publisher
    that it has yet to find. Writers are announced in the order of their creation, so a node that has received a request
    of a client made after the publisher knows the publisher.
    """
    client = node.create_client(GetParameters, f"/{subscriber}/get_parameters")
    while not client.service_is_ready():
        if stop.wait(MATCH_POLL_S):
            return
    answer = client.call_async(GetParameters.Request(names=["use_sim_time"]))
    while not answer.done() and not stop.is_set():
        rclpy.spin_once(node, timeout_sec=MATCH_POLL_S)
    node.destroy_client(client)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bag", type=Path, help="rosbag2 folder with sensor_msgs/CompressedImage messages")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second (default: %(default)s)")
    parser.add_argument("--max-frames", type=int, help="only so many, evenly spaced over the bag")
    parser.add_argument("--node", default="", help="name of a node that must know the camera before the first frame")
    options = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        recording = open_recording(options.bag)
    except HrdaError as error:
        print(f"play_bag: {error}", file=sys.stderr)
        return 2
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("bag_camera")
    try:
        stamps = frozenset(recording.evenly_spaced(options.max_frames))
        play(node, recording, stamps, options.rate, stop, options.node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(with_streams(main, "play_bag"))
