"""The demo from start to end: check, measure, play, draw, sum up."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from hrda_core.inference import Bundle
from hrda_core.whole_files import replaced_folder, write_json
from street_demo.environment import child_environment
from street_demo.errors import DemoError
from street_demo.interruption import Interruption
from street_demo.node_report import NodeReport
from street_demo.pacing import choose_rate, measure_inference_s
from street_demo.paths import FASTDDS_PROFILE
from street_demo.pictures import write_pictures
from street_demo.progress import Progress
from street_demo.recording import Recording, open_recording
from street_demo.session import SessionPlan, SessionRecord, run_session
from street_demo.summary import Summary, summarize, table

__all__ = ["run_stages"]

STAGES = 4
MARKER = "summary.json"
"""A folder with this file is an earlier result of the demo and may be replaced."""
_ROS_IMPORTS = "import rclpy, rclpy.signals, sensor_msgs.msg, std_msgs.msg, diagnostic_msgs.msg"


def run_stages(options: argparse.Namespace, interruption: Interruption) -> bool:
    """Run the demo with the options of run_demo.py; return whether all counts agree.

    Raises:
        HrdaError, ChildFailedError, Interrupted: see street_demo/errors.py.
    """
    progress = Progress(STAGES)
    with contextlib.closing(progress), replaced_folder(options.out, MARKER) as work:
        work.mkdir()
        progress.stage(f"checking the bag, the model {options.model.name} and ROS")
        recording = open_recording(options.bag)
        bundle = Bundle.open(options.model)
        _check_ros(work)
        interruption.check()
        plan = _plan(options, recording, progress)
        interruption.check()
        record = run_session(plan, work, progress, interruption)
        progress.stage("drawing the contact sheet and the video")
        summary = _summary(plan, record, bundle)
        sheet, video = write_pictures(recording, work, bundle.label_space, bundle.name)
        interruption.check()
        shutil.rmtree(work / "overlay")
        write_json(work / MARKER, summary.to_dict())
    _show(summary, options.out, [sheet.name, video.name], progress)
    return summary.passed


def _check_ros(work: Path) -> None:
    """Import ROS the way the children will.

    Raises:
        DemoError: it does not import.
    """
    environment = child_environment(work, FASTDDS_PROFILE)
    # A session of its own, as for the other processes: Ctrl-C must not look like a failed import.
    tried = subprocess.run(
        [sys.executable, "-c", _ROS_IMPORTS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DemoError(
            f"ROS 2 for Python does not import in {sys.executable} ({reason}); run 'make demo', which sets up an "
            f"environment with the ROS wheels, or take the way for a ROS distribution in docs/robot/demo.md"
        )


def _plan(options: argparse.Namespace, recording: Recording, progress: Progress) -> SessionPlan:
    """Choose the camera's rate, by a measurement unless the user gave it."""
    frames = len(recording.evenly_spaced(options.max_frames))
    rate = options.rate
    if rate is None:
        inference_s = measure_inference_s(options.model, next(recording.images()).decode())
        rate = choose_rate(inference_s, frames)
        progress.say(f"      one inference takes {inference_s * 1e3:.0f} ms here: the camera will run at {rate:.1f} Hz")
    return SessionPlan(recording, options.model, rate, frames, options.max_frames)


def _summary(plan: SessionPlan, record: SessionRecord, bundle: Bundle) -> Summary:
    report = NodeReport.read(record.diagnostics)
    return summarize(
        played=record.played,
        masks=record.masks,
        repeated=record.repeated,
        counters=report.counters,
        node_exit_code=record.node_exit_code,
        inference_ms_p50=report.inference_ms_p50,
        model=bundle.name,
        backend=report.backend,
        rate_hz=plan.rate_hz,
    )


def _show(summary: Summary, out: Path, pictures: list[str], progress: Progress) -> None:
    progress.say("\n" + table(summary) + "\n")
    for name in (*pictures, "masks", MARKER):
        progress.say(f"  {out / name}")
