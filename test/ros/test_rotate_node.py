"""Plan `rotate` in the real node: detail of earlier frames is used while the video goes on, and never across a gap.

The masks of its bundle count the tiles whose remembered detail may be used; see test/support/rotate_bundle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rotate_bundle import SIZE, write_rotate_bundle
from tiny_bundle import write_tiny_bundle

NODE = "/turning/segment_node"
FRAME_NS = 33_000_000
SECOND_NS = 10**9


@pytest.fixture(scope="module")
def turning(start_node: Callable[..., Any], client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running node with plan `rotate`, its camera, masks and diagnostics; `now_ns` is the stamp of the last frame."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    bundle = write_rotate_bundle(tmp_path_factory.mktemp("rotate") / "bundle")
    process = start_node(
        *(
            "-r",
            "__ns:=/turning",
            "-r",
            "image:=camera",
            "-p",
            f"model:={bundle}",
            "-p",
            "plan:=rotate",
            "-p",
            "stale_after:=5",
        ),
    )
    masks, diagnostics = client.collect(Image, f"{NODE}/labels"), client.collect(DiagnosticArray, "/diagnostics")
    camera = client.camera("/turning/camera")
    process.wait_for_log("segmenting images")
    node = SimpleNamespace(
        process=process, masks=masks, camera=camera, diagnostics=diagnostics, now_ns=100 * SECOND_NS, bundle=bundle
    )
    wait_until_connected(node, client)
    return node


def wait_until_connected(turning: Any, client: Any) -> None:
    client.spin_until(lambda: turning.camera.get_subscription_count() == 1, "the node's subscription")
    client.spin_until(lambda: client.node.count_publishers(f"{NODE}/labels") == 1, "the node's masks")
    client.spin_for(0.3)


@pytest.fixture
def known_tiles(turning: Any, client: Any, image_message: Callable[..., Any]) -> Callable[..., int]:
    """Tiles that an image may take from earlier ones: of the camera `front`, a frame later, if not said otherwise."""

    def ask(later_ns: int = FRAME_NS, camera: str = "front") -> int:
        turning.now_ns += later_ns
        message = image_message(np.zeros((*SIZE, 3), np.uint8))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(turning.now_ns, SECOND_NS)
        message.header.frame_id = camera
        return int(client.exchange(turning.camera, message, turning.masks).data[0])

    return ask


@pytest.fixture
def settled(known_tiles: Callable[..., int]) -> None:
    """Both tiles are remembered."""
    assert 2 in [known_tiles() for _ in range(6)]


@pytest.mark.usefixtures("settled")
def test_detail_is_used_while_the_video_goes_on(known_tiles: Callable[..., int]) -> None:
    assert [known_tiles(), known_tiles(SECOND_NS), known_tiles(0)] == [2, 2, 2]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("later_ns", [SECOND_NS + 1, 3600 * SECOND_NS, -1, -50 * SECOND_NS])
def test_nothing_is_used_across_a_gap_or_a_step_back(known_tiles: Callable[..., int], later_ns: int) -> None:
    assert known_tiles(later_ns) == 0
    assert known_tiles() > 0, "and the video goes on from there"


@pytest.mark.usefixtures("settled")
def test_nothing_is_used_across_cameras(known_tiles: Callable[..., int]) -> None:
    assert known_tiles(camera="rear") == 0
    assert known_tiles(camera="rear") > 0
    assert known_tiles(camera="front") == 0


@pytest.mark.usefixtures("settled")
def test_nothing_is_used_after_deactivation(turning: Any, client: Any, known_tiles: Callable[..., int]) -> None:
    from lifecycle_msgs.srv import ChangeState

    for transition in ("deactivate", "activate"):
        request = ChangeState.Request()
        request.transition.label = transition
        assert client.call(ChangeState, f"{NODE}/change_state", request).success
    wait_until_connected(turning, client)
    assert known_tiles() == 0


def test_stale_after_counts_from_the_next_reload(turning: Any, client: Any, known_tiles: Callable[..., int]) -> None:
    from std_srvs.srv import Trigger

    for frames, expected in ((1, 1), (5, 2)):  # one tile a frame: after two frames the other one is too old, or not
        assert client.set_parameter(NODE, "stale_after", frames).successful
        assert client.call(Trigger, f"{NODE}/reload", Trigger.Request()).success
        assert max(known_tiles() for _ in range(5)) == expected


def test_log_and_diagnostics_say_which_graph_runs_and_why_there(turning: Any, client: Any) -> None:
    assert "plan rotate (64x64, fp32) on " in turning.process.wait_for_log("is ready after")
    _, _, values = client.status(turning.diagnostics, NODE)
    assert (values["plan"], values["graph"]) == ("rotate", "64x64, fp32")
    assert values["backend"] in turning.process.wait_for_log("is ready after")


def test_an_image_that_no_graph_is_for_fails_with_the_sentence_and_the_node_goes_on(
    turning: Any, client: Any, image_message: Callable[..., Any], known_tiles: Callable[..., int]
) -> None:
    sentence = "no graph of window plan 'rotate' is for images of 120x160 pixels"

    def failed() -> int:
        return int(client.status(turning.diagnostics, NODE)[2].get("failed/BackendError", 0))

    for _ in range(3):
        turning.camera.publish(image_message(np.zeros((120, 160, 3), np.uint8)))
        client.spin_for(0.15)
    level, text, values = client.status(turning.diagnostics, NODE)
    while "failed" not in text:  # diagnostics of before
        turning.camera.publish(image_message(np.zeros((120, 160, 3), np.uint8)))
        level, text, values = client.status(turning.diagnostics, NODE)
    assert level == 2
    assert sentence in text
    assert "add one with 'hrda export " in text
    assert sentence in values["frame_error"]
    assert failed() >= 1
    said = [line for line in turning.process.log().splitlines() if sentence in line]
    assert len(said) == 1, "throttled"
    assert said[0].startswith("[ERROR]")
    known_tiles()
    assert client.status(turning.diagnostics, NODE)[2]["failed"] == values["failed"]


def test_a_gpu_that_is_not_there_is_a_warning_or_the_end_as_asked(
    turning: Any, start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine that has one
    options = ("-p", f"model:={turning.bundle}", "-p", "backend:=cuda")
    going_on = start_node("-r", "__ns:=/fallen", *options)
    assert going_on.wait_for_log("going on with ONNX Runtime on the CPU").startswith("[WARN]")
    assert "not 'cuda': " in going_on.wait_for_log("is ready after")
    stopped = start_node("-r", "__ns:=/stopped", *options, "-p", "on_gpu_failure:=stop")
    assert stopped.wait() == 2
    assert "back end 'cuda' cannot run" in stopped.log()
    assert "Traceback" not in stopped.log()


def test_another_graph_for_images_of_another_size_is_told(
    start_node: Callable[..., Any], client: Any, image_message: Callable[..., Any], tmp_path: Path
) -> None:
    from sensor_msgs.msg import Image

    entry = {"plan": "tiles", "file": "model.onnx", "grid": [2, 2], "size": [64, 64]}
    bundle = write_tiny_bundle(tmp_path / "bundle", static_graphs=[entry])
    node = "/sizes/segment_node"
    process = start_node("-r", "__ns:=/sizes", "-r", "image:=camera", "-p", f"model:={bundle}")
    masks, camera = client.collect(Image, f"{node}/labels"), client.camera("/sizes/camera")
    process.wait_for_log("segmenting images")
    assert "plan tiles (64x64, fp32) on " in process.wait_for_log("is ready after"), "the size to expect"
    client.spin_until(lambda: camera.get_subscription_count() == 1, "the node's subscription")
    client.spin_until(lambda: client.node.count_publishers(f"{node}/labels") == 1, "the node's masks")
    client.spin_for(0.3)
    client.exchange(camera, image_message(np.zeros((64, 64, 3), np.uint8)), masks)
    assert "now plan" not in process.log()
    for side in (100, 64, 100):
        client.exchange(camera, image_message(np.zeros((side, side, 3), np.uint8)), masks)
    assert "images of 100x100 pixels: now plan tiles (any size, fp32)" in process.wait_for_log("now plan")
    assert process.log().count("now plan") == 1, "throttled"
