"""`hrda bag info PATH...`: what recordings hold, without ROS and whatever state they are in.

hrda bag info drive/                                      # topics, rates, gaps, light of every camera
hrda bag info drive.mcap --topic /camera/front --out drive.html       # with contact sheet and curves
hrda bag info drives/ --json drives.json                  # all recordings below a folder, machine-readable
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrda_core.errors import RecipeError, require
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import write_json

from .arguments import parse
from .progress import ProgressPrinter

__all__ = ["main"]

_USAGE = """usage: hrda bag info PATH... [options]

  info  topics, rates, gaps, light and sharpness over time, a contact sheet

'hrda bag info --help' lists the options."""


def main(argv: list[str]) -> int:
    """Run one subcommand. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if argv[0] != "info":
        raise RecipeError(f"'{argv[0]}' is no subcommand of bag; write: hrda bag info PATH...")
    keep_big_buffers()
    return _info(parse(_info_parser(), argv[1:]))


def _info_parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda bag info", description="Tell what recordings hold.")
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        help="rosbag2 folders, .mcap, .db3, either with .zstd, ROS 1 .bag, or folders that hold several",
    )
    parser.add_argument("--topic", type=str, nargs="+", default=[], help="image topics; default: all")
    parser.add_argument("--analyse_hz", type=float, default=2.0, help="frames a second that are looked at")
    parser.add_argument("--out", type=Path, default=None, help="write a page with contact sheet and curves, HTML")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    return parser


def _info(options: Any) -> int:
    from hrda_core.data.recordings.recording_files import find_recordings
    from hrda_core.data.recordings.recordings import Recordings
    from hrda_core.data.scan.scan import scan
    from hrda_core.data.scan.summary import summarise
    from hrda_core.report.bag_page import SHEET_PICTURES, write_bag_page
    from hrda_core.report.bag_text import bag_text

    recordings = Recordings.open(options.paths, options.topic, several=True)
    pictures = SHEET_PICTURES if options.out else 0
    with ProgressPrinter() as printer:
        found = scan(recordings, analyse_hz=options.analyse_hz, pictures=pictures, progress=printer.counter("images"))
    summary = summarise(found, find_recordings(options.paths))
    print(bag_text(summary))
    if options.out:
        print(f"\npage: {write_bag_page(options.out, summary, found)}")
    if options.json:
        write_json(options.json, summary)
    return 0
