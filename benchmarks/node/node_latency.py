"""Measures the age of a mask at its arrival: 1080p at 30 Hz, a back end that takes 150 ms, against a naive node.

    python benchmarks/node/node_latency.py [--seconds 12]

Three processes run over real DDS with config/fastdds_large_images.xml: camera, node, and this one, which subscribes to
the masks and takes the time from the camera's stamp to the mask's arrival. The target for our node is one camera period
plus 1.2 times the back end's time, for every mask after the first two seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import rclpy
from naive_node import NaiveNode
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.inference import Prediction
from hrda_core.inference.bundle import GraphSpec
from hrda_core.labels import CITYSCAPES19
from hrda_core.machine import machine
from hrda_core.memory import keep_big_buffers
from hrda_core.standard_streams import with_streams
from hrda_core.window_plan import PlanChoice
from hrda_ros.masks.codec import fill_image
from hrda_ros.segment_node import SegmentNode
from hrda_ros.start.fastdds_profile import PROFILE, profile_variable

HEIGHT, WIDTH, CAMERA_HZ = 1080, 1920, 30
BACKEND_S = 0.15
WARM_UP_S = 2.0
BOUND_MS = 1e3 / CAMERA_HZ + 1.2 * 1e3 * BACKEND_S
LABELS_TOPIC = "/segment_node/labels"


class Slow:
    """A back end that takes `BACKEND_S` and leaves the processor to others meanwhile."""

    plan = "none"
    graph = GraphSpec(PlanChoice("whole"), "none")
    backend_description = f"sleep of {1e3 * BACKEND_S:g} ms"
    bundle = SimpleNamespace(name="slow", preset="none", label_space=CITYSCAPES19, static_graphs=())

    def warm_up(self, height: int, width: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __call__(self, rgb: np.ndarray) -> Prediction:
        time.sleep(BACKEND_S)
        labels = np.zeros(rgb.shape[:2], np.uint8)
        return Prediction(labels, labels)


def camera() -> dict[str, int]:
    """Publish until a signal comes; return the number of frames."""
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    message, sent = Image(), 0
    fill_image(message, np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), "rgb8")
    due = time.perf_counter()
    while rclpy.ok():
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        publisher.publish(message)
        sent += 1
        due += 1 / CAMERA_HZ
        time.sleep(max(0.0, due - time.perf_counter()))
    return {"sent": sent}


def spin(node: Any) -> None:
    """Spin until a signal comes."""
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return
    except Exception:
        if rclpy.ok():
            raise  # otherwise the signal came while the naive node was about to publish


def our_node() -> dict[str, int]:
    """Run our node and return its counters."""
    node = SegmentNode(predictor_factory=lambda _: Slow(), parameter_overrides=[Parameter("lazy", value=True)])
    assert node.start()
    spin(node)
    node.close()
    counts = node.cameras[0].pipeline.counts()
    return {
        name: getattr(counts, name) for name in ("received", "published", "superseded", "stale", "refused", "failed")
    }


def naive_node() -> dict[str, int]:
    """Run the naive node."""
    spin(NaiveNode(lambda rgb: Slow()(rgb).labels))
    return {}


ROLES = {"camera": camera, "ours": our_node, "naive": naive_node}


def play(role: str) -> None:
    """Run one of the processes by its role, and print its result as JSON."""
    keep_big_buffers()
    rclpy.init()
    print(json.dumps(ROLES[role]()), flush=True)
    os._exit(0)  # the naive node may still hold a queue of frames


def start(role: str) -> subprocess.Popen[str]:
    """Start a role in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "--role", role], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, int]:
    """End a role and return what it printed."""
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0].strip().splitlines()
    return json.loads(output[-1]) if output else {}


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Return the ages of the masks of one kind of node, and what became of the frames."""
    node = rclpy.create_node("sink")
    ages: list[float] = []
    measuring_from = [float("inf")]

    def on_mask(mask: Any) -> None:
        now_s = time.time()
        if now_s >= measuring_from[0]:
            ages.append(now_s - mask.header.stamp.sec - 1e-9 * mask.header.stamp.nanosec)

    node.create_subscription(
        Image, LABELS_TOPIC, on_mask, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    segmenting = start(name)
    while node.count_publishers(LABELS_TOPIC) < 1 or node.count_subscribers("/image") < 1:
        rclpy.spin_once(node, timeout_sec=0.1)
    filming = start("camera")
    while node.count_publishers("/image") < 1:
        rclpy.spin_once(node, timeout_sec=0.1)
    measuring_from[0] = time.time() + WARM_UP_S
    while time.time() < measuring_from[0] + seconds:
        rclpy.spin_once(node, timeout_sec=0.1)
    sent, counts = finish(filming), finish(segmenting)
    node.destroy_node()
    return {"age": milliseconds(ages), "masks_per_s": round(len(ages) / seconds, 2), **sent, **counts}


def main() -> int:
    """Run, print and record; the exit code is 1 if the target is missed."""
    parser = argparse.ArgumentParser(description="Age of masks behind a slow back end.")
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="measured time for each node (default: %(default)s)"
    )
    parser.add_argument("--role", choices=sorted(ROLES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        play(options.role)
    os.environ[profile_variable()] = str(ROOT / PROFILE)
    os.environ.update(
        ROS_DOMAIN_ID=str(random.SystemRandom().randrange(102)), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = machine()
    keep_big_buffers()
    rclpy.init()
    figures: dict[str, Any] = {name: measure(name, options.seconds) for name in ("ours", "naive")}
    rclpy.try_shutdown()
    for name, rows in figures.items():
        times = ", ".join(f"{key} {rows['age'].get(key + '_ms', float('nan')):.0f} ms" for key in ("p50", "p95", "max"))
        print(f"{name:6} age {times}; {rows['masks_per_s']} masks a second")
    reached = figures["ours"]["age"].get("max_ms", float("inf")) <= BOUND_MS
    figures["target"] = {"max_age_ms": round(BOUND_MS, 1), "reached": reached}
    settings = {
        "height": HEIGHT, "width": WIDTH, "camera_hz": CAMERA_HZ, "backend_ms": 1e3 * BACKEND_S,
        "seconds": options.seconds, "profile": PROFILE.name,
    }  # fmt: skip
    path = write_record("node_latency", figures=figures, settings=settings, before=before)
    print(f"bound of {BOUND_MS:.0f} ms {'held' if reached else 'missed'}; load average {before['load_average'][0]}")
    print(f"written: {path.relative_to(ROOT)}")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "node_latency"))
