"""Measures the time from the start of the node to its first mask, and the memory it takes beside its model.

    python benchmarks/node/node_start.py [--starts 5]

A camera of 1080p at 10 Hz plays before the node starts; the node is `segment_node` with `hrda_lite` on ONNX Runtime and
otherwise its defaults. The time is from the start of the process to the arrival of the first mask over real DDS. After
`MASKS` masks the resident memory of the node is read, and that of a process that only runs the same model on the same
image as often, without ROS: the difference is what the node adds. The targets are 3 s and 300 MB.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randrange(102)))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from hrda_core.bench.record import ROOT, write_record
from hrda_core.machine import machine
from hrda_core.memory import keep_big_buffers
from hrda_core.standard_streams import with_streams
from hrda_ros.masks.codec import fill_image
from hrda_ros.start.fastdds_profile import PROFILE, profile_variable

HEIGHT, WIDTH, CAMERA_HZ = 1080, 1920, 10
MODEL = ROOT / "models" / "hrda_lite"
MASKS = 30
TARGETS = {"first_mask_s": 3.0, "beside_the_model_mb": 300.0}
LONGEST_S = 120.0

_MODEL_ALONE = """
import sys, cv2, numpy as np
from hrda_core.memory import keep_big_buffers
from hrda_core.inference import Predictor
keep_big_buffers()
cv2.setNumThreads(1)
predictor = Predictor(sys.argv[1], "onnx")
rgb = np.random.default_rng(1).integers(0, 256, (int(sys.argv[2]), int(sys.argv[3]), 3), np.uint8)
for _ in range(int(sys.argv[4])):
    predictor(rgb)
print(open("/proc/self/status").read())
"""


def resident_mb(status: str) -> dict[str, float]:
    """Return the resident memory that a /proc/PID/status shows: whole, own, of files, and shared (Fast DDS)."""
    names = {"resident": "VmRSS", "own": "RssAnon", "of_files": "RssFile", "shared": "RssShmem"}
    found = {key: re.search(rf"{name}:\s+(\d+) kB", status) for key, name in names.items()}
    return {key: round(int(match.group(1)) / 1024, 1) for key, match in found.items() if match}


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Camera(threading.Thread):
    """Publishes the same picture until it is stopped."""

    def __init__(self, node: Any) -> None:
        super().__init__(daemon=True)
        self._publisher = node.create_publisher(Image, "image", QoSProfile(depth=1))
        self._message, self._ended = Image(), threading.Event()
        pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        fill_image(self._message, pixels, "rgb8")

    def run(self) -> None:
        """Publish, each time with a stamp of its own."""
        while not self._ended.wait(1 / CAMERA_HZ):
            self._message.header.stamp.sec, self._message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            self._publisher.publish(self._message)

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


def one_start(sink: Any, log: Path) -> tuple[float, float, dict[str, float]]:
    """Return seconds to the first mask, of processor time until then, and the memory after `MASKS` masks, megabytes."""
    arrived: list[tuple[float, float]] = []
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    subscription = sink.create_subscription(
        Image, "/segment_node/labels", lambda _: arrived.append((time.perf_counter(), cpu_s(process.pid))), best_effort
    )
    command = [sys.executable, "-m", "hrda_ros", "--ros-args", "-p", f"model:={MODEL}", "-p", "backend:=onnx"]
    begin = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        while len(arrived) < MASKS:
            if process.poll() is not None or time.perf_counter() > begin + LONGEST_S:
                raise SystemExit(f"{len(arrived)} masks came; the node said:\n{log.read_text()}")
            rclpy.spin_once(sink, timeout_sec=0.05)
        memory = resident_mb(Path(f"/proc/{process.pid}/status").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        sink.destroy_subscription(subscription)
    first_s, used_s = arrived[0]
    return first_s - begin, used_s, memory


def model_alone() -> dict[str, float]:
    """Return the resident memory of the model without ROS, megabytes."""
    words = [str(value) for value in (MODEL, HEIGHT, WIDTH, MASKS)]
    done = subprocess.run([sys.executable, "-c", _MODEL_ALONE, *words], capture_output=True, text=True, check=True)
    return resident_mb(done.stdout)


def measure(starts: int) -> dict[str, Any]:
    """Return all figures."""
    film, sink = rclpy.create_node("camera"), rclpy.create_node("sink")
    camera = Camera(film)
    camera.start()
    seconds, used, memory = [], [], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(starts):
                first_s, used_s, resident = one_start(sink, Path(folder) / "log.txt")
                seconds.append(round(first_s, 2))
                used.append(used_s)
                memory.append(resident)
    except ExternalShutdownException:
        raise SystemExit("interrupted") from None
    finally:
        camera.stop()
    alone = model_alone()
    node = sorted(memory, key=lambda found: found["resident"])[len(memory) // 2]
    return {
        "first_mask_s": sorted(seconds)[len(seconds) // 2],
        "all_starts_s": seconds,
        "of_which_on_a_core_s": sorted(used)[len(used) // 2],
        "node_mb": node,
        "model_alone_mb": alone,
        "beside_the_model_mb": round(node["resident"] - alone["resident"], 1),
    }


def main() -> int:
    """Run, print and record; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="Start of the node, and its memory beside the model.")
    parser.add_argument("--starts", type=int, default=5, help="how often the node starts (default: %(default)s)")
    starts = parser.parse_args().starts
    keep_big_buffers()
    os.environ[profile_variable()] = str(ROOT / PROFILE)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = machine()
    rclpy.init()
    try:
        figures = measure(starts)
    finally:
        rclpy.try_shutdown()
    reached = {key: figures[key] <= limit for key, limit in TARGETS.items()}
    print(f"first mask after {figures['first_mask_s']} s (median of {figures['all_starts_s']})")
    print(f"of which {figures['of_which_on_a_core_s']} s of processor time")
    print(f"resident: node {figures['node_mb']} MB, model alone {figures['model_alone_mb']} MB")
    for key, limit in TARGETS.items():
        print(f"{key} {figures[key]}, target {limit:g}: {'reached' if reached[key] else 'missed'}")
    settings = {
        "model": MODEL.name, "height": HEIGHT, "width": WIDTH, "camera_hz": CAMERA_HZ, "masks": MASKS,
        "nice": os.nice(0),
    }  # fmt: skip
    figures["target"] = {**TARGETS, "reached": reached}
    path = write_record("node_start", figures=figures, settings=settings, before=before)
    print(f"load average {before['load_average'][0]}; written: {path.relative_to(ROOT)}")
    return 0 if all(reached.values()) else 1


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "node_start"))
