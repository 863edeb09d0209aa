"""The files for running and watching the nodes: systemd unit, Foxglove layout, RViz view of the masks in space."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

UNIT = "hrda-segment@.service"
OUTPUTS = {
    "segment_node": {"labels", "overlay", "label_info", "save_frame"},
    "cloud_node": {"points", "obstacles"},
    "ground_node": {"grid", "scan"},
}
TOPICS = {f"{node}/{name}" for node, names in OUTPUTS.items() for name in names}


# systemd.


@pytest.fixture(scope="module")
def unit(repository: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((repository / "config" / "systemd" / UNIT).read_text(encoding="utf-8"))
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
def test_systemd_finds_nothing_wrong_with_the_unit(repository: Path, tmp_path: Path) -> None:
    copied = shutil.copy(repository / "config" / "systemd" / UNIT, tmp_path / UNIT.replace("@", "@front"))
    told = subprocess.run(["systemd-analyze", "verify", copied], capture_output=True, text=True, timeout=60)
    own = [line for line in told.stderr.splitlines() if "hrda-segment" in line]
    assert (told.returncode, own) == (0, [])


def test_the_command_line_of_the_unit_starts_the_node_of_the_camera_as_its_own_process(
    unit: configparser.ConfigParser, tmp_path: Path
) -> None:
    prefix = tmp_path / "a workspace"
    node = prefix / "lib" / "hrda_ros" / "segment_node"
    node.parent.mkdir(parents=True)
    node.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$SOURCED" "$@"\n')
    ros2 = tmp_path / "ros2"
    ros2.write_text(f'#!/bin/sh\n[ "$*" = "pkg prefix hrda_ros" ] && echo "{prefix}"\n')
    for program in (node, ros2):
        program.chmod(0o755)
    setup = tmp_path / "set up.bash"
    setup.write_text("export SOURCED=yes\n")
    # As systemd does: words, then its own variables and specifiers.
    command = [word.replace("$$", "$").replace("%i", "front") for word in shlex.split(unit["Service"]["ExecStart"])]
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HRDA_SETUP": str(setup),
        "HRDA_IMAGE": "/front/image raw",
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    told, _ = process.communicate(timeout=60)
    assert told.splitlines() == [
        str(process.pid), "yes", "--ros-args", "-r", "__ns:=/front", "-r", "image:=/front/image raw",
        "--params-file", "/etc/hrda/front.yaml",
    ]  # fmt: skip


def test_the_unit_stops_and_restarts_the_node_by_its_signals_and_exit_codes(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert (service["KillSignal"], service["Restart"], service["RestartPreventExitStatus"]) == (
        "SIGINT",
        "on-failure",
        "2",
    )
    assert service["User"] != "root"


def test_a_node_that_hangs_is_restarted_and_one_that_still_loads_is_not(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"  # of the main process alone, which is the node
    assert float(service["WatchdogSec"]) >= 10 * 1.0  # it says once a second that it is alive, also on a busy machine
    assert service["TimeoutStartSec"] == "30min"


def test_the_example_sets_what_the_unit_reads(repository: Path, unit: configparser.ConfigParser) -> None:
    text = (repository / "config" / "systemd" / "front.env").read_text(encoding="utf-8")
    given = {line.split("=")[0] for line in text.splitlines() if line and not line.startswith("#")}
    read = {name for name in ("HRDA_SETUP", "HRDA_IMAGE") if f"$${{{name}}}" in unit["Service"]["ExecStart"]}
    assert read == {"HRDA_SETUP", "HRDA_IMAGE"}
    assert given == {*read, "ROS_DOMAIN_ID"}


# Foxglove. The fields are those of the classes of foxglove-sdk 0.30.3 (module foxglove.layouts).

_POINTS = {"visible", "colorMode", "colorField", "flatColor", "pointSize"}
FIELDS = {
    "Image": {"imageMode"},
    "3D": {"followMode", "topics", "layers", "publish"},
    "DiagnosticSummary": {"minLevel", "pinnedIds", "topicToRender", "hardwareIdFilter", "sortByLevel"},
    "DiagnosticStatusPanel": {"topicToRender"},
    "RawMessages": {"topicPath", "diffEnabled", "diffMethod", "diffTopicPath", "showFullMessageForDiff"},
    "CallService": {"serviceName", "requestPayload", "layout", "buttonText", "editingMode"},
}


@pytest.fixture(scope="module")
def foxglove(repository: Path) -> dict[str, Any]:
    layout: dict[str, Any] = json.loads((repository / "config" / "foxglove" / "segment.json").read_text("utf-8"))
    return layout


def leaves(node: Any) -> Iterator[str]:
    """The panels of a layout, whose splits are checked on the way."""
    if isinstance(node, str):
        yield node
        return
    assert set(node) == {"direction", "splitPercentage", "first", "second"}
    assert node["direction"] in ("row", "column")
    assert 0 < node["splitPercentage"] < 100
    yield from leaves(node["first"])
    yield from leaves(node["second"])


def test_every_panel_of_the_foxglove_layout_has_its_place_and_known_fields(foxglove: dict[str, Any]) -> None:
    assert set(foxglove) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    panels = foxglove["configById"]
    assert sorted(leaves(foxglove["layout"])) == sorted(panels)
    for name, config in panels.items():
        assert set(config) - {"foxglovePanelTitle"} <= FIELDS[name.split("!")[0]], name
        assert all(set(topic) <= _POINTS for topic in config.get("topics", {}).values())


def test_the_foxglove_layout_shows_topics_and_services_that_there_are(foxglove: dict[str, Any]) -> None:
    panels = foxglove["configById"].values()
    named = {panel["imageMode"]["imageTopic"] for panel in panels if "imageMode" in panel}
    named |= {topic for panel in panels for topic in panel.get("topics", {})}
    named |= {panel["serviceName"] for panel in panels if "serviceName" in panel}
    named |= {panel["topicPath"].removesuffix(".data") for panel in panels if "topicPath" in panel}
    assert {name.removeprefix("/") for name in named} == TOPICS
    assert {panel["topicToRender"] for panel in panels if "topicToRender" in panel} == {"/diagnostics"}


# RViz.


def test_the_rviz_view_of_the_masks_in_space_shows_topics_that_there_are_to_any_publisher(repository: Path) -> None:
    document = yaml.safe_load((repository / "config" / "rviz" / "space.rviz").read_text(encoding="utf-8"))
    displays = document["Visualization Manager"]["Displays"]
    kinds = {display["Topic"]["Value"]: display["Class"].split("/")[1] for display in displays}
    assert kinds == {
        "cloud_node/points": "PointCloud2",
        "cloud_node/obstacles": "PointCloud2",
        "ground_node/grid": "Map",
        "ground_node/scan": "LaserScan",
        "segment_node/overlay": "Image",
    }
    for display in displays:
        topic = {key: value for key, value in display["Topic"].items() if key != "Value"}
        assert topic == {
            "Depth": 1,
            "History Policy": "Keep Last",
            "Reliability Policy": "Best Effort",
            "Durability Policy": "Volatile",
        }
        assert display["Enabled"]
