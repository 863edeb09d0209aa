"""Start the nodes that place masks in space: `ros2 launch hrda_ros space.launch.py depth:=/camera/depth/image_raw`.

segment.launch.py makes the masks; start it beside this one, in the same namespace. A launch argument that is left empty
leaves the value of the parameters file alone. A node that ends does not end the other.
"""

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from hrda_ros.start.launch_checks import check_arguments, check_parameters_file, started_by_name

SHARE = FindPackageShare("hrda_ros")
FROM_FILE = "empty = as in params_file"


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the nodes that are wanted."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cloud",
                default_value="true",
                choices=["true", "false"],
                description="Start cloud_node: points with classes, from masks and depth",
            ),
            DeclareLaunchArgument(
                "ground",
                default_value="false",
                choices=["true", "false"],
                description="Start ground_node: grid and scan of flat ground, from masks alone",
            ),
            DeclareLaunchArgument(
                "depth",
                default_value="depth",
                description="Depth image that is aligned with the camera image (16UC1 or 32FC1), with the same stamps",
            ),
            DeclareLaunchArgument(
                "segment_node",
                default_value="segment_node",
                description="Name of the segment_node whose masks are used, within the namespace or with a slash first",
            ),
            DeclareLaunchArgument(
                "stride",
                default_value="",
                description=f"Every how many pixels there is a point, 1 for nav2's semantic layer; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "height_m",
                default_value="",
                description=f"Height of the camera above the ground, metres, for ground:=true; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "pitch_deg",
                default_value="",
                description=f"How far the camera looks down, degrees, for ground:=true; {FROM_FILE}",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes, one a camera"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "space.yaml"]),
                description="YAML file with parameters; copy the shipped one and change it",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                choices=["", "true", "false"],
                description=f"Take time from /clock, for simulators and 'ros2 bag play --clock'; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Least severe log messages that are shown",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Node]:
    """The processes; a function, because which ones there are depends on the arguments."""
    if started_by_name("space.launch.py", sys.argv):
        declared = [argument.name for argument in generate_launch_description().get_launch_arguments()]
        check_arguments(context.argv, declared)
    check_parameters_file(LaunchConfiguration("params_file").perform(context), "config/space.yaml")
    masks = LaunchConfiguration("segment_node").perform(context)
    topics = [(name, f"{masks}/{name}") for name in ("labels", "confidence", "camera_info", "label_info")]
    nodes = []
    if LaunchConfiguration("cloud").perform(context) == "true":
        typed = {
            "stride": ParameterValue(LaunchConfiguration("stride"), value_type=int),
            "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
        }
        nodes.append(node("cloud_node", context, typed, [*topics, ("depth", LaunchConfiguration("depth"))]))
    if LaunchConfiguration("ground").perform(context) == "true":
        typed = {
            "height_m": ParameterValue(LaunchConfiguration("height_m"), value_type=float),
            "pitch_deg": ParameterValue(LaunchConfiguration("pitch_deg"), value_type=float),
            "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
        }
        nodes.append(node("ground_node", context, typed, topics))
    return nodes


def node(
    name: str, context: LaunchContext, typed: dict[str, ParameterValue], remappings: list[tuple[str, object]]
) -> Node:
    """One of the nodes; only values that were given are passed on, or they would win over the file."""
    given = {key: value for key, value in typed.items() if context.launch_configurations[key]}
    return Node(
        package="hrda_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), *([given] if given else [])],
        remappings=remappings,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
    )
