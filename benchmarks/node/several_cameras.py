"""Measures several cameras at 30 Hz with one node and one model, against a node with a model for each, in the same run.

    python benchmarks/node/several_cameras.py [--cameras 4] [--masks 200]

Over real DDS with config/fastdds_large_images.xml: a process with all cameras (640x480), the node or the nodes with the
shipped model, and this process, which subscribes to all masks. The one node has a thread for each core, the others one
each, so all cores are busy both times. The targets for the one node: the worst camera gets at least 80 % of its fair
share, which is the masks of all cameras by their number, and memory is at most that of one node with one camera and
25 MB for each further one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.machine import machine, usable_cores
from hrda_core.memory import keep_big_buffers
from hrda_core.standard_streams import with_streams
from hrda_ros.frames.pipeline import OUTCOMES
from hrda_ros.masks.codec import fill_image
from hrda_ros.segment_node import SegmentNode
from hrda_ros.start.fastdds_profile import PROFILE, profile_variable

HEIGHT, WIDTH, CAMERA_HZ = 480, 640, 30
PLAN = "context"
WARM_UP_S, LONGEST_S = 4.0, 240.0
LEAST_SHARE = 0.8
FURTHER_CAMERA_MB = 25.0


def topic_of(camera: int) -> str:
    """Return the image topic of a camera."""
    return f"/camera{camera}/image_raw"


def film(cameras: int) -> dict[str, int]:
    """Publish the images of all cameras until a signal comes."""
    node = rclpy.create_node("cameras")
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    publishers = [node.create_publisher(Image, topic_of(camera), qos) for camera in range(cameras)]
    message, sent = Image(), 0
    fill_image(message, np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), "rgb8")
    due = time.perf_counter()
    while rclpy.ok():
        for publisher in publishers:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            publisher.publish(message)
        sent += 1
        due += 1 / CAMERA_HZ
        time.sleep(max(0.0, due - time.perf_counter()))
    return {"sent": sent}


def segment(name: str, parameters: dict[str, Any], remapping: Sequence[str]) -> dict[str, Any]:
    """Run a node until a signal comes and return the counters of its cameras."""
    node = SegmentNode(
        parameter_overrides=[Parameter(key, value=value) for key, value in parameters.items()],
        cli_args=["--ros-args", "-r", f"__node:={name}", *remapping],
    )
    assert node.start()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.close()
    counts = {camera.name or name: camera.pipeline.counts() for camera in node.cameras}
    return {name: {key: getattr(found, key) for key in ("received", *OUTCOMES)} for name, found in counts.items()}


def play(role: str, cameras: int) -> None:
    """Run one of the processes and print its result as JSON."""
    keep_big_buffers()
    rclpy.init()
    common = {"plan": PLAN, "threads": usable_cores() if role == "one" else 1}
    if role == "cameras":
        result: dict[str, Any] = film(cameras)
    elif role == "one":
        names = {f"camera{camera}": topic_of(camera) for camera in range(cameras)}
        result = segment("one", {**common, "cameras": ",".join(names)}, ())
    else:
        result = segment(role, common, ("-r", f"image:={topic_of(int(role.removeprefix('camera')))}"))
    print(json.dumps(result), flush=True)
    os._exit(0)


def start(role: str, cameras: int) -> subprocess.Popen[str]:
    """Start a role in a process of its own."""
    command = [sys.executable, __file__, "--role", role, "--cameras", str(cameras)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """End a role and return what it printed."""
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0].strip().splitlines()
    return json.loads(output[-1]) if output else {}


def memory_mb(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Return resident memory, and the part of it that is shared with nobody or shared out (PSS), megabytes."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE) for key in ("Rss", "Pss"))
    assert rss is not None
    assert pss is not None
    return int(rss[1]) / 1024, int(pss[1]) / 1024


def measure(roles: Sequence[str], masks: Sequence[str], cameras: int, enough: int) -> dict[str, Any]:
    """Return masks a second and their ages for each camera, and the memory of all nodes, once `enough` masks came."""
    node = rclpy.create_node("sink")
    ages: list[list[float]] = [[] for _ in masks]
    measuring_from = [float("inf")]

    def listen(place: int) -> Any:
        def on_mask(mask: Any) -> None:
            now_s = time.time()
            if now_s >= measuring_from[0]:
                ages[place].append(now_s - mask.header.stamp.sec - 1e-9 * mask.header.stamp.nanosec)

        return on_mask

    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    for place, topic in enumerate(masks):
        node.create_subscription(Image, topic, listen(place), qos)
    nodes = [start(role, cameras) for role in roles]
    while any(node.count_publishers(topic) < 1 for topic in masks):
        rclpy.spin_once(node, timeout_sec=0.1)
    while any(node.count_subscribers(topic_of(camera)) < 1 for camera in range(len(masks))):
        rclpy.spin_once(node, timeout_sec=0.1)
    filming = start("cameras", len(masks))
    while node.count_publishers(topic_of(0)) < 1:
        rclpy.spin_once(node, timeout_sec=0.1)
    measuring_from[0] = time.time() + WARM_UP_S
    while sum(map(len, ages)) < enough and time.time() < measuring_from[0] + LONGEST_S:
        rclpy.spin_once(node, timeout_sec=0.1)
    seconds = time.time() - measuring_from[0]
    memory = [memory_mb(process) for process in nodes]
    sent = finish(filming)
    counts: dict[str, Any] = {}
    for process in nodes:
        counts |= finish(process)
    node.destroy_node()
    total = sum(map(len, ages))
    return {
        "nodes": len(roles),
        "seconds": round(seconds, 1),
        "masks_per_s": [round(len(camera) / seconds, 2) for camera in ages],
        "masks_per_s_of_all": round(total / seconds, 2),
        "worst_share": round(min(map(len, ages)) * len(ages) / total, 3) if total else 0.0,
        "age": milliseconds([age for camera in ages for age in camera]),
        "resident_mb": round(sum(rss for rss, _ in memory), 1),
        "proportional_mb": round(sum(pss for _, pss in memory), 1),
        "cameras_sent": sent.get("sent"),
        "counts": counts,
    }


def main() -> int:
    """Run, print and record; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="Several cameras with one model, and with a model each.")
    parser.add_argument("--cameras", type=int, default=4, help="number of cameras (default: %(default)s)")
    parser.add_argument(
        "--masks", type=int, default=200, help="masks of each part, of all cameras (default: %(default)s)"
    )
    parser.add_argument("--role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        play(options.role, options.cameras)
    os.environ[profile_variable()] = str(ROOT / PROFILE)
    os.environ.update(
        ROS_DOMAIN_ID=str(random.SystemRandom().randrange(102)), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = machine()
    keep_big_buffers()
    rclpy.init()
    names = [f"camera{camera}" for camera in range(options.cameras)]
    under, own = [f"/one/{name}/labels" for name in names], [f"/{name}/labels" for name in names]
    figures: dict[str, Any] = {
        "one_node": measure(["one"], under, options.cameras, options.masks),
        "a_node_for_each": measure(names, own, options.cameras, options.masks),
        "one_node_with_one_camera": measure(names[:1], own[:1], options.cameras, options.masks // 4),
    }
    rclpy.try_shutdown()
    for name, rows in figures.items():
        print(
            f"{name:24} {rows['masks_per_s_of_all']:5.1f} masks a second, worst share {rows['worst_share']:.0%}, age "
            f"p50 {rows['age'].get('p50_ms', float('nan')):.0f} ms, {rows['resident_mb']:.0f} MB resident"
        )
    most_mb = figures["one_node_with_one_camera"]["resident_mb"] + FURTHER_CAMERA_MB * (options.cameras - 1)
    one = figures["one_node"]
    reached = one["worst_share"] >= LEAST_SHARE and one["resident_mb"] <= most_mb
    figures["target"] = {"worst_share": LEAST_SHARE, "resident_mb": round(most_mb, 1), "reached": reached}
    settings = {
        "height": HEIGHT, "width": WIDTH, "camera_hz": CAMERA_HZ, "cameras": options.cameras, "plan": PLAN,
        "masks": options.masks, "profile": PROFILE.name,
        "threads_of_the_one_node": usable_cores(), "threads_of_each_node": 1,
    }  # fmt: skip
    path = write_record("several_cameras", figures=figures, settings=settings, before=before)
    print(f"targets {'reached' if reached else 'missed'}; load average {before['load_average'][0]}")
    print(f"written: {path.relative_to(ROOT)}")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "several_cameras"))
