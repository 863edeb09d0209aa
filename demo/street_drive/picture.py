"""The ways of several drives from above, and what the camera sees at their begin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, Rectangle

from hrda_core.labels import CITYSCAPES19
from street_drive.drive import GOAL, RADIUS, STREET, Drive
from street_drive.world import Box, Camera, Pose, class_id

__all__ = ["draw_drives"]

_COLORS = {"obstacles": "#1f77b4", "scan": "#2ca02c", "grid": "#9467bd", "nothing": "#d62728"}
_TOLD = {
    "obstacles": "~/obstacles and ~/points of cloud_node",
    "scan": "~/scan of ground_node",
    "grid": "~/grid of ground_node",
    "nothing": "nothing: what the nodes say is not used",
}


def draw_drives(drives: Mapping[str, Drive], path: Path) -> None:
    """Write a picture of drives, by the name of what they were driven by."""
    figure, (seen, above) = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=(1, 2.6), layout="constrained")
    rgb, _ = STREET.see(Camera(), Pose(0.0, 0.0, 0.0), 0.0)
    seen.imshow(CITYSCAPES19.color_table()[rgb[..., 0] // 16])
    seen.set_title("classes that the camera sees at the start", fontsize=9)
    seen.axis("off")
    for half, name in ((4.5, "terrain"), (STREET.sidewalk, "sidewalk"), (STREET.road, "road")):
        above.axhspan(-half, half, color=_paint(name), alpha=0.45, linewidth=0)
    for thing in STREET.things:
        if isinstance(thing, Box):
            corner, size = (thing.x[0], thing.y[0]), (thing.x[1] - thing.x[0], thing.y[1] - thing.y[0])
            above.add_patch(Rectangle(corner, *size, color=_paint(thing.name), zorder=2))
        else:
            above.add_patch(Circle((thing.x, thing.y), thing.radius, color=_paint(thing.name), zorder=2))
            if any(thing.velocity):
                above.annotate("", (thing.x, thing.y - 2.2), (thing.x, thing.y), arrowprops={"arrowstyle": "->"})
    for name, done in drives.items():
        x, y = [pose.x for pose, _ in done.way], [pose.y for pose, _ in done.way]
        above.plot(x, y, color=_COLORS[name], linewidth=2, label=_TOLD[name], zorder=3)
        above.add_patch(Circle((x[-1], y[-1]), RADIUS, fill=False, color=_COLORS[name], linewidth=2, zorder=3))
    above.plot(*GOAL, "k*", markersize=12, zorder=4)
    above.set(xlim=(-1, 17.5), ylim=(-5, 5), aspect="equal", xlabel="m", ylabel="m")
    above.legend(loc="lower left", fontsize=7, ncols=2)
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 85})
    plt.close(figure)


def _paint(name: str) -> tuple[float, ...]:
    return tuple(part / 255 for part in CITYSCAPES19.color_table()[class_id(name)])
