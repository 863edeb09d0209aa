"""A robot in a simulated street drives by what the real nodes say, with the shipped parameters of nav2's layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core.labels import CITYSCAPES19


@pytest.fixture(scope="module")
def graph(ros: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from street_drive.graph import Graph
    from street_drive.world import Camera

    folder = tmp_path_factory.mktemp("drive")
    model = write_tiny_bundle(folder / "model")
    with Graph(folder, model, Camera(), {"segment_node": {"backend": "onnx"}}) as graph:
        yield graph


def drive(name: str, graph: Any, repository: Path, **options: Any) -> Any:
    from street_drive.drive import drive
    from street_drive.world import Camera

    return drive(name, graph, repository / "config" / "nav2" / "obstacle_layer.yaml", Camera(), **options)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["obstacles", "scan", "grid"])
def test_a_robot_reaches_its_goal_by_what_the_nodes_say(name: str, graph: Any, repository: Path) -> None:
    done = drive(name, graph, repository)
    assert done.end == "reached"
    assert done.clearance > 0.1
    if name == "obstacles":  # what is no obstacle may be driven on, and the person who has gone does not stay
        x, y = done.costmap.place(np.array([[3.6, 0.1]]))[0]
        assert not done.costmap.cells[x - 4 : x + 5, y - 4 : y + 5].any()
    else:  # only the road is drivable
        assert done.off_road <= 0


@pytest.mark.timeout(300)
def test_a_robot_to_which_no_class_is_an_obstacle_touches_something(graph: Any, repository: Path) -> None:
    graph.set_parameter("cloud_node", "no_obstacle", ", ".join(CITYSCAPES19.classes))
    try:
        assert drive("obstacles", graph, repository).end == "touched"
    finally:
        graph.set_parameter("cloud_node", "no_obstacle", "road, sidewalk, terrain, sky")
