"""The cameras of a node that serves several: their names, and the parameters of each. Needs no rclpy.

cameras: front, rear
front.image: /front/image_raw            # what is left out comes from the parameters of the node
rear.image_transport: compressed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from hrda_core.errors import HrdaError, ImageError, shown
from hrda_core.messages.value_range import read_range
from hrda_ros.settings.camera_names import camera_names
from hrda_ros.settings.parameter_table import CONFIGURE, ParameterTable, parameter

__all__ = [
    "TRANSPORTS",
    "CameraSettings",
    "cameras_refusal",
    "check_topics",
    "range_refusal",
    "table_of",
]

TRANSPORTS = ("raw", "compressed")

_MOST_CAMERAS = 32
_LONGEST_NAME = 64


def range_refusal(text: str) -> str:
    """Return what is wrong with a `value_range`, or nothing."""
    try:
        read_range(text)
    except ImageError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class CameraSettings:
    """Values of the parameters of one camera."""

    image: str = parameter("", CONFIGURE, "Its topic, which remapping changes too; empty = NAME/image_raw.")
    image_transport: str = parameter(
        "", CONFIGURE, "As the node's image_transport, for this camera; empty = the node's.", choices=("", *TRANSPORTS)
    )
    value_range: str = parameter(
        "", CONFIGURE, "As the node's value_range, for this camera; empty = the node's.", check=range_refusal
    )


def table_of(camera: str) -> ParameterTable[CameraSettings]:
    """Return the parameters of a camera: `CAMERA.image` and so on; those of the camera of a node without names have
    no parameters of their own."""
    return ParameterTable(CameraSettings, prefix=f"{camera}.")


def cameras_refusal(text: str, taken: Collection[str]) -> str:
    """Return what is wrong with the value of `cameras`, or nothing.

    Args:
        text: names with commas between; empty = one camera without a name.
        taken: names that no camera can have, because parameters have them.
    """
    if not text:
        return ""
    try:
        names = camera_names(text)
    except ValueError as error:
        return str(error)
    if len(names) > _MOST_CAMERAS:
        return f"{len(names)} cameras are named, and a node serves {_MOST_CAMERAS} at most; start several nodes"
    for name in names:
        if len(name) > _LONGEST_NAME:  # the middleware refuses topics above 255, in a way that ends the node
            return f"the name '{shown(name, 20)}' has {len(name)} letters; give one of {_LONGEST_NAME} at most"
        if "/" in name:
            return f"'{name}' cannot be a camera of one node: letters, digits and _ only, as in front_left"
        if name in taken:
            return f"camera '{name}' has the name of a parameter of the node; give it another one"
    return ""


def check_topics(topics: dict[str, str], outputs: Collection[str] = ()) -> None:
    """Refuse a camera on a topic of the node's own, two cameras on one topic, and two outputs on one.

    The one would make masks of masks without end, the others would share the turns for the same pictures.

    Args:
        topics: camera to its resolved topic.
        outputs: resolved topics of the pictures that the node publishes.

    Raises:
        HrdaError: there are such.
    """
    twice = [topic for topic, count in Counter(outputs).items() if count > 1]
    if twice:
        raise HrdaError(f"several outputs are remapped to '{twice[0]}'; give each a topic of its own")
    seen: dict[str, str] = {}
    for camera, topic in topics.items():
        if topic in outputs:
            cure = f"set the parameter {camera}.image" if camera else "remap image"
            raise HrdaError(
                f"the images come from '{topic}', which this node publishes itself: it would make masks of its masks; "
                f"{cure} to the topic of the camera, and remap no output to that"
            )
        if topic in seen:
            raise HrdaError(
                f"cameras '{seen[topic]}' and '{camera}' both listen to '{topic}'; give each a topic of its own with "
                f"the parameters {seen[topic]}.image and {camera}.image"
            )
        seen[topic] = camera
