"""Cut the stretches of one light out of the demo's recording, as a drive for docs/recordings/adapt_on_your_bags.md.

    python demo/make_drive.py --light dusk --out runs/tutorial/dusk

Serialized messages, JPEG bytes and stamps stay as they were recorded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from street_demo.errors import DemoError
from street_demo.paths import BAG, DEMO
from street_demo.recording import open_recording

from hrda_core.data.recordings.mask_recording import RecordingWriter
from hrda_core.errors import HrdaError
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import replaced_folder

LIGHTS = ("day", "dusk")
LICENCE = "CC BY-NC 4.0, video frames of CamVid; see NOTICE.md"


def write_drive(light: str, out: Path, bag: Path = BAG) -> int:
    """Write the drive and return its number of frames.

    Raises:
        HrdaError: `out` exists or cannot be written, or the recording cannot be read or has no such stretch.
    """
    if out.exists():
        raise DemoError(f"'{out}' exists; delete it, or give another folder with --out")
    recording = open_recording(bag)
    frames = [image for image in recording.images() if recording.light_at(image.stamp_ns) == light]
    if not frames:
        raise DemoError(f"the recording '{bag}' has no stretch of light '{light}'; give the demo's with --bag")
    with replaced_folder(out, "metadata.yaml") as folder:
        with RecordingWriter(folder, compress=False, about={"licence": LICENCE}) as writer:
            for image in frames:
                writer.write(image.topic, image.message_type, image.stamp_ns, image.raw)
        shutil.copyfile(DEMO / "NOTICE.md", folder / "NOTICE.md")
    return len(frames)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--light", choices=LIGHTS, default="dusk", help="which stretches (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="bag folder to write")
    parser.add_argument("--bag", type=Path, default=BAG, help="recording to cut (default: the demo's)")
    options = parser.parse_args(argv)
    try:
        frames = write_drive(options.light, options.out, options.bag)
    except HrdaError as error:
        print(f"make_drive: {error}", file=sys.stderr)
        return 2
    print(f"{frames} frames: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(with_streams(main, "make_drive"))
