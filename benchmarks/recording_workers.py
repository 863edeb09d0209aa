"""Measures what a second process gains where frames are chosen from several recordings.

    python benchmarks/recording_workers.py [--recordings 6] [--images 240] [--rounds 3] [--folder /tmp]

Recordings of JPEG images (mcap, 1280x720, 10 Hz) are made, scanned, selected from and extracted, by one process and by
two in turn, and deleted. The start of the processes is part of the time. The written frames are compared byte by byte.
Where other programs share the cores, as the load average in the record tells, the gain is smaller than on cores of
one's own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hrda_core.adaptation.stages.frames import choose_frames
from hrda_core.bench.record import write_record
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.machine import machine

HEIGHT, WIDTH, HZ = 720, 1280, 10
TOPIC, KIND = "/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage"
START_NS = 1_700_000_000 * 10**9
WORKERS = (1, 2)


def write_recording(path: Path, number: int, images: int) -> None:
    """Write one drive past soft blocks, another one for each number."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    generator = np.random.default_rng(number)
    blocks = generator.integers(0, 230, (HEIGHT // 40, 200, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    street = blocks + generator.integers(0, 25, blocks.shape, np.uint8)
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, KIND, typestore=store)
        for place in range(images):
            stamp = START_NS + number * 3600 * 10**9 + round(place * 1e9 / HZ)
            first = 23 * place % (street.shape[1] - WIDTH)
            data = cv2.imencode(".jpg", street[:, first : first + WIDTH])[1].reshape(-1)
            time_of = store.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = store.types["std_msgs/msg/Header"](stamp=time_of, frame_id="camera")
            message = store.types[KIND](header=header, format="jpeg", data=data)
            writer.write(connection, stamp, store.serialize_cdr(message, KIND))


def choose(bags: list[Path], folder: Path, workers: int) -> tuple[float, dict[str, bytes]]:
    """Choose and write frames; seconds, and the files."""
    start = time.perf_counter()
    choose_frames(bags, (), folder, SelectionConfig(), lambda line: None, lambda *count: None, workers=workers)
    seconds = time.perf_counter() - start
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
    shutil.rmtree(folder)
    return seconds, files


def compare(bags: list[Path], folder: Path, rounds: int) -> dict[str, Any]:
    """Run both in turn; medians, and whether the files are equal."""
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    equal = True
    for number in range(rounds):
        written = {}
        for workers in WORKERS if number % 2 == 0 else reversed(WORKERS):
            taken, written[workers] = choose(bags, folder / "frames", workers)
            seconds[workers].append(round(taken, 2))
            print(f"  {workers} workers {taken:8.2f} s, {len(written[workers])} files", flush=True)
        equal = equal and written[1] == written[2]
    medians = {workers: statistics.median(entries) for workers, entries in seconds.items()}
    return {
        "one_worker_s": medians[1],
        "two_workers_s": medians[2],
        "gain": round(medians[1] / medians[2], 2),
        "seconds_of_rounds": {str(workers): entries for workers, entries in seconds.items()},
        "files_equal": equal,
    }


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--images", type=int, default=240, help="images of each recording")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where recordings are made")
    options = parser.parse_args()
    before = machine()
    cv2.setNumThreads(1)  # as the processes do
    folder = Path(tempfile.mkdtemp(prefix="recording_workers_", dir=options.folder))
    try:
        bags = [folder / f"drive_{number}" for number in range(options.recordings)]
        for number, bag in enumerate(bags):
            write_recording(bag, number, options.images)
        figures = compare(bags, folder, options.rounds)
    finally:
        shutil.rmtree(folder)
    settings = {
        "recordings": options.recordings,
        "images_of_each": options.images,
        "size": [WIDTH, HEIGHT],
        "rounds": options.rounds,
        "cores": "shared with other programs, see the load averages",
    }
    path = write_record("recording_workers", figures=figures, settings=settings, before=before)
    print(json.dumps(figures, indent=1))
    print(path)


if __name__ == "__main__":
    main()
