"""Measures what `scan` costs beside reading: a generated raw recording, against the bare reader of rosbags.

    python benchmarks/bag_scan.py [--gigabytes 10] [--rounds 5] [--folder /tmp]

One recording (mcap, 1280x720 bgr8, 30 Hz) is written, read by both in turn, each time in a process of its own, and
deleted. Warm means that the file was just read, so it lies in memory as far as it fits there. Cold means that its pages
are dropped before each process, so the disk decides. Where other processes share the cores, the processor time of both
tells more than the seconds. The target is 80 % of the reader's rate, and less than 1.5 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hrda_core.bench.record import write_record
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.scan.scan import scan
from hrda_core.machine import machine
from hrda_core.memory import keep_big_buffers
from hrda_core.standard_streams import with_streams

HEIGHT, WIDTH, HZ = 720, 1280, 30
TOPIC, IMAGE = "/camera/image_raw", "sensor_msgs/msg/Image"
START_NS = 1_700_000_000 * 10**9
TARGET_SHARE, TARGET_BYTES = 0.8, 1.5e9
_BLOCK = 1 << 24


def write_bag(path: Path, gigabytes: float) -> int:
    """Write the recording and return its number of images."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    frames = _moving_street()
    count = max(1, round(1e9 * gigabytes / (HEIGHT * WIDTH * 3)))
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for number in range(count):
            stamp = START_NS + round(number * 1e9 / HZ)
            time_of = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = types["std_msgs/msg/Header"](stamp=time_of, frame_id="camera")
            pixels = frames[number % len(frames)].reshape(-1)
            message = types[IMAGE](header, HEIGHT, WIDTH, "bgr8", 0, 3 * WIDTH, pixels)
            writer.write(connection, stamp, store.serialize_cdr(message, IMAGE))
    return count


def _moving_street() -> list[np.ndarray]:
    """A few frames of soft blocks with noise that shift sideways."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 230, (HEIGHT // 40, WIDTH // 40, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    noise = generator.integers(0, 25, blocks.shape, np.uint8)
    return [np.ascontiguousarray(np.roll(blocks, 17 * number, 1) + noise) for number in range(16)]


def read_bare(bag: Path) -> int:
    """Read all images as bytes, as rosbags gives them."""
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        connections = [entry for entry in reader.connections if entry.topic == TOPIC]
        return sum(1 for _ in reader.messages(connections))


def read_scan(bag: Path) -> int:
    """Scan as `hrda bag info` does."""
    keep_big_buffers()  # as `hrda bag info` and `hrda adapt` do
    result = scan(Recordings.open([bag], several=True), pictures=24)
    return sum(len(camera.stamps_ns) for camera in result.cameras)


WORKERS = {"reader": read_bare, "scan": read_scan}


def work(kind: str, bag: Path) -> dict[str, Any]:
    """Run one of `WORKERS` in this process; imports are not timed."""
    start, start_cpu = time.perf_counter(), time.process_time()
    count = WORKERS[kind](bag)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"images": count, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": 1024 * peak}


def run(kind: str, bag: Path, warm: bool) -> dict[str, Any]:
    """Run one of `WORKERS` in a new process, with the file in memory or not."""
    for file in bag.rglob("*.mcap"):
        with file.open("rb", buffering=0) as opened:
            if warm:
                while opened.read(_BLOCK):
                    pass
            else:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, __file__, "--worker", kind, "--folder", str(bag)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def compare(bag: Path, rounds: int, warm: bool) -> dict[str, Any]:
    """Run both in turn and return medians."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in WORKERS}
    for number in range(rounds):
        for kind in WORKERS if number % 2 == 0 else reversed(WORKERS):
            runs[kind].append(run(kind, bag, warm))
            last = runs[kind][-1]
            text = f"{last['seconds']:8.2f} s, of the processor {last['cpu_seconds']:.2f} s"
            print(f"  {'warm' if warm else 'cold'} {kind:<7}{text}", flush=True)
    images = {entry["images"] for entries in runs.values() for entry in entries}
    assert len(images) == 1, f"the two read different numbers of images: {images}"
    size = sum(file.stat().st_size for file in bag.rglob("*.mcap"))
    seconds, cpu_seconds = (
        {kind: statistics.median(entry[name] for entry in entries) for kind, entries in runs.items()}
        for name in ("seconds", "cpu_seconds")
    )
    pairs = zip(runs["reader"], runs["scan"], strict=True)
    return {
        "reader_s": round(seconds["reader"], 3),
        "scan_s": round(seconds["scan"], 3),
        "reader_cpu_s": round(cpu_seconds["reader"], 3),
        "scan_cpu_s": round(cpu_seconds["scan"], 3),
        "reader_mb_per_s": round(size / seconds["reader"] / 1e6),
        "scan_mb_per_s": round(size / seconds["scan"] / 1e6),
        "share_of_reader_rate": round(seconds["reader"] / seconds["scan"], 3),
        "share_by_cpu_time": round(cpu_seconds["reader"] / cpu_seconds["scan"], 3),
        "shares_of_rounds": [round(reader["seconds"] / scan["seconds"], 3) for reader, scan in pairs],
        "scan_peak_mb": round(max(entry["peak_bytes"] for entry in runs["scan"]) / 1e6),
        "reader_peak_mb": round(max(entry["peak_bytes"] for entry in runs["reader"]) / 1e6),
    }


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the recording is made")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.folder)))
        return
    before = machine()
    folder = Path(tempfile.mkdtemp(prefix="bag_scan_", dir=options.folder))
    try:
        images = write_bag(folder / "bag", options.gigabytes)
        figures = {name: compare(folder / "bag", options.rounds, name == "warm") for name in ("warm", "cold")}
    finally:
        shutil.rmtree(folder)
    reached = all(
        entry["share_of_reader_rate"] >= TARGET_SHARE and 1e6 * entry["scan_peak_mb"] < TARGET_BYTES
        for entry in figures.values()
    )
    settings = {"gigabytes": options.gigabytes, "images": images, "rounds": options.rounds, "analyse_hz": 2.0}
    path = write_record("bag_scan", figures={**figures, "target_reached": reached}, settings=settings, before=before)
    print(json.dumps(figures, indent=1))
    print(f"target {'reached' if reached else 'missed'}; {path}")


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "bag_scan"))
