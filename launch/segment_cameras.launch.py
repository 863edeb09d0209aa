"""Segment several cameras: `ros2 launch hrda_ros segment_cameras.launch.py cameras:=front,rear`.

One node serves them all with one model; the masks of `front` are /segment_node/front/labels. With `nodes:=each`, every
camera has a node with a model of its own in its namespace, as /front/segment_node/labels: where cameras need other
models, or one shall go on when the node of another ends. All further arguments of segment.launch.py are passed on
(`plan:=context`).
"""

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from hrda_ros.start.launch_checks import camera_names, camera_topic, check_arguments, started_by_name


def generate_launch_description() -> LaunchDescription:
    """The arguments of this file, then the node or the nodes."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("cameras", description="Names of the cameras with commas between, as in front,rear"),
            DeclareLaunchArgument(
                "image",
                default_value="image_raw",
                description="Camera topic within the namespace of each camera: image_raw is /front/image_raw for front",
            ),
            DeclareLaunchArgument(
                "nodes",
                default_value="one",
                choices=["one", "each"],
                description="one = one node and one model for all cameras, each = a node with a model for each camera",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[GroupAction]:
    """One group for each node; its scope keeps its arguments from the next one."""
    one = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("hrda_ros"), "launch", "segment.launch.py"])
    )
    cameras, image, nodes = (LaunchConfiguration(name).perform(context) for name in ("cameras", "image", "nodes"))
    if started_by_name("segment_cameras.launch.py", sys.argv):
        arguments = {argument.name for argument in one.get_launch_description(context).get_launch_arguments()}
        # Of a node for each camera, the namespace is the camera's name.
        check_arguments(context.argv, {"cameras", "nodes", *arguments} - ({"namespace"} if nodes == "each" else set()))
    names = camera_names(cameras)
    if nodes == "one":
        return [group(one, cameras=",".join(names), image=image)]
    return [group(one, cameras="", namespace=name, image=camera_topic(name, image)) for name in names]


def group(one: PythonLaunchDescriptionSource, **arguments: str) -> GroupAction:
    """One node with these arguments."""
    return GroupAction([IncludeLaunchDescription(one, launch_arguments=list(arguments.items()))], scoped=True)
