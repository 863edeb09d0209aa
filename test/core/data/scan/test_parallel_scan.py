"""Several recordings scanned and extracted by two processes or a cluster: the same, bit for bit, as in one pass."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_bag import START_NS, STORE, write_made_bag
from made_scan import street
from rosbags.rosbag2 import StoragePlugin, Writer

from hrda_core.adaptation.stages.frames import choose_frames
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.data.recordings.recording_workers import RecordingWorkers
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.recordings.worker_choice import WorkerChoice
from hrda_core.data.scan.parallel_scan import parallel_scan
from hrda_core.data.scan.scan import Scan, scan
from hrda_core.errors import DataError


@pytest.fixture(scope="module")
def workers() -> Iterator[RecordingWorkers]:
    with RecordingWorkers(2, print) as started:
        yield started


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings: raw, one that goes on where it stood still, a damaged one, and another camera."""
    folder = tmp_path_factory.mktemp("drives")
    write_made_bag(folder / "a", (street(8 * n) for n in range(24)), hz=4)
    write_made_bag(folder / "b", [street(8 * 22)] * 3 + [street(400 + 9 * n) for n in range(20)], hz=4)
    damaged = write_made_bag(folder / "c", (street(900 + 7 * n) for n in range(24)), hz=4)
    (file,) = damaged.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 5])
    write_made_bag(folder / "d", (street(5 * n) for n in range(20)), hz=4, topic="/rear", jpeg=True)
    return folder


def _open(folder: Path) -> Recordings:
    return Recordings.open([folder], several=True)


def _plain(found: Scan) -> bytes:
    """All of a scan but its pictures, as bytes."""
    cameras = [
        (
            (entry.topic, entry.message_type, entry.encodings, entry.sizes),
            (entry.stamps_ns.tobytes(), entry.recording_of.tobytes()),
            [(frame.key, frame.stamp_ns, frame.recording, frame.cause) for frame in entry.frames],
            [frame.quality and (repr(frame.quality), frame.quality.descriptor.tobytes()) for frame in entry.frames],
        )
        for entry in found.cameras
    ]
    rest = (found.recordings, found.topics, found.salvage, found.remarks)
    return repr((cameras, rest)).encode()


def test_two_processes_measure_what_one_does_bit_for_bit(drives: Path, workers: RecordingWorkers) -> None:
    alone, several = _open(drives), _open(drives)
    counts: list[tuple[int, int]] = []

    one, two = scan(alone), parallel_scan(several, workers, progress=lambda *count: counts.append(count))

    assert len(one.salvage) == 1
    assert _plain(one) == _plain(two)
    assert several.remarks == alone.remarks
    assert counts[-1][0] == counts[-1][1] == sum(span.images for span in one.recordings)


def test_two_processes_choose_and_write_the_frames_that_one_does_byte_by_byte(
    drives: Path, workers: RecordingWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL", reason="frames of different sizes are compared by Pillow")
    used: list[str] = []
    run = workers.run
    monkeypatch.setattr(workers, "run", lambda task, *rest: used.append(task.__name__) or run(task, *rest))
    monkeypatch.setattr(WorkerChoice, "open", lambda self, say: nullcontext(workers))

    one, two = (_chosen_from(drives, tmp_path / f"{count}", WorkerChoice(count)) for count in (1, 2))

    assert used == ["_scan_part", "_write_part"]
    assert len({path.parent for path in one}) >= 3
    assert one == two


def test_a_cluster_of_which_a_worker_is_killed_chooses_and_writes_the_frames_that_one_process_does(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("PIL", reason="frames of different sizes are compared by Pillow")
    from local_cluster import local_cluster

    with local_cluster(2) as cluster:
        victims = [worker.pid for worker in cluster.workers.values()]
        killed: list[str] = []

        def kill_one(what: str, done: int, total: int) -> None:
            if done and what not in killed:  # while recordings are scanned, and again while frames are written
                killed.append(what)
                os.kill(victims.pop(), signal.SIGKILL)

        monkeypatch.chdir(drives.parent)  # the workers have folders of their own
        there = WorkerChoice(dask=cluster.scheduler_address)
        two = _chosen_from(Path(drives.name), tmp_path / "2", there, kill_one)
    one = _chosen_from(drives, tmp_path / "1", WorkerChoice())

    assert killed == ["images scanned", "frames written"]
    assert one == two


def test_frames_that_workers_write_elsewhere_are_missed_in_a_sentence(drives: Path, tmp_path: Path) -> None:
    class Elsewhere(RecordingWorkers):
        def run(self, task: Any, jobs: Any, progress: Any = None) -> Any:
            return super().run(task, jobs, progress) if task.__name__ == "_scan_part" else iter([(0, set())])

    class Choice(WorkerChoice):
        def open(self, say: Any) -> Any:
            return Elsewhere(2, say)

    with pytest.raises(DataError, match=rf"^\d+ frames that workers wrote to '{tmp_path}/1' are not there"):
        _chosen_from(drives, tmp_path / "1", Choice(2))
    assert not (tmp_path / "1" / "selection.json").exists()


def _chosen_from(
    drives: Path, folder: Path, workers: WorkerChoice, count: Callable[[str, int, int], None] = lambda *_: None
) -> dict[Path, bytes]:
    """The files that are written of the drives."""
    config = SelectionConfig(budget=9, held_out_budget=6, neighbours=6)
    choose_frames([drives], (), folder, config, print, count, workers=workers)
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_pictures_are_as_many_as_asked_for_and_of_all_recordings(drives: Path, workers: RecordingWorkers) -> None:
    (front, _) = parallel_scan(_open(drives), workers, pictures=4).cameras

    assert 4 <= len(front.pictures) < 8
    recordings = {int(front.recording_of[picture.number]) for picture in front.pictures}
    assert len(recordings) == 3
    assert {picture.number for picture in front.pictures} <= {frame.number for frame in front.frames}


def test_no_frame_travels_between_processes(drives: Path) -> None:
    parts = _open(drives).parts()

    assert max(len(pickle.dumps(part)) for part in parts) < 20_000


def test_pixels_of_16_bits_without_a_range_are_scanned_as_by_one_process(
    tmp_path: Path, workers: RecordingWorkers
) -> None:
    for place, highest in enumerate((900, 4000)):
        _write_deep(tmp_path / f"{place}", highest, START_NS + place * 60 * 10**9)
    alone, several = _open(tmp_path), _open(tmp_path)

    one, two = scan(alone), parallel_scan(several, workers)

    assert several.range_grows
    assert _plain(one) == _plain(two)
    assert alone.value_remarks == several.value_remarks


def _write_deep(path: Path, highest: int, start_ns: int) -> None:
    kind = "sensor_msgs/msg/CompressedImage"
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/deep", kind, typestore=STORE)
        for number in range(6):
            stamp = start_ns + number * 10**9
            grey = street(9 * number)[..., 0].astype(np.uint16) * (highest // 255)
            time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=0)
            header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
            data = cv2.imencode(".png", grey)[1].reshape(-1)
            message = STORE.types[kind](header=header, format="mono16; png compressed", data=data)
            writer.write(connection, stamp, STORE.serialize_cdr(message, kind))
