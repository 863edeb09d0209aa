"""Cut demo/street_day_dusk from two CamVid drives that are already written as rosbag2 bags.

    python demo/make_demo_bag.py DAY_BAG DUSK_BAG [--out demo/street_day_dusk]

Frames are copied as they were recorded: serialized messages, JPEG bytes and stamps stay as they are. Both drives start
at the same nominal time, so the stretches are chosen not to overlap; together they make one steady stream of 1 Hz.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from street_demo.errors import DemoError
from street_demo.paths import BAG, DEMO
from street_demo.recording import IMAGE_TYPE, STRETCHES_KEY, Stretch, open_recording

LICENCE = (
    "CC BY-NC 4.0. Video frames of CamVid: Brostow, Fauqueur, Cipolla, 'Semantic object classes in video: "
    "A high-definition ground truth database', Pattern Recognition Letters 30(2), 2009."
)


@dataclass(frozen=True)
class Cut:
    """Frames `first` to `last` (both included) of a drive.

    Attributes:
        light: `"day"` or `"dusk"`, also tells which of the two bags is read.
        source: name of the drive in CamVid.
    """

    light: str
    source: str
    first: int
    last: int


CUTS = (
    # A suburban road with a roundabout, verges, trees and a little traffic, partly against the sun.
    Cut("day", "CamVid 0006R0", 0, 31),
    # A shopping street at dusk: parked and moving cars, vans, cyclists, shop fronts. Hard for a day-time model.
    Cut("dusk", "CamVid 0001TP", 32, 61),
    # A car park: rows of cars, people on foot, zebra crossings, bollards, signs, parked bicycles.
    Cut("day", "CamVid 0006R0", 62, 100),
)


def write_bag(sources: dict[str, Path], out: Path) -> int:
    """Write the bag and return its number of frames.

    Raises:
        DemoError: a source bag cannot be read, or is shorter than a cut.
    """
    recordings = {light: open_recording(path) for light, path in sources.items()}
    messages = {light: list(recording.messages()) for light, recording in recordings.items()}
    pieces = [(cut, messages[cut.light][cut.first : cut.last + 1]) for cut in CUTS]
    for cut, piece in pieces:
        if len(piece) != cut.last + 1 - cut.first:
            raise DemoError(f"the {cut.light} bag has fewer than {cut.last + 1} frames; give the bag of {cut.source}")
    stretches = [Stretch(cut.light, cut.source, piece[0][0], piece[-1][0]) for cut, piece in pieces]
    # Version 8 is what rosbag2 of Humble, Jazzy and Kilted all read.
    writer = Writer(out, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_custom_data("licence", LICENCE)
    writer.set_custom_data(STRETCHES_KEY, json.dumps([asdict(stretch) for stretch in stretches]))
    with writer:
        connection = writer.add_connection(
            recordings["day"].topic, IMAGE_TYPE, typestore=get_typestore(Stores.ROS2_KILTED)
        )
        for _, piece in pieces:
            for stamp, raw in piece:
                writer.write(connection, stamp, raw)
    return sum(len(piece) for _, piece in pieces)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("day", type=Path, help="bag of the day drive")
    parser.add_argument("dusk", type=Path, help="bag of the dusk drive")
    parser.add_argument("--out", type=Path, default=BAG, help="bag folder to write (default: %(default)s)")
    options = parser.parse_args(argv)
    shutil.rmtree(options.out, ignore_errors=True)
    try:
        frames = write_bag({"day": options.day, "dusk": options.dusk}, options.out)
    except DemoError as error:
        print(f"make_demo_bag: {error}", file=sys.stderr)
        return 2
    shutil.copyfile(DEMO / "NOTICE.md", options.out / "NOTICE.md")
    print(f"{frames} frames, {sum(path.stat().st_size for path in options.out.iterdir()) / 1e6:.2f} MB: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
