"""The parameters of `cloud_node`. docs/robot/space.md holds the same table for readers; a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass

from hrda_ros.settings.parameter_table import NOW, START, ParameterTable, parameter

__all__ = ["CLOUD_PARAMETERS", "CloudSettings"]


@dataclass(frozen=True)
class CloudSettings:
    """Values of all parameters."""

    classes: str = parameter(
        "", NOW, "Classes whose points are in ~/points, names with commas between; empty = all. ~/obstacles ignores it."
    )
    no_obstacle: str = parameter(
        "road, sidewalk, terrain, sky",
        NOW,
        "Classes whose points are no obstacles, names with commas between. The points of all other classes are.",
    )
    stride: int = parameter(
        2,
        NOW,
        "Every how many pixels, in both directions, there is a point. nav2's semantic segmentation layer needs 1.",
        limits=(1, 64),
    )
    min_depth_m: float = parameter(0.1, NOW, "Nearest depth that counts, metres.", limits=(0.0, 1000.0))
    max_depth_m: float = parameter(20.0, NOW, "Farthest depth that counts, metres.", limits=(0.0, 1000.0))
    use_confidence: bool = parameter(
        False,
        START,
        "Pair with the topic `confidence` too, for the field of that name. Without it the field is 0. segment_node "
        "publishes it with publish_confidence.",
    )
    keep: int = parameter(
        30,
        START,
        "Messages of a topic that wait for those of the others, at most: depth comes before its mask by the time of "
        "inference.",
        limits=(1, 300),
    )


CLOUD_PARAMETERS = ParameterTable(CloudSettings)
