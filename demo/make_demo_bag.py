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

from street_demo.errors import DemoError
from street_demo.paths import BAG, DEMO
from street_demo.recording import STRETCHES_KEY, Stretch, open_recording

from hrda_core.data.recordings.mask_recording import RecordingWriter
from hrda_core.errors import HrdaError
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import replaced_folder

LICENCE = (
    "CC BY-NC 4.0. Video frames of CamVid: Brostow, Fauqueur, Cipolla, 'Semantic object classes in video: "
    "A high-definition ground truth database', Pattern Recognition Letters 30(2), 2009."
)


@dataclass(frozen=True)
class Cut:
    """Frames `first` to `last` (both included) of a drive.

    Attributes:
        light: `"day"` or `"dusk"`; it also tells which of the two bags is read.
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
        HrdaError: a source bag cannot be read or is shorter than a cut, or the bag cannot be written.
    """
    recordings = {light: open_recording(path) for light, path in sources.items()}
    images = {light: list(recording.images()) for light, recording in recordings.items()}
    pieces = [(cut, images[cut.light][cut.first : cut.last + 1]) for cut in CUTS]
    for cut, piece in pieces:
        if len(piece) != cut.last + 1 - cut.first:
            raise DemoError(f"the {cut.light} bag has fewer than {cut.last + 1} frames; give the bag of {cut.source}")
    stretches = [Stretch(cut.light, cut.source, piece[0].stamp_ns, piece[-1].stamp_ns) for cut, piece in pieces]
    about = {"licence": LICENCE, STRETCHES_KEY: json.dumps([asdict(stretch) for stretch in stretches])}
    with replaced_folder(out, "metadata.yaml") as folder:
        with RecordingWriter(folder, compress=False, about=about) as writer:
            for _, piece in pieces:
                for image in piece:
                    writer.write(recordings["day"].topic, image.message_type, image.stamp_ns, image.raw)
        shutil.copyfile(DEMO / "NOTICE.md", folder / "NOTICE.md")
    return sum(len(piece) for _, piece in pieces)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("day", type=Path, help="bag of the day drive")
    parser.add_argument("dusk", type=Path, help="bag of the dusk drive")
    parser.add_argument("--out", type=Path, default=BAG, help="bag folder to write (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        frames = write_bag({"day": options.day, "dusk": options.dusk}, options.out)
    except HrdaError as error:
        print(f"make_demo_bag: {error}", file=sys.stderr)
        return 2
    print(f"{frames} frames, {sum(path.stat().st_size for path in options.out.iterdir()) / 1e6:.2f} MB: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(with_streams(main, "make_demo_bag"))
