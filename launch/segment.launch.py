"""Start segment_node on a camera topic: `ros2 launch hrda_ros segment.launch.py image:=/camera/image_raw`.

Values come from the parameters file; a launch argument that is left empty leaves the file's value alone.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("hrda_ros")
FROM_FILE = "empty = as in params_file"


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the node and, if wanted, RViz."""
    shipped_profile = PathJoinSubstitution([SHARE, "config", "fastdds_large_images.xml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image",
                default_value="image",
                description="Camera topic (base name; with image_transport:=compressed without the suffix /compressed)",
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
                description=f"Folder of the model bundle; {FROM_FILE} (shipped file: the installed hrda_lite)",
            ),
            DeclareLaunchArgument(
                "backend",
                default_value="",
                choices=["", "auto", "onnx", "cuda", "tensorrt", "torch"],
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
                description="Open RViz with overlay, class ids and camera image",
            ),
            DeclareLaunchArgument(
                "fastdds_profile",
                # A profile that the user's environment names already is kept (first the name of Kilted and later).
                default_value=EnvironmentVariable(
                    "FASTDDS_DEFAULT_PROFILES_FILE",
                    default_value=EnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", default_value=shipped_profile),
                ),
                description="Fast DDS profile of the node; Fast DDS loses large images without one. '' = none",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Node]:
    """The processes; a function, because which values are passed depends on which arguments are empty."""
    # The type is given, since a bare LaunchConfiguration is read as YAML: a folder named "1" would become a number.
    typed = {
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
    profile = LaunchConfiguration("fastdds_profile").perform(context)
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
        # Kilted and later read the first name, Humble and Jazzy the second.
        additional_env=(
            {"FASTDDS_DEFAULT_PROFILES_FILE": profile, "FASTRTPS_DEFAULT_PROFILES_FILE": profile} if profile else {}
        ),
        output="screen",
        emulate_tty=True,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz_segment",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", PathJoinSubstitution([SHARE, "config", "rviz", "segment.rviz"])],
        remappings=[("image", LaunchConfiguration("image"))],
        condition=IfCondition(LaunchConfiguration("rviz")),
        output="log",
    )
    return [segment_node, rviz]
