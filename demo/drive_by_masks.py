"""Drive a simulated robot down a street by what the nodes make of masks: docs/robot/nav2.md.

    python demo/drive_by_masks.py --out runs/drive_by_masks       drives.jpg and drives.json

The street is drawn, and its pixels tell their classes to a model made for it: what is tried is the way from masks to a
costmap, not a model. Needs ROS 2 for Python (make demo), onnx and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from street_drive.drive import Drive

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "support"))

from street_demo.environment import child_environment  # noqa: E402

from hrda_core.standard_streams import with_streams  # noqa: E402

LAYER = ROOT / "config" / "nav2" / "obstacle_layer.yaml"
PROFILE = ROOT / "config" / "fastdds_large_images.xml"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 where every drive ended as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= child_environment(Path(folder), PROFILE)
        import rclpy

        rclpy.init()
        try:
            return _drive_all(Path(folder), options.out)
        finally:
            rclpy.try_shutdown()


def _drive_all(folder: Path, out: Path) -> int:
    from street_drive.drive import WAYS, drive
    from street_drive.graph import Graph
    from street_drive.picture import draw_drives
    from street_drive.world import Camera
    from tiny_bundle import write_tiny_bundle

    camera, drives = Camera(), {}
    model = write_tiny_bundle(folder / "model")
    with Graph(folder, model, camera, {"segment_node": {"backend": "onnx"}}) as graph:
        for name in WAYS:
            drives[name] = drive(name, graph, LAYER, camera)
            _say(name, drives[name])
        drives["nothing"] = drive("obstacles", graph, LAYER, camera, blind=True)
        _say("nothing", drives["nothing"])
    draw_drives(drives, out / "drives.jpg")
    figures = {
        name: {
            "end": each.end,
            "seconds": round(each.way[-1][1], 2),
            "clearance_m": round(each.clearance, 3),
            "off_road_m": round(each.off_road, 3),
        }
        for name, each in drives.items()
    }
    (out / "drives.json").write_text(json.dumps(figures, indent=1) + "\n")
    wanted = dict.fromkeys(WAYS, "reached") | {"nothing": "touched"}
    return 0 if {name: each.end for name, each in drives.items()} == wanted else 1


def _say(name: str, done: Drive) -> None:
    print(
        f"driven by {name}: {done.end} after {done.way[-1][1]:.1f} s, {max(done.clearance, 0.0):.2f} m from things at "
        f"least, {max(done.off_road, 0.0):.2f} m beside the road at most",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(with_streams(main, "drive_by_masks"))
