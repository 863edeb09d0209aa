"""Lifecycle transitions of the real node, and models that it must refuse to configure with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_bundle import expected_labels

NODE = "/managed/segment_node"


@pytest.fixture(scope="module")
def managed(start_node: Callable[..., Any], client: Any) -> Iterator[Any]:
    """A node that waits for a lifecycle manager."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    process = start_node("-r", "__ns:=/managed", "-r", "image:=camera", "-p", "autostart:=false")
    masks = client.collect(Image, f"{NODE}/labels")
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    return SimpleNamespace(
        process=process, masks=masks, camera=client.camera("/managed/camera"), diagnostics=diagnostics
    )


def change(client: Any, transition: str) -> bool:
    """Ask for a transition by its label; whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.label = transition
    return bool(client.call(ChangeState, f"{NODE}/change_state", request).success)


def state(client: Any) -> str:
    from lifecycle_msgs.srv import GetState

    return str(client.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.label)


def edit_manifest(folder: Path, **changes: Any) -> None:
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    (folder / "manifest.yaml").write_text(yaml.safe_dump({**manifest, **changes}))


def overwrite_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), "is not a folder"),
    "no manifest": (lambda folder: (folder / "manifest.yaml").unlink(), "has no manifest.yaml"),
    "garbled manifest": (lambda folder: (folder / "manifest.yaml").write_text("{"), ": manifest.yaml "),
    "other format": (
        lambda folder: edit_manifest(folder, format_version=99),
        "format version 99, this release",
    ),
    "no classes": (lambda folder: edit_manifest(folder, label_space={}), "lacks or garbles a key"),
    "no model.onnx": (lambda folder: (folder / "model.onnx").unlink(), "file 'model.onnx' is missing"),
    "no context.onnx": (lambda folder: (folder / "context.onnx").unlink(), "file 'context.onnx' is missing"),
    "changed model.onnx": (lambda folder: overwrite_last_byte(folder / "model.onnx"), "sha256 of file 'model.onnx'"),
    "changed context.onnx": (lambda folder: overwrite_last_byte(folder / "context.onnx"), "file 'context.onnx'"),
    "cut-off model.onnx": (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "file 'model.onnx' has 1 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_p8_c8_damaged_model_fails_to_configure_with_one_sentence(
    managed: Any, client: Any, copied_bundle: Path, damage: str
) -> None:
    action, reason = DAMAGES[damage]
    action(copied_bundle)
    assert client.set_parameter(NODE, "model", str(copied_bundle)).successful
    lines_before = len(managed.process.log().splitlines())
    assert not change(client, "configure")
    assert state(client) == "unconfigured"
    managed.process.wait_for_log(reason)
    said = managed.process.log().splitlines()[lines_before:]
    assert len(said) == 1, said
    assert re.match(r"\[ERROR\].*cannot configure: ", said[0])


def test_unknown_plan_of_a_bundle_fails_to_configure(managed: Any, client: Any, copied_bundle: Path) -> None:
    manifest = yaml.safe_load((copied_bundle / "manifest.yaml").read_text())
    del manifest["graphs"]["context"]
    edit_manifest(copied_bundle, graphs=manifest["graphs"])
    client.set_parameter(NODE, "model", str(copied_bundle))
    client.set_parameter(NODE, "plan", "context")
    assert not change(client, "configure")
    assert "no graph for window plan 'context'" in managed.process.log()
    client.set_parameter(NODE, "plan", "")


def test_failed_configure_is_an_error_in_the_diagnostics(managed: Any, client: Any, tmp_path: Path) -> None:
    client.set_parameter(NODE, "model", str(tmp_path / "nothing"))
    assert not change(client, "configure")
    level, text, _ = client.status(managed.diagnostics, NODE)
    assert level == 2
    assert "is not a folder" in text


def test_masks_come_only_while_active_and_each_configure_takes_new_settings(
    managed: Any,
    client: Any,
    tiny_bundle: Path,
    image_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
) -> None:
    rgb = picture()

    def mask() -> np.ndarray:
        client.meet(NODE, managed.camera, outputs=[f"{NODE}/labels"])
        answer = client.exchange(managed.camera, image_message(rgb), managed.masks)
        return np.frombuffer(answer.data, np.uint8).reshape(rgb.shape[:2])

    client.set_parameter(NODE, "model", str(tiny_bundle))
    assert change(client, "configure")
    assert state(client) == "inactive"
    assert client.status(managed.diagnostics, NODE)[:2] == (1, "not active (inactive)")
    assert managed.camera.get_subscription_count() == 0, "an inactive node costs nothing"

    assert change(client, "activate")
    np.testing.assert_array_equal(mask(), expected_labels(rgb, "tiles"))

    assert client.set_parameter(NODE, "plan", "context").successful
    np.testing.assert_array_equal(mask(), expected_labels(rgb, "tiles"))

    assert change(client, "deactivate")
    client.spin_until(lambda: managed.camera.get_subscription_count() == 0, "the end of the subscription")
    received = len(managed.masks)
    managed.camera.publish(image_message(rgb))
    client.spin_for(0.5)
    assert len(managed.masks) == received

    assert change(client, "cleanup")
    client.spin_until(lambda: client.node.count_publishers(f"{NODE}/labels") == 0, "withdrawal of the masks")
    assert change(client, "configure")
    assert change(client, "activate")
    np.testing.assert_array_equal(mask(), expected_labels(rgb, "context"))


def bring_up(client: Any, bundle: Path) -> None:
    """Make the node active, wherever the tests before have left it."""
    client.set_parameter(NODE, "model", str(bundle))
    for before, transition in (("unconfigured", "configure"), ("inactive", "activate")):
        if state(client) == before:
            assert change(client, transition)
    assert state(client) == "active"


def test_c1_impossible_transition_is_refused_and_harmless(managed: Any, client: Any, tiny_bundle: Path) -> None:
    bring_up(client, tiny_bundle)
    assert not change(client, "configure")
    assert state(client) == "active"


def test_c2_shutdown_from_active_ends_in_finalized_and_sigint_still_exits_cleanly(
    managed: Any, client: Any, tiny_bundle: Path
) -> None:
    bring_up(client, tiny_bundle)
    assert change(client, "shutdown")
    assert state(client) == "finalized"
    assert managed.process.stop() == 0
    assert "Traceback" not in managed.process.log()
