"""The whole demo with a model that needs no training: real node, real Fast DDS, separate processes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_demo.paths import BAG, DEMO
from street_demo.recording import open_recording
from tiny_bundle import expected_labels

from hrda_core.data.recordings.recordings import Recordings
from hrda_core.inference.overlay import blend, colorize
from hrda_core.labels import CITYSCAPES19

FRAMES = 6
SCRIPT = str(DEMO / "run_demo.py")

_RCLPY = importlib.util.find_spec("rclpy")
needs_ros = pytest.mark.skipif(
    _RCLPY is None or not str(_RCLPY.origin).startswith(sys.prefix),
    reason="rclpy is not installed in this Python environment; the demo keeps a sourced distribution out",
)


def demo(*arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.fixture(scope="module")
def result(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Output folder and printed text of one good run."""
    out = tmp_path_factory.mktemp("demo") / "out"
    # So slowly that also on a busy machine no frame waits for the one before.
    done = demo("--model", str(tiny_model), "--out", str(out), "--max-frames", str(FRAMES), "--rate", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    yield out, done.stdout
    shutil.rmtree(out)


@needs_ros
def test_every_frame_comes_back_as_its_mask(result: tuple[Path, str]) -> None:
    recording = open_recording(BAG)
    chosen = recording.evenly_spaced(FRAMES)
    frames = {image.stamp_ns: image.decode() for image in recording.images() if image.stamp_ns in chosen}
    masks = {image.stamp_ns: image.decode()[..., 0] for image in Recordings.open([result[0] / "masks"]).images()}
    assert list(masks) == list(chosen)
    for stamp, labels in masks.items():
        np.testing.assert_array_equal(labels, expected_labels(frames[stamp]))


@needs_ros
def test_mask_bag_holds_label_info_and_diagnostics(result: tuple[Path, str]) -> None:
    text = (result[0] / "masks" / "metadata.yaml").read_text("utf-8")
    for topic in ("/segment_node/labels", "/segment_node/label_info", "/diagnostics"):
        assert topic in text


@needs_ros
def test_summary_accounts_for_every_frame(result: tuple[Path, str]) -> None:
    summary = json.loads((result[0] / "summary.json").read_text("utf-8"))
    assert summary["passed"], summary["checks"]
    assert summary["frames_in"] == FRAMES
    assert summary["frames_in"] == summary["published"] + sum(summary["dropped"].values())
    assert summary["model"] == "tiny"
    assert "onnxruntime" in summary["backend"]
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    assert summary["inference_ms_p50"] > 0


@needs_ros
def test_pictures_read_back(result: tuple[Path, str]) -> None:
    assert cv2.imread(str(result[0] / "contact_sheet.png")).shape[1] > 1000
    video = cv2.VideoCapture(str(result[0] / "overlay.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES


@needs_ros
def test_video_shows_camera_beside_the_overlay_of_the_node(result: tuple[Path, str]) -> None:
    recording = open_recording(BAG)
    stamp = recording.evenly_spaced(FRAMES)[0]
    rgb = next(image.decode() for image in recording.images() if image.stamp_ns == stamp)
    overlay = blend(rgb, colorize(expected_labels(rgb), CITYSCAPES19.color_table()), 0.5)
    _, frame = cv2.VideoCapture(str(result[0] / "overlay.mp4")).read()
    height, width = rgb.shape[:2]
    for panel, expected in ((frame[:height, :width], rgb), (frame[:height, width:], overlay)):
        # Averaged over blocks, because the codec stores colours at half resolution.
        seen, meant = (cv2.resize(picture, (30, 22), interpolation=cv2.INTER_AREA) for picture in (panel, expected))
        difference = np.abs(seen[..., ::-1].astype(int) - meant.astype(int))
        assert difference[3:].mean() < 6  # below the caption


@needs_ros
def test_output_is_complete_and_names_its_files(result: tuple[Path, str]) -> None:
    out, printed = result
    assert sorted(path.name for path in out.iterdir()) == [
        "contact_sheet.png", "logs", "masks", "overlay.mp4", "summary.json",
    ]  # fmt: skip
    assert f"{FRAMES}/{FRAMES} frames played, {FRAMES} masks received" in printed
    assert "camera to mask" in printed


@needs_ros
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_ends_all_processes_and_leaves_nothing(
    tiny_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    # The children carry this mark in their environment, so they are found without guessing by name.
    environment = {**os.environ, "HRDA_DEMO_TEST": str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, SCRIPT, "--model", str(tiny_model), "--out", str(out), "--rate", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if "frames played" in line:
            break
    assert len(marked_processes(str(tmp_path))) >= 4
    running.send_signal(number)
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 130
    assert complaint.strip() == "run_demo: interrupted; all processes are stopped and nothing was left behind"
    assert not marked_processes(str(tmp_path))
    assert not list(tmp_path.iterdir())


@needs_ros
def test_killed_demo_takes_its_processes_along(tiny_model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HRDA_DEMO_TEST": str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, SCRIPT, "--model", str(tiny_model), "--out", str(tmp_path / "out"), "--rate", "2"],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if "frames played" in line:
            break
    running.kill()
    running.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while marked_processes(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not marked_processes(str(tmp_path))


def marked_processes(mark: str) -> list[int]:
    """Ids of the living processes with this mark in their environment."""
    wanted = f"HRDA_DEMO_TEST={mark}".encode()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and wanted in environ(entry)]


def environ(process: Path) -> bytes:
    """Environment of a process; empty for one that has ended meanwhile or is not ours."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def test_missing_model_is_one_sentence(tmp_path: Path) -> None:
    done = demo("--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "is not a folder; give the path of a bundle" in done.stderr
    assert not list(tmp_path.iterdir())


def test_broken_bundle_is_one_sentence_that_names_the_file(tiny_model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    with (broken / "model.onnx").open("r+b") as file:
        file.write(b"damage")
    done = demo("--model", str(broken), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "model.onnx" in done.stderr


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--rate", "nan"], ["--max-frames", "-3"]])
def test_senseless_option_is_refused(arguments: list[str]) -> None:
    done = demo(*arguments)
    assert done.returncode == 2
    assert "must be above 0" in done.stderr
