"""Measures what a second process gains where frames are chosen from several recordings, and two workers of dask.

    python benchmarks/recording_workers.py [--recordings 20] [--images 60] [--rounds 3] [--folder /tmp]

Recordings of JPEG images (mcap, 1280x720, 10 Hz) are made, scanned, selected from and extracted, by one process, by
two, and by a dask cluster of two processes in turn, and deleted. The start of processes is part of the time, that of
the cluster is not. The written frames are compared byte by byte.
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
from distributed import LocalCluster
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hrda_core.adaptation.stages.frames import choose_frames
from hrda_core.bench.record import write_record
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.data.recordings.worker_choice import WorkerChoice
from hrda_core.machine import machine
from hrda_core.standard_streams import with_streams

HEIGHT, WIDTH, HZ = 720, 1280, 10
TOPIC, KIND = "/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage"
START_NS = 1_700_000_000 * 10**9
ARMS = ("one", "two", "dask")


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


def choose(bags: list[Path], folder: Path, workers: WorkerChoice) -> tuple[float, dict[str, bytes]]:
    """Choose and write frames; seconds, and the files."""
    start = time.perf_counter()
    choose_frames(bags, (), folder, SelectionConfig(), lambda line: None, lambda *count: None, workers=workers)
    seconds = time.perf_counter() - start
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
    shutil.rmtree(folder)
    return seconds, files


def compare(bags: list[Path], folder: Path, rounds: int, address: str) -> dict[str, Any]:
    """Run all in turn; medians, and whether the files are equal."""
    choices = dict(zip(ARMS, (WorkerChoice(), WorkerChoice(2), WorkerChoice(dask=address)), strict=True))
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    equal = True
    for number in range(rounds):
        written = {}
        for arm in ARMS if number % 2 == 0 else reversed(ARMS):
            taken, written[arm] = choose(bags, folder / "frames", choices[arm])
            seconds[arm].append(round(taken, 2))
            print(f"  {arm:5} {taken:8.2f} s, {len(written[arm])} files", flush=True)
        equal = equal and written["one"] == written["two"] == written["dask"]
    medians = {arm: statistics.median(entries) for arm, entries in seconds.items()}
    return {
        "one_worker_s": medians["one"],
        "two_workers_s": medians["two"],
        "dask_of_two_s": medians["dask"],
        "gain": round(medians["one"] / medians["two"], 2),
        "gain_of_dask": round(medians["one"] / medians["dask"], 2),
        "seconds_of_rounds": seconds,
        "files_equal": equal,
    }


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=20)
    parser.add_argument("--images", type=int, default=60, help="images of each recording")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where recordings are made")
    options = parser.parse_args()
    before = machine()
    cv2.setNumThreads(1)  # as the processes do
    folder = Path(tempfile.mkdtemp(prefix="recording_workers_", dir=options.folder.absolute()))
    try:
        bags = [folder / f"drive_{number}" for number in range(options.recordings)]
        for number, bag in enumerate(bags):
            write_recording(bag, number, options.images)
        with LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster:
            figures = compare(bags, folder, options.rounds, cluster.scheduler_address)
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
    raise SystemExit(with_streams(main, "recording_workers"))
