"""`hrda bag info PATH...`: shows what recordings hold, without ROS and whatever state they are in.

hrda bag info drive/                                      # topics, rates, gaps, light of every camera
hrda bag info drive.mcap --topic /camera/front --out drive.html       # with contact sheet and curves
hrda bag info drives/ --json drives.json                  # all recordings below a folder, machine-readable
hrda bag info drives/ --workers 4                         # four recordings at a time
hrda bag info drives/ --dask tcp://host:8786              # by the workers of a cluster
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrda_core.data.recordings.worker_choice import WorkerChoice, Workers
from hrda_core.errors import RecipeError, require
from hrda_core.memory import keep_big_buffers
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.whole_files import write_json

from .arguments import parse_request
from .progress import ProgressPrinter

if TYPE_CHECKING:
    from hrda_core.data.recordings.recordings import Recordings
    from hrda_core.data.scan.scan import Scan

__all__ = ["InfoRequest", "main"]

_USAGE = """usage: hrda bag info PATH... [options]

  info  topics, rates, gaps, light and sharpness over time, a contact sheet

'hrda bag info --help' lists the request."""


@dataclass(frozen=True)
class InfoRequest:
    """The recordings to examine, and how closely.

    Attributes:
        paths: rosbag2 folders, .mcap, .db3, either with .zstd, ROS 1 .bag, or folders that hold several
        topic: image topics; default: all
        max_megapixels: pictures whose header states more million pixels are not decoded
        workers: processes that read recordings side by side
        dask: address of a dask.distributed scheduler whose workers read the recordings instead
        analyse_hz: frames a second that are decoded and measured
        out: write a page with contact sheet and curves, HTML
    """

    paths: tuple[Path, ...]
    topic: tuple[str, ...] = ()
    max_megapixels: int = MAX_MEGAPIXELS
    workers: int = 1
    dask: str = ""
    analyse_hz: float = 2.0
    out: Path | None = None

    def __post_init__(self) -> None:
        check_limit(self.max_megapixels)
        WorkerChoice(self.workers, self.dask)


def main(argv: list[str]) -> int:
    """Run one subcommand. Return the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if argv[0] != "info":
        raise RecipeError(f"'{argv[0]}' is no subcommand of bag; write: hrda bag info PATH...")
    request, json = parse_request(
        InfoRequest, argv[1:], verb="bag info", about="Tell what recordings hold.", positional="paths"
    )
    keep_big_buffers()
    summary = _info(request)
    if json:
        write_json(json, summary)
    return 0


def _info(request: InfoRequest) -> dict[str, Any]:
    """Look into the recordings, print and draw; what was found, as plain values."""
    from hrda_core.data.recordings.recording_files import find_recordings
    from hrda_core.data.recordings.recordings import Recordings
    from hrda_core.data.scan.summary import summarise
    from hrda_core.report.bag_page import SHEET_PICTURES, write_bag_page
    from hrda_core.report.bag_text import bag_text

    if request.out:  # what the page needs shall not be missed after minutes of reading
        require("jinja2", "train")
        require("matplotlib", "train")
    choice = WorkerChoice(request.workers, request.dask)
    paths, pictures = choice.paths(request.paths), SHEET_PICTURES if request.out else 0
    with ProgressPrinter() as printer, choice.open(printer.say) as workers:
        recordings = Recordings.open(paths, request.topic, every=True, max_megapixels=request.max_megapixels)
        helpers = workers if choice.help_with(len(recordings.parts())) else None
        found = _scan(recordings, helpers, request.analyse_hz, pictures, printer.counter("images"))
    summary = summarise(found, find_recordings(paths))
    print(bag_text(summary))
    if request.out:
        print(f"\npage: {write_bag_page(request.out, summary, found)}")
    return summary


def _scan(
    recordings: Recordings,
    workers: Workers | None,
    analyse_hz: float,
    pictures: int,
    progress: Callable[[int, int], None],
) -> Scan:
    from hrda_core.data.scan.parallel_scan import parallel_scan
    from hrda_core.data.scan.scan import scan

    if workers is None:
        return scan(recordings, analyse_hz=analyse_hz, pictures=pictures, progress=progress)
    return parallel_scan(recordings, workers, analyse_hz=analyse_hz, pictures=pictures, progress=progress)
