"""Cut the stretches of one light out of the demo's recording, as a drive for docs/recordings/adapt_on_your_bags.md.

    python demo/make_drive.py --light dusk --out runs/tutorial/dusk

Serialized messages, JPEG bytes and stamps stay as they were recorded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from street_demo.errors import DemoError
from street_demo.paths import BAG, DEMO
from street_demo.recording import IMAGE_TYPE, open_recording

LIGHTS = ("day", "dusk")
LICENCE = "CC BY-NC 4.0, video frames of CamVid; see NOTICE.md"


def write_drive(light: str, out: Path, bag: Path = BAG) -> int:
    """Write the drive and return its number of frames.

    Raises:
        DemoError: `out` exists, or the recording cannot be read or has no such stretch.
    """
    if out.exists():
        raise DemoError(f"'{out}' exists; delete it, or give another folder with --out")
    recording = open_recording(bag)
    frames = [(stamp, raw) for stamp, raw in recording.messages() if recording.light_at(stamp) == light]
    if not frames:
        raise DemoError(f"the recording '{bag}' has no stretch of light '{light}'; give the demo's with --bag")
    # The storage file is named after its folder, so the folder has its name from the start, in another one.
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    # Version 8 is what rosbag2 of Humble, Jazzy and Kilted all read.
    writer = Writer(part / out.name, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_custom_data("licence", LICENCE)
    with writer:
        connection = writer.add_connection(recording.topic, IMAGE_TYPE, typestore=get_typestore(Stores.ROS2_KILTED))
        for stamp, raw in frames:
            writer.write(connection, stamp, raw)
    shutil.copyfile(DEMO / "NOTICE.md", part / out.name / "NOTICE.md")
    (part / out.name).replace(out)
    part.rmdir()
    return len(frames)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--light", choices=LIGHTS, default="dusk", help="which stretches (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="bag folder to write")
    parser.add_argument("--bag", type=Path, default=BAG, help="recording to cut (default: the demo's)")
    options = parser.parse_args(argv)
    try:
        frames = write_drive(options.light, options.out, options.bag)
    except DemoError as error:
        print(f"make_drive: {error}", file=sys.stderr)
        return 2
    print(f"{frames} frames: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
