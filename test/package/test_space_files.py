"""The files around cloud_node and ground_node: parameters, pages, launch file, and the blocks for nav2."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_files import calls, first_literals, keywords

from hrda_core.labels import CITYSCAPES19
from hrda_ros.settings.class_names import names_of
from hrda_ros.settings.parameter_table import ParameterSpec
from hrda_ros.space.cloud_settings import CLOUD_PARAMETERS, CloudSettings
from hrda_ros.space.ground_settings import GROUND_PARAMETERS, GroundSettings

TABLES = {"cloud_node": CLOUD_PARAMETERS.specs, "ground_node": GROUND_PARAMETERS.specs}
SPECS = [pytest.param(node, spec, id=f"{node} {spec.name}") for node, specs in TABLES.items() for spec in specs]
OUTPUTS = {
    "/segment_node": {"labels", "confidence", "label_info_vision"},
    "/cloud_node": {"points", "obstacles"},
    "/ground_node": {"grid", "scan"},
}
TOPICS = {f"{node}/{name}" for node, names in OUTPUTS.items() for name in names}
LAUNCH_ARGUMENTS = {
    "cloud", "ground", "depth", "segment_node", "stride", "height_m", "pitch_deg", "namespace", "params_file",
    "use_sim_time", "log_level",
}  # fmt: skip


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# Parameters.


@pytest.mark.parametrize(("node", "spec"), SPECS)
def test_the_parameter_file_states_the_default_with_its_range_and_moment(
    repository: Path, node: str, spec: ParameterSpec
) -> None:
    path = repository / "config" / "space.yaml"
    values = loaded(path)[f"/**/{node}"]["ros__parameters"]
    assert list(values) == [known.name for known in TABLES[node]]
    assert (type(values[spec.name]), values[spec.name]) == (type(spec.default), spec.default)
    of_node = path.read_text(encoding="utf-8").split(f"/**/{node}:")[1]
    comment = re.search(rf"((?:^    # .*\n)+)    {spec.name}:", of_node, re.MULTILINE)
    assert comment, "it has no comment"
    assert comment.group(1).rstrip().endswith(f"[{spec.applied}]")
    for limit in spec.limits or ():
        assert f"{limit:g}" in comment.group(1)


@pytest.mark.parametrize(("node", "spec"), SPECS)
def test_the_page_has_the_same_table(repository: Path, node: str, spec: ParameterSpec) -> None:
    text = (repository / "docs" / "robot" / "space.md").read_text(encoding="utf-8").split(f"## `{node}`")[1]
    default = str(spec.default).lower() if spec.kind == "bool" else str(spec.default) or '""'
    cells = (f"`{spec.name}`", spec.kind, f"`{default}`", spec.range_text, spec.applied, spec.description)
    assert f"| {' | '.join(cells)} |\n" in text.split("\n## ")[0]


def test_classes_that_are_named_by_default_are_those_of_the_shipped_model() -> None:
    for text in (CloudSettings().no_obstacle, GroundSettings().drivable):
        assert set(names_of(text)) < set(CITYSCAPES19.classes)


# The launch file.


@pytest.fixture(scope="module")
def tree(repository: Path) -> ast.Module:
    return ast.parse((repository / "launch" / "space.launch.py").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def declared(tree: ast.Module) -> dict[str, ast.Call]:
    return {call.args[0].value: call for call in calls(tree, "DeclareLaunchArgument")}


def test_launch_arguments_are_documented_used_and_described(tree: ast.Module, declared: dict[str, ast.Call]) -> None:
    assert set(declared) == LAUNCH_ARGUMENTS
    assert first_literals(calls(tree, "LaunchConfiguration")) == set(declared)
    for name, call in declared.items():
        given = keywords(call)
        assert {"description", "default_value"} <= set(given), name
        if "choices" in given:
            assert ast.literal_eval(given["default_value"]) in ast.literal_eval(given["choices"]), name


def test_launch_arguments_that_are_parameters_have_their_types_and_default_to_the_file(
    tree: ast.Module, declared: dict[str, ast.Call]
) -> None:
    (cloud, ground) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "typed"
    ]
    for table, specs in ((cloud, CLOUD_PARAMETERS.specs), (ground, GROUND_PARAMETERS.specs)):
        types = {spec.name: type(spec.default).__name__ for spec in specs} | {"use_sim_time": "bool"}
        for key, value in zip(table.keys, table.values, strict=True):
            assert first_literals([value.args[0]]) == {key.value}
            assert keywords(value)["value_type"].id == types[key.value]
            assert ast.literal_eval(keywords(declared[key.value])["default_value"]) == ""


def test_the_launch_file_starts_entry_points_and_connects_every_input(tree: ast.Module, repository: Path) -> None:
    started = [call.args[0].value for call in calls(tree, "node")]
    assert started == ["cloud_node", "ground_node"]
    setup = (repository / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{name} = hrda_ros.space.programs:{name}"' in setup for name in started)
    text = ast.unparse(tree)
    inputs = {"labels", "confidence", "camera_info", "label_info", "depth"}
    assert all(f"'{name}'" in text for name in inputs)
    named = [part.value for call in calls(tree, "PathJoinSubstitution") for part in call.args[0].elts[1:]]
    assert repository.joinpath(*named).is_file()


# nav2. What its semantic segmentation layer wants is from the layer's README, of November 2026.

SOURCE_KEYS = {
    "segmentation_topic", "confidence_topic", "labels_topic", "pointcloud_topic", "observation_persistence",
    "expected_update_rate", "visualize_tile_map", "use_cost_selection", "max_obstacle_distance",
    "min_obstacle_distance", "tile_map_decay_time", "class_types",
}  # fmt: skip
CLASS_TYPE_KEYS = {"classes", "base_cost", "max_cost", "mark_confidence", "samples_to_max_cost", "dominant_priority"}


def layer(repository: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the whole file, the parameters of the layer) of a file for nav2."""
    document = loaded(repository / "config" / "nav2" / f"{name}.yaml")
    parameters = document["local_costmap"]["local_costmap"]["ros__parameters"]
    (plugin,) = (plugin for plugin in parameters["plugins"] if plugin != "inflation_layer")
    return document, parameters[plugin]


