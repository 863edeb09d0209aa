"""The parameters of `ground_node`. docs/robot/space.md holds the same table for readers; a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass

from hrda_core.errors import shown
from hrda_ros.settings.parameter_table import NOW, START, ParameterTable, parameter

__all__ = ["GROUND_PARAMETERS", "GroundSettings"]


_LONGEST_FRAME = 255


def _frame_problem(frame: str) -> str:
    """Say what is wrong with the name of a frame; empty where tf can have it."""
    if 0 < len(frame) <= _LONGEST_FRAME and frame.isprintable() and " " not in frame and not frame.startswith("/"):
        return ""
    return (
        f"'{shown(frame)}' is no frame of tf; expected up to {_LONGEST_FRAME} letters, without blanks or a first slash"
    )


@dataclass(frozen=True)
class GroundSettings:
    """Values of all parameters."""

    drivable: str = parameter(
        "road",
        NOW,
        "Classes that can be driven on, names with commas between. The ground of all other classes is `other`.",
    )
    frame: str = parameter(
        "base_footprint",
        START,
        "Frame of the robot in which grid and scan are given; its plane z = 0 is the ground.",
        check=_frame_problem,
    )
    use_tf: bool = parameter(
        False, START, "Take the pose of the camera from tf, the frame of the mask in `frame`; needs tf2_ros."
    )
    height_m: float = parameter(
        0.0, NOW, "Height of the camera above the ground, metres; needed where use_tf is false.", limits=(0.0, 20.0)
    )
    pitch_deg: float = parameter(
        0.0, NOW, "How far the camera looks down, degrees; 0 = to the horizon, negative = up.", limits=(-60.0, 89.0)
    )
    ahead_m: float = parameter(
        0.0, NOW, "How far the camera is ahead of the origin of `frame`, metres.", limits=(-20.0, 20.0)
    )
    range_m: float = parameter(
        10.0, NOW, "Farthest ground that counts, from the point below the camera, metres.", limits=(0.5, 50.0)
    )
    resolution_m: float = parameter(0.1, NOW, "Side of a cell of the grid, metres.", limits=(0.02, 2.0))
    beams: int = parameter(
        720, NOW, "Beams of the scan, all around; those that the camera does not see are NaN.", limits=(36, 7200)
    )
    keep: int = parameter(30, START, "Messages of a topic that wait for those of the others, at most.", limits=(1, 300))


GROUND_PARAMETERS = ParameterTable(GroundSettings)
