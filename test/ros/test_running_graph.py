"""Which graph of the bundle the real node runs, where, and what happens when there is none or no GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

NODE = "/one_size/segment_node"
SIZE = (64, 64)
TOPK = {"plan": "topk", "file": "model.onnx", "grid": [2, 2], "size": list(SIZE), "keep": 1}


@pytest.fixture(scope="module")
def one_size(start_node: Callable[..., Any], client: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A running node with a plan that has a graph for images of 64 x 64 alone; its camera, masks and diagnostics."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    bundle = write_tiny_bundle(tmp_path_factory.mktemp("one_size") / "bundle", static_graphs=[TOPK])
    names = ("-r", "__ns:=/one_size", "-r", "image:=camera")
    process = start_node(*names, "-p", f"model:={bundle}", "-p", "plan:=topk")
    masks, diagnostics = client.collect(Image, f"{NODE}/labels"), client.collect(DiagnosticArray, "/diagnostics")
    camera = client.camera("/one_size/camera")
    process.wait_for_log("segmenting images")
    client.meet(NODE, camera, outputs=[f"{NODE}/labels"])
    return SimpleNamespace(process=process, masks=masks, camera=camera, diagnostics=diagnostics, bundle=bundle)


def test_log_and_diagnostics_say_which_graph_runs_and_why_there(one_size: Any, client: Any) -> None:
    assert "plan topk (64x64, fp32) on " in one_size.process.wait_for_log("is ready after")
    _, _, values = client.status(one_size.diagnostics, NODE)
    assert (values["plan"], values["graph"]) == ("topk", "64x64, fp32")
    assert values["backend"] in one_size.process.wait_for_log("is ready after")


def test_an_image_that_no_graph_is_for_fails_with_the_sentence_and_the_node_goes_on(
    one_size: Any, client: Any, image_message: Callable[..., Any]
) -> None:
    sentence = "no graph of window plan 'topk' is for images of 120x160 pixels"

    level, text, values = client.status(one_size.diagnostics, NODE)
    for _ in range(20):  # a frame may be lost on the way or superseded by the next, but not all of them
        for _ in range(3):
            one_size.camera.publish(image_message(np.zeros((120, 160, 3), np.uint8)))
            client.spin_for(0.15)
        level, text, values = client.status(one_size.diagnostics, NODE)
        if int(values.get("failed/BackendError", 0)) >= 3:
            break
    else:
        pytest.fail(f"no frame was counted as failed: {values}\n{one_size.process.log()}")
    assert level == 2
    assert sentence in text
    assert "add one with 'hrda export " in text
    assert sentence in values["frame_error"]
    said = [line for line in one_size.process.log().splitlines() if sentence in line]
    assert 1 <= len(said) < int(values["failed/BackendError"]), "throttled"
    assert said[0].startswith("[ERROR]")
    client.exchange(one_size.camera, image_message(np.zeros((*SIZE, 3), np.uint8)), one_size.masks)


def test_a_gpu_that_is_not_there_is_a_warning_or_the_end_as_asked(
    one_size: Any, start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine that has one
    options = ("-p", f"model:={one_size.bundle}", "-p", "backend:=cuda")
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
    client.meet(node, camera, outputs=[f"{node}/labels"])
    client.exchange(camera, image_message(np.zeros((64, 64, 3), np.uint8)), masks)
    assert "now plan" not in process.log()
    for side in (100, 64, 100):
        client.exchange(camera, image_message(np.zeros((side, side, 3), np.uint8)), masks)
    assert "images of 100x100 pixels: now plan tiles (any size, fp32)" in process.wait_for_log("now plan")
    assert process.log().count("now plan") < 3, "throttled"
