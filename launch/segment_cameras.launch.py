"""Start one segment_node for each camera: `ros2 launch hrda_ros segment_cameras.launch.py cameras:=front,rear`.

Each camera's name is the namespace of its node, so the masks of `front` are /front/segment_node/labels. All further
arguments of segment.launch.py are passed on to every camera (`plan:=context`); the parameters file can tell the cameras
apart by their full names (`/front/segment_node:`). A node that ends does not end the others.
"""

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from hrda_ros.launch_checks import camera_names, camera_topic, check_arguments, started_by_name


def generate_launch_description() -> LaunchDescription:
    """The arguments of this file, then a group for each camera."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("cameras", description="Names of the cameras with commas between, as in front,rear"),
            DeclareLaunchArgument(
                "image",
                default_value="image_raw",
                description="Camera topic within the namespace of each camera: image_raw is /front/image_raw for front",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[GroupAction]:
    """One group for each camera; its scope keeps its arguments from the next camera."""
    one = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("hrda_ros"), "launch", "segment.launch.py"])
    )
    if started_by_name("segment_cameras.launch.py", sys.argv):
        arguments = one.get_launch_description(context).get_launch_arguments()
        # The namespace is the camera's name.
        check_arguments(context.argv, {"cameras", *(argument.name for argument in arguments)} - {"namespace"})
    cameras, image = (LaunchConfiguration(name).perform(context) for name in ("cameras", "image"))
    return [
        GroupAction(
            [IncludeLaunchDescription(one, launch_arguments=[("namespace", name), ("image", topic)])], scoped=True
        )
        for name, topic in ((name, camera_topic(name, image)) for name in camera_names(cameras))
    ]
