"""The parameter table: its rules, and that the documentation says the same."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrda_ros.settings.parameters import PARAMETERS, ParameterSpec, Settings, likely_typos, refusal
from hrda_ros.space.cloud_settings import CLOUD_PARAMETERS
from hrda_ros.space.ground_settings import GROUND_PARAMETERS

BY_NAME = {spec.name: spec for spec in PARAMETERS}


def test_defaults_are_allowed() -> None:
    assert refusal((spec.name, spec.default) for spec in PARAMETERS) is None
    assert Settings() == Settings(**{spec.name: spec.default for spec in PARAMETERS})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("overlay_alpha", 1.01, "overlay_alpha must be 0 to 1, not 1.01"),
        ("overlay_alpha", math.nan, "overlay_alpha must be 0 to 1, not nan"),
        ("overlay_alpha", 2, "overlay_alpha must be 0 to 1, not 2"),
        ("overlay_alpha", True, "overlay_alpha must be of type double, not True"),
        ("overlay_alpha", "1", "overlay_alpha must be of type double, not '1'"),
        ("threads", 1.0, "threads must be of type int, not 1.0"),
        ("threads", True, "threads must be of type int, not True"),
        ("long_side", -2, "long_side must be -1 to 16384, not -2"),
        ("backend", "magic", "backend must be one of auto, onnx, openvino, cuda, tensorrt, torch, not 'magic'"),
        ("plan", "nested2", "plan must be one of"),
        ("plan", "slide", "plan must be one of \"\", tiles, overlap, topk, context, whole, not 'slide'"),
        ("precision", "bf16", "precision must be one of auto, fp32, fp16, int8, not 'bf16'"),
        ("on_gpu_failure", "", "on_gpu_failure must be one of fall_back, stop, not ''"),
        ("build_engine", 1, "build_engine must be of type bool, not 1"),
        (
            "value_range",
            "4095",
            "value_range: '4095' is no range of values; give the darkest and the brightest: 0 4095",
        ),
        ("value_range", "9 -1", "value_range: '9 -1' is no range"),
        ("value_range", "4095 0", "value_range: the range of values 4095 to 0 makes no sense"),
        ("lazy", "yes", "lazy must be of type bool, not 'yes'"),
    ],
)
def test_p8_c6_wrong_values_are_refused_with_a_reason(name: str, value: object, reason: str) -> None:
    assert (refusal([("lazy", True), (name, value)]) or "").startswith(reason)


@pytest.mark.parametrize("spec", [spec for spec in PARAMETERS if spec.kind == "double"], ids=lambda spec: spec.name)
def test_a_whole_number_is_taken_for_a_double(spec: ParameterSpec) -> None:
    assert refusal([(spec.name, 1)]) is None
    assert type(spec.value_of(1)) is float


def test_parameters_of_others_pass() -> None:
    assert refusal([("use_sim_time", "anything"), ("qos_overrides./image.subscription.depth", -3)]) is None


def test_near_misses_are_told_from_foreign_names() -> None:
    names = ["overlay_alfa", "use_sim_time", "qos_overrides./image.subscription.depth", "lazy", "thread"]
    assert likely_typos(names) == [("overlay_alfa", "overlay_alpha"), ("thread", "threads")]


def test_documentation_has_the_same_table() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "robot" / "node.md").read_text(encoding="utf-8")
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 6 and cells[0].strip("`") in BY_NAME:
            rows[cells[0].strip("`")] = cells[1:]
    expected = {}
    for spec in PARAMETERS:
        default = str(spec.default).lower() if spec.kind == "bool" else str(spec.default) or '""'
        expected[spec.name] = [spec.kind, f"`{default}`", spec.range_text, spec.applied, spec.description]
    assert rows == expected


# Every parameter of every node, with everything that it must not be.

TABLES = {"segment_node": PARAMETERS, "cloud_node": CLOUD_PARAMETERS.specs, "ground_node": GROUND_PARAMETERS.specs}
OF_ANOTHER_TYPE: tuple[object, ...] = (True, 3, 0.5, "text", [1, 2], [0.5], ["a"], [True], [b"a"])


def wrong_values(spec: ParameterSpec) -> list[object]:
    """Values of other types, beside the range, far out of it, and no numbers at all."""
    kinds = {"bool": (bool,), "int": (int,), "double": (float, int), "string": (str,)}[spec.kind]
    values = [value for value in OF_ANOTHER_TYPE if type(value) not in kinds and not (spec.listed and value == ["a"])]
    if spec.kind == "double":
        values += [math.nan, math.inf, -math.inf]
    if spec.limits:
        low, high = spec.limits
        values += [low - 1, high + 1] if spec.kind == "double" else [int(low) - 1, int(high) + 1, -(2**62), 2**62]
    if spec.choices:
        values += [f"{spec.choices[-1]} ", spec.choices[-1].swapcase(), "x" * 10_000]
    return values


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, id=f"{node}-{spec.name}") for node, specs in TABLES.items() for spec in specs]
)
def test_p8_c6_a_value_of_another_type_beside_the_range_or_not_finite_is_refused_by_name(spec: ParameterSpec) -> None:
    for value in wrong_values(spec):
        reason = spec.refusal(value) or ""
        assert reason.startswith(f"{spec.name} must be "), value
        assert reason.endswith(f", not {value!r}")


@pytest.fixture(scope="module")
def nodes(ros: Any) -> Iterator[dict[str, Any]]:
    """The three nodes, in this process and without DDS between."""
    from rclpy.parameter import Parameter

    from hrda_ros.segment_node import SegmentNode
    from hrda_ros.space.cloud_node import CloudNode
    from hrda_ros.space.ground_node import GroundNode

    ground = GroundNode(parameter_overrides=[Parameter("height_m", value=1.0)])
    made = {"segment_node": SegmentNode(), "cloud_node": CloudNode(), "ground_node": ground}
    yield made
    for node in made.values():
        node.close()
        node.destroy_node()


@pytest.mark.parametrize("name", TABLES)
def test_c6_the_running_node_refuses_each_of_them_and_keeps_what_it_had(nodes: dict[str, Any], name: str) -> None:
    from rclpy.parameter import Parameter

    node, specs = nodes[name], TABLES[name]
    before = [node.get_parameter(spec.name).value for spec in specs]
    for spec in specs:
        for value in wrong_values(spec):
            result = node.set_parameters([Parameter(spec.name, value=value)])[0]
            assert not result.successful, (spec.name, value)
            assert result.reason
        refused = node.set_parameters([Parameter(spec.name, Parameter.Type.NOT_SET)])[0]
        assert not refused.successful, f"{spec.name} was taken away"
    assert [node.get_parameter(spec.name).value for spec in specs] == before


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("front, rear", None),
        (["front", "rear"], None),
        ([], "cameras: cameras is empty; give their names with commas between, as in cameras:=front,rear"),
        (None, "cameras: cameras is empty; give their names with commas between, as in cameras:=front,rear"),
        ([""], "cameras: cameras is empty; give their names with commas between, as in cameras:=front,rear"),
        (["front", "front"], "cameras: camera 'front' stands in cameras twice"),
        (
            ",".join(f"c{number}" for number in range(1000)),
            "cameras: 1000 cameras are named, and a node serves 32 at most; start several nodes",
        ),
        ("a" * 300, f"cameras: the name '{'a' * 20}\u2026' has 300 letters; give one of 64 at most"),
        ([1, 2], "cameras must be of type string, not [1, 2]"),
    ],
)
def test_p8_cameras_may_be_a_list_of_names_that_is_not_empty(value: object, sentence: str | None) -> None:
    assert refusal([("cameras", value)]) == sentence
    assert BY_NAME["cameras"].value_of(["front", "rear"]) == "front,rear"
    assert refusal([("model", ["a"])]) == "model must be of type string, not ['a']"
