"""segment.launch.py: checked as text here (no launch in the wheels), and run for real where launch_ros is installed."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launch_files import calls, first_literals, keywords

from hrda_ros.settings.parameters import PARAMETERS

SPECS = {spec.name: spec for spec in PARAMETERS}
OF_EVERY_NODE = {"use_sim_time"}
ARGUMENTS = {
    "image", "cameras", "image_transport", "model", "backend", "precision", "build_engine", "on_gpu_failure", "plan",
    "namespace", "params_file", "use_sim_time", "autostart", "log_level", "rviz", "fastdds_profile", "respawn",
}  # fmt: skip


@pytest.fixture(scope="module")
def path(repository) -> Path:
    return repository / "launch" / "segment.launch.py"


@pytest.fixture(scope="module")
def tree(path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def declared(tree) -> dict[str, ast.Call]:
    return {call.args[0].value: call for call in calls(tree, "DeclareLaunchArgument")}


def test_it_offers_the_documented_arguments(declared):
    assert set(declared) == ARGUMENTS


def test_it_defines_the_function_that_ros2_launch_calls(tree):
    assert "generate_launch_description" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_configuration_is_declared_and_every_declaration_is_used(tree, declared):
    assert first_literals(calls(tree, "LaunchConfiguration")) == set(declared)


def test_every_argument_has_a_description_and_a_default(declared):
    for name, call in declared.items():
        assert {"description", "default_value"} <= set(keywords(call)), name


def test_defaults_are_among_the_choices(declared):
    for name, call in declared.items():
        given = keywords(call)
        if "choices" in given:
            assert ast.literal_eval(given["default_value"]) in ast.literal_eval(given["choices"]), name


@pytest.mark.parametrize("name", ["image_transport", "backend", "precision", "on_gpu_failure", "plan"])
def test_choices_are_those_of_the_node(declared, name):
    choices = ast.literal_eval(keywords(declared[name])["choices"])
    assert set(choices) == {"", *SPECS[name].choices}


def test_parameters_exist_and_have_the_types_of_the_node(tree):
    (table,) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "typed"
    ]
    for key, value in zip(table.keys, table.values, strict=True):
        name = key.value
        assert value.func.id == "ParameterValue", f"{name}: a bare LaunchConfiguration is read as YAML"
        assert name in SPECS or name in OF_EVERY_NODE
        expected = bool if name in OF_EVERY_NODE else type(SPECS[name].default)
        assert keywords(value)["value_type"].id == expected.__name__
        assert first_literals([value.args[0]]) == {name}


def test_arguments_that_are_parameters_default_to_the_file(tree, declared):
    for name in set(declared) & (set(SPECS) | OF_EVERY_NODE):
        assert ast.literal_eval(keywords(declared[name])["default_value"]) == "", name


def test_the_node_is_an_entry_point_of_this_package(tree, repository):
    node = keywords(calls(tree, "Node")[0])
    assert node["package"].value == "hrda_ros"
    assert f'"{node["executable"].value} = hrda_ros.' in (repository / "setup.py").read_text(encoding="utf-8")


def test_files_that_it_names_are_in_the_source_tree(tree, repository):
    named = [
        [part.value for part in call.args[0].elts if isinstance(part, ast.Constant)]
        for call in calls(tree, "PathJoinSubstitution")
    ]
    assert len(named) == 2
    for parts in named:
        assert repository.joinpath(*parts).is_file(), parts


@pytest.mark.parametrize("name", ["segment.launch.py", "segment_cameras.launch.py", "space.launch.py"])
def test_it_imports_only_the_checks_of_this_package(repository, name):
    # `ros2 launch --show-args` must stay quick.
    tree = ast.parse((repository / "launch" / name).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in modules if module.startswith(("hrda", "training"))}
    assert ours == {"hrda_ros.start.launch_checks"}
    assert {module.split(".")[0] for module in modules - ours} <= {
        "ament_index_python", "launch", "launch_ros", "pathlib", "tempfile"
    }  # fmt: skip


def test_the_checks_load_no_library_but_the_standard_one():
    code = "import sys; old = set(sys.modules); import hrda_ros.start.launch_checks; print(*sys.modules.keys() - old)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    roots = {module.partition(".")[0] for module in loaded}
    assert {root for root in roots if root not in sys.stdlib_module_names} <= {"hrda_ros", "hrda_core"}


# From here on: the real launch, where a ROS distribution is installed and this package is built and sourced.


@pytest.fixture
def launch_module(path):
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS distribution only")
    index = pytest.importorskip("ament_index_python")
    try:
        index.get_package_share_directory("hrda_ros")
    except LookupError:
        pytest.skip("hrda_ros is not installed in the ROS environment that is sourced (colcon build, then source)")
    spec = importlib.util.spec_from_file_location("segment_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")  # launch on Python 3.12
def test_real_launch_starts_the_node_and_ends_it_cleanly(launch_module, tmp_path):
    from launch import LaunchDescription, LaunchDescriptionSource, LaunchService
    from launch.actions import EmitEvent, IncludeLaunchDescription, RegisterEventHandler, TimerAction
    from launch.event_handlers import OnProcessExit
    from launch.events import Shutdown

    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"autostart": True, "lazy": False}}}))
    codes: list[int] = []
    # Without autostart no model is needed; the file says true, the argument false, and the argument wins.
    given = {"params_file": str(params), "namespace": "test", "autostart": "false"}
    source = LaunchDescriptionSource(launch_module.generate_launch_description())
    service = LaunchService()
    service.include_launch_description(
        LaunchDescription(
            [
                RegisterEventHandler(OnProcessExit(on_exit=lambda event, _: codes.append(event.returncode))),
                IncludeLaunchDescription(source, launch_arguments=list(given.items())),
                TimerAction(period=5.0, actions=[EmitEvent(event=Shutdown(reason="end of the test"))]),
            ]
        )
    )
    assert service.run() == 0
    assert codes == [0]


def test_c7_real_launch_passes_only_the_arguments_that_were_given(launch_module):
    from launch import LaunchContext

    context = LaunchContext()
    for action in launch_module.generate_launch_description().entities[:-1]:
        action.execute(context)
    context.launch_configurations["model"] = "1"
    (node,) = launch_module.start(context)
    assert len(node._Node__parameters) == 2, "the params file and one dictionary"


def launch(words: list[str], tmp_path: Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`ros2 launch` with these words, to its end."""
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return subprocess.run(
        ["ros2", "launch", "hrda_ros", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment.launch.py", "imge:=/front"], "there is no launch argument 'imge'; did you mean 'image'?"),
        (["segment.launch.py", "params_file:=/nowhere.yaml"], "params_file '/nowhere.yaml' is not a file"),
        (["segment.launch.py", "fastdds_profile:=/nowhere.xml"], "fastdds_profile '/nowhere.xml' is not a file"),
        (["segment.launch.py", "model:=/nowhere"], "segment_node has ended with exit code 2"),
        (["space.launch.py", "heigt_m:=1"], "there is no launch argument 'heigt_m'; did you mean 'height_m'?"),
        (["space.launch.py", "params_file:=/nowhere.yaml"], "give the path of a copy of config/space.yaml"),
        (["segment_cameras.launch.py", "cameras:=front,front"], "camera 'front' stands in cameras twice"),
        (["segment_cameras.launch.py", "cameras:=front", "plann:=tiles"], "did you mean 'plan'?"),
    ],
)
def test_real_launch_ends_with_one_sentence_and_exit_code_1(launch_module, tmp_path, words, sentence):
    done = launch(words, tmp_path)
    assert done.returncode == 1, done.stdout
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
