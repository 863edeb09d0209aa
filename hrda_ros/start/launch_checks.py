"""What the launch files look at before they start anything.

This loads little beside the standard library, so that `ros2 launch --show-args` stays quick.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from hrda_ros.settings.camera_names import camera_names
from hrda_ros.start.fastdds_profile import profile_variable

__all__ = [
    "camera_names",
    "camera_topic",
    "camera_topics",
    "check_arguments",
    "check_parameters_file",
    "ended_badly",
    "profile_variables",
    "rviz_remappings",
    "started_by_name",
    "view_of_compressed",
]

_OF_ROS2_LAUNCH = {"launch-prefix", "launch-prefix-filter"}  # `ros2 launch --launch-prefix` adds them itself


def started_by_name(file: str, command: Sequence[str]) -> bool:
    """Whether `ros2 launch` was called with this launch file, and not with another one that includes it.

    Args:
        file: name of the launch file, without folders.
        command: command line of the process.
    """
    return any(Path(word).name == file for word in command if ":=" not in word)


def check_arguments(given: Sequence[str], declared: Collection[str]) -> None:
    """Refuse launch arguments that no one reads; launch itself ignores them without a word.

    Args:
        given: words `NAME:=VALUE` of the command line.
        declared: arguments of the launch file.

    Raises:
        ValueError: an argument is unknown; the text names the nearest one.
    """
    for word in given:
        name, assigned, _ = word.partition(":=")
        if not assigned or name in declared or name in _OF_ROS2_LAUNCH:
            continue
        nearest = difflib.get_close_matches(name, declared, n=1)
        advice = f"did you mean '{nearest[0]}'?" if nearest else f"choose from {', '.join(sorted(declared))}"
        raise ValueError(
            f"there is no launch argument '{name}'; {advice} (other parameters of the node stand in the file that "
            f"params_file:= names)"
        )


def check_parameters_file(path: str, shipped: str = "config/segment.yaml") -> None:
    """Refuse a parameters file that is not there, before a process is started with it.

    Args:
        path: of the file.
        shipped: the file of this package that is a good start.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"params_file '{path}' is not a file; give the path of a copy of {shipped}")


def profile_variables(choice: str) -> dict[str, str]:
    """Environment variables that give the node its Fast DDS profile.

    Args:
        choice: path of a profile; 'none' = what the environment names and nothing else; empty = what the environment
            names, else the shipped profile, which the node chooses for itself.

    Raises:
        ValueError: the profile is not there.
    """
    if not choice:
        return {}
    if choice == "none":
        return {"HRDA_FASTDDS_PROFILE": "none"}
    if not Path(choice).is_file():
        raise ValueError(f"fastdds_profile '{choice}' is not a file; give the path of a profile, or 'none'")
    return {profile_variable(): str(Path(choice).resolve())}


def ended_badly(returncode: int, shutting_down: bool) -> str | None:
    """What to say where the node is gone for good; None = it ended as it was told to."""
    if returncode == 0 or shutting_down:
        return None
    return f"segment_node has ended with exit code {returncode}; its last lines say why (respawn:=true starts it again)"


def camera_topic(name: str, image: str) -> str:
    """Full name of a camera's topic, from its name within the camera's namespace.

    Raises:
        ValueError: a full name is given, which would be one topic for all cameras.
    """
    if image.startswith("/"):
        raise ValueError(
            f"image '{image}' begins with a slash, so all cameras would share it; give the name within the "
            f"namespace of each camera, as in image:=image_raw"
        )
    return f"/{name}/{image}"


def camera_topics(cameras: str, image: str) -> dict[str, str]:
    """Topic of each camera of one node, relative to its namespace; empty without cameras.

    Args:
        cameras: names with commas between.
        image: topic within the namespace of each camera.

    Raises:
        ValueError: as of `camera_names` and `camera_topic`.
    """
    return {name: camera_topic(name, image)[1:] for name in camera_names(cameras)} if cameras else {}


def rviz_remappings(topics: dict[str, str]) -> list[tuple[str, str]]:
    """What shows the first of several cameras in the view of one camera; empty without cameras."""
    if not topics:
        return []
    name, topic = next(iter(topics.items()))
    masks = [(f"segment_node/{output}", f"segment_node/{name}/{output}") for output in ("overlay", "labels")]
    return [("image", topic), *masks]


def view_of_compressed(view: str, image: str, namespace: str) -> str:
    """An RViz view whose camera panel reads the JPEG topic of the camera.

    Args:
        view: text of config/rviz/segment.rviz.
        image: camera topic, relative to the namespace unless it starts with a slash.
        namespace: namespace of the node.

    Returns:
        the text with the full name of the topic, which no remapping changes.
    """
    base = image if image.startswith("/") else f"/{namespace.strip('/')}/{image}".replace("//", "/")
    return view.replace("Value: image\n", f"Value: {base}/compressed\n")