def test_the_semantic_layer_has_the_parameters_that_its_readme_names(repository: Path) -> None:
    _, values = layer(repository, "semantic_layer")
    assert values["plugin"] == "semantic_segmentation_layer::SemanticSegmentationLayer"
    camera = values[values["observation_sources"]]
    assert set(camera) == SOURCE_KEYS | set(camera["class_types"])
    assert all(set(camera[name]) == CLASS_TYPE_KEYS for name in camera["class_types"])


def test_the_semantic_layer_has_each_class_of_the_shipped_model_once(repository: Path) -> None:
    _, values = layer(repository, "semantic_layer")
    listed = [name for kind in values["camera"]["class_types"] for name in values["camera"][kind]["classes"]]
    assert sorted(listed) == sorted(CITYSCAPES19.classes)


def test_the_semantic_layer_gets_a_point_for_each_pixel_and_confidence(repository: Path) -> None:
    document, values = layer(repository, "semantic_layer")
    assert document["/**/cloud_node"]["ros__parameters"]["stride"] == 1
    assert document["/**/segment_node"]["ros__parameters"]["publish_confidence"] is True
    topics = {key: value for key, value in values["camera"].items() if key.endswith("_topic")}
    assert topics == {
        "segmentation_topic": "/segment_node/labels",
        "confidence_topic": "/segment_node/confidence",
        "labels_topic": "/segment_node/label_info_vision",
        "pointcloud_topic": "/cloud_node/points",
    }
    assert set(topics.values()) <= TOPICS


def test_the_obstacle_layer_reads_topics_that_there_are_and_each_mark_can_be_cleared(repository: Path) -> None:
    _, values = layer(repository, "obstacle_layer")
    assert values["plugin"] == "nav2_costmap_2d::ObstacleLayer"
    sources = {name: values[name] for name in values["observation_sources"].split()}
    types = {
        "/cloud_node/obstacles": "PointCloud2",
        "/cloud_node/points": "PointCloud2",
        "/ground_node/scan": "LaserScan",
    }
    assert {source["topic"]: source["data_type"] for source in sources.values()} == types
    assert sources["marks"]["marking"]
    assert sources["clears"]["clearing"]
    assert not sources["clears"]["marking"]
    assert sources["clears"]["raytrace_max_range"] >= sources["marks"]["obstacle_max_range"]
    ground = sources["ground"]
    assert ground["inf_is_valid"]
    assert ground["obstacle_max_range"] < GroundSettings().range_m  # or infinite beams mark


def test_the_picture_of_the_data_flow_names_topics_that_there_are(repository: Path) -> None:
    picture = ElementTree.parse(repository / "docs" / "images" / "nav2_data_flow.svg")
    texts = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    named = {name for text in texts for name in re.findall(r"~/(\w+)", text)}
    assert named == set().union(*OUTPUTS.values()) - {"grid"} | {"camera_info", "label_info"}
    assert {f"/{text}" for text in texts} >= set(OUTPUTS)
