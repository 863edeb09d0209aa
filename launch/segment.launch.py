"""Start segment_node on a camera topic: `ros2 launch hrda_ros segment.launch.py image:=/camera/image_raw`.

Values come from the parameters file; a launch argument that is left empty leaves the file's value alone. Where this
file is launched by itself, a node that ends with an error ends the launch, with exit code 1. Where another file
includes it, that file decides.
"""

import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from hrda_ros.start.launch_checks import (
    camera_topics,
    check_arguments,
    check_parameters_file,
    ended_badly,
    profile_variables,
    rviz_remappings,
    started_by_name,
    view_of_compressed,
)

SHARE = FindPackageShare("hrda_ros")
FROM_FILE = "empty = as in params_file"
RESPAWN_DELAY_S = 2.0


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the node and, if wanted, RViz."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image",
                default_value="image",
                description="Camera topic (base name; with image_transport:=compressed without the suffix /compressed)",
            ),
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description="Names of cameras with commas between, as in front,rear: one node serves them, and image "
                f"is the topic within the namespace of each; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "image_transport",
                default_value="",
                choices=["", "raw", "compressed"],
                description=f"raw = sensor_msgs/Image, compressed = sensor_msgs/CompressedImage; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "model",
                default_value="",
                description=f"Folder or name of the model bundle; {FROM_FILE} (shipped file: the installed hrda_lite)",
            ),
            DeclareLaunchArgument(
                "backend",
                default_value="",
                choices=["", "auto", "onnx", "openvino", "cuda", "tensorrt", "torch"],
                description=f"Inference back end, auto = the fastest that can run here; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "precision",
                default_value="",
                choices=["", "auto", "fp32", "fp16", "int8"],
                description=f"Number format of the graph, auto = fp16 where there is a TensorRT engine; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "build_engine",
                default_value="",
                choices=["", "true", "false"],
                description=f"Build a TensorRT engine that is missing before the start, minutes; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "on_gpu_failure",
                default_value="",
                choices=["", "fall_back", "stop"],
                description=f"Where the GPU fails, fall_back = go on with the CPU; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "plan",
                default_value="",
                choices=["", "tiles", "overlap", "topk", "context", "whole"],
                description=f"Window plan: context is faster, tiles sees more detail, others must be in the bundle; "
                f"{FROM_FILE}",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node, one a camera"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "segment.yaml"]),
                description="YAML file with parameters; copy the shipped one and change it",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                choices=["", "true", "false"],
                description=f"Take time from /clock, for simulators and 'ros2 bag play --clock'; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="",
                choices=["", "true", "false"],
                description=f"Configure and activate at start, false = wait for a lifecycle manager; {FROM_FILE}",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Least severe log messages that are shown",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                choices=["true", "false"],
                description="Open RViz with overlay, class ids and camera image (of the first of several cameras)",
            ),
            DeclareLaunchArgument(
                "fastdds_profile",
                default_value="",
                description="Fast DDS profile of the node, without which large images are lost: a path, or none. "
                "Empty = the one that the environment names, else the shipped one",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                choices=["true", "false"],
                description=f"Start the node again {RESPAWN_DELAY_S:g} s after it has ended",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Node]:
    """The processes; a function, because which values are passed depends on which arguments are empty."""
    _check(context)
    # The type is given, since a bare LaunchConfiguration is read as YAML: a folder named "1" would become a number.
    typed = {
        "cameras": ParameterValue(LaunchConfiguration("cameras"), value_type=str),
        "image_transport": ParameterValue(LaunchConfiguration("image_transport"), value_type=str),
        "model": ParameterValue(LaunchConfiguration("model"), value_type=str),
        "backend": ParameterValue(LaunchConfiguration("backend"), value_type=str),
        "precision": ParameterValue(LaunchConfiguration("precision"), value_type=str),
        "build_engine": ParameterValue(LaunchConfiguration("build_engine"), value_type=bool),
        "on_gpu_failure": ParameterValue(LaunchConfiguration("on_gpu_failure"), value_type=str),
        "plan": ParameterValue(LaunchConfiguration("plan"), value_type=str),
        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
    }
    given = {name: value for name, value in typed.items() if LaunchConfiguration(name).perform(context)}
    names, image = (LaunchConfiguration(name).perform(context) for name in ("cameras", "image"))
    topics = camera_topics(names, image)
    given |= {f"{name}.image": ParameterValue(topic, value_type=str) for name, topic in topics.items()}
    respawn = LaunchConfiguration("respawn").perform(context) == "true"
    # A plain Node: it walks through its lifecycle by its own parameter `autostart`, in every distribution alike
    # (LifecycleNode has that keyword from Kilted on only), and answers the lifecycle services all the same.
    segment_node = Node(
        package="hrda_ros",
        executable="segment_node",
        name="segment_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), *([given] if given else [])],
        remappings=[("image", LaunchConfiguration("image"))],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=profile_variables(LaunchConfiguration("fastdds_profile").perform(context)),
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=None if respawn or not _is_launched_itself() else _end_with_the_node,
        output="screen",
        emulate_tty=True,
    )
    if not _wants_rviz(context):
        return [segment_node]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz_segment",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", _rviz_view(context)],
        remappings=rviz_remappings(topics) or [("image", LaunchConfiguration("image"))],
        output="log",
    )
    return [segment_node, rviz]


def _is_launched_itself() -> bool:
    return started_by_name("segment.launch.py", sys.argv)


def _check(context: LaunchContext) -> None:
    """Refuse what launch would pass over, before anything is started."""
    if _is_launched_itself():
        declared = [argument.name for argument in generate_launch_description().get_launch_arguments()]
        check_arguments(context.argv, declared)
    check_parameters_file(LaunchConfiguration("params_file").perform(context))


def _wants_rviz(context: LaunchContext) -> bool:
    """Whether to open RViz. Without this look a missing RViz would end the launch and leave the node behind."""
    if LaunchConfiguration("rviz").perform(context) != "true":
        return False
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        get_logger("hrda_ros").warning(
            "rviz2 is not installed (sudo apt install ros-$ROS_DISTRO-rviz2); going on without"
        )
        return False
    return True


def _rviz_view(context: LaunchContext) -> str:
    """Path of the shipped view, or of a copy whose camera panel reads JPEG: RViz goes by the name of the topic."""
    shipped = PathJoinSubstitution([SHARE, "config", "rviz", "segment.rviz"]).perform(context)
    values = {name: LaunchConfiguration(name).perform(context) for name in ("image", "image_transport", "namespace")}
    if values["image_transport"] != "compressed":
        return shipped
    view = view_of_compressed(Path(shipped).read_text(encoding="utf-8"), values["image"], values["namespace"])
    with NamedTemporaryFile("w", prefix="segment_", suffix=".rviz", delete=False, encoding="utf-8") as copy:
        copy.write(view)
    return copy.name


def _end_with_the_node(event: ProcessExited, context: LaunchContext) -> None:
    """End the launch with exit code 1; launch knows no other way than an exception."""
    reason = ended_badly(event.returncode, context.is_shutdown)
    if reason:
        raise RuntimeError(reason)
