"""Hot swap of the real node in a process of its own, over real DDS, while a camera sends numbered frames at 30 Hz.

The two bundles read the class id from different channels of the frame, so that a mask tells frame and model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_bundle import write_tiny_bundle

NODE = "/busy/segment_node"
CAMERA_HZ = 30.0
RESEND_S, SOON_S = 3.0, 20.0  # as in conftest.py


def short_id(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.yaml").read_bytes()).hexdigest()[:12]


def classes_of(number: int) -> dict[str, int]:
    """The class that each bundle sees in frame `number`."""
    return {"first": number % 8, "second": 8 + number // 8 % 8}


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`first` gives red // 16, `second` blue // 16."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "first": write_tiny_bundle(folder / "a", name="first"),
        "second": write_tiny_bundle(folder / "b", name="second", default_plan="context"),
    }


@pytest.fixture(scope="module")
def busy(start_node: Callable[..., Any], client: Any, bundles: dict[str, Path]) -> Iterator[Any]:
    """A running node with `first`, its camera (not yet sending), masks, label infos and diagnostics."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    process = start_node("-r", "__ns:=/busy", "-r", "image:=camera", "-p", f"model:={bundles['first']}")
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    masks, infos = client.collect(Image, f"{NODE}/labels", 100), client.collect(String, f"{NODE}/label_info", latched)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    camera = client.camera("/busy/camera")
    process.wait_for_log("segmenting images")
    client.meet(NODE, camera, outputs=[f"{NODE}/labels"])
    client.spin_until(lambda: infos, "label info")
    return SimpleNamespace(process=process, masks=masks, infos=infos, diagnostics=diagnostics, camera=camera)


class Sending:
    """The camera sends at 30 Hz, each frame once the mask of the one before is there, so that none supersedes another.

    Attributes:
        sent: stamp to number of every frame sent so far.
        resumed: how often no mask came for so long that the frame must have been lost.
    """

    timer: Any

    def __init__(self, busy: Any, image_message: Callable[..., Any]) -> None:
        self.sent: dict[tuple[int, int], int] = {}
        self.resumed = 0
        self._busy, self._image_message, self._last_s = busy, image_message, -RESEND_S

    def send(self) -> None:
        """Send a frame if it is time."""
        if self.sent and not (self._busy.masks and stamp_of(self._busy.masks[-1]) == list(self.sent)[-1]):
            if time.monotonic() - self._last_s < RESEND_S:
                return
            self.resumed += 1
        self._last_s = time.monotonic()
        number = len(self.sent) + 1
        pixels = np.zeros((120, 160, 3), np.uint8)
        pixels[..., 0], pixels[..., 2] = (16 * value for value in classes_of(number).values())
        message = self._image_message(pixels)
        self.sent[stamp_of(message)] = number
        self._busy.camera.publish(message)


@pytest.fixture
def sending(busy: Any, client: Any, image_message: Callable[..., Any]) -> Iterator[Sending]:
    """The camera sends for the length of a test."""
    sending = Sending(busy, image_message)
    sending.timer = client.node.create_timer(1 / CAMERA_HZ, sending.send)
    yield sending
    client.node.destroy_timer(sending.timer)


def masks_go_on(busy: Any, client: Any, count: int = 8) -> None:
    """Wait for so many masks more."""
    enough = len(busy.masks) + count
    client.spin_until(lambda: len(busy.masks) >= enough, "masks")


def stamp_of(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def reload(client: Any, model: Path) -> tuple[bool, str]:
    from std_srvs.srv import Trigger

    assert client.set_parameter(NODE, "model", str(model)).successful
    answer = client.call(Trigger, f"{NODE}/reload", Trigger.Request())
    return answer.success, answer.message


def maker(infos: list[Any], stamp: tuple[int, int]) -> tuple[str, str]:
    """(name, id) of the model that made the mask with this stamp, as a subscriber finds it."""
    read = [json.loads(info.data) for info in infos]
    starts = [(tuple(info["first_stamp"].values()), info) for info in read if info["first_stamp"]]
    info = max((start for start in starts if start[0] <= stamp), key=lambda start: start[0])[1]
    return info["model"], info["model_id"]


def test_p2_p6_every_mask_is_of_the_model_that_its_stamp_says_while_models_come_and_go(
    busy: Any, client: Any, bundles: dict[str, Path], sending: Sending, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(bundles["first"], tmp_path / "damaged"))
    (damaged / "model.onnx").write_bytes((damaged / "model.onnx").read_bytes()[:-1] + b"x")
    masks_go_on(busy, client)
    for name in ("second", "first", "second"):
        success, message = reload(client, bundles[name])
        assert success, message
        assert f"model '{name}' ({short_id(bundles[name])})" in message
        masks_go_on(busy, client)
        success, message = reload(client, damaged)
        assert not success
        assert "the sha256 of file 'model.onnx' does not match" in message
        masks_go_on(busy, client)

    names = []
    for mask in busy.masks:
        name, identity = maker(busy.infos, stamp_of(mask))
        assert identity == short_id(bundles[name])
        expected = classes_of(sending.sent[stamp_of(mask)])[name]
        assert set(mask.data) == {expected}, f"frame {sending.sent[stamp_of(mask)]}, said to be of '{name}'"
        names.append(name)
    changes = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    assert changes == ["first", "second", "first", "second"]


def test_p1_p6_no_frame_is_lost_to_a_swap_and_the_counts_add_up(
    busy: Any, client: Any, bundles: dict[str, Path], sending: Sending
) -> None:
    def counts() -> dict[str, int]:
        values = client.status(busy.diagnostics, NODE)[2]
        names = ("received", "published", "superseded", "stale", "refused", "failed", "in_flight", "reloads")
        return {name: int(values[name]) for name in names}

    before = counts()
    for name in ("first", "second") * 3:
        assert reload(client, bundles[name])[0]
        masks_go_on(busy, client)
    sending.timer.cancel()
    after = counts()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["reloads"] == 6
    assert (grown["stale"], grown["refused"], grown["failed"]) == (0, 0, 0)
    assert grown["published"] + grown["superseded"] + grown["in_flight"] == grown["received"]
    assert grown["superseded"] <= sending.resumed, "a swap holds no frame back until the next one comes"
    client.spin_until(lambda: len(busy.masks) == after["published"], "each mask that has gone out")


def test_c2_a_signal_in_the_middle_of_a_reload_exits_cleanly(
    busy: Any, client: Any, bundles: dict[str, Path], sending: Sending, tmp_path: Path
) -> None:
    from std_srvs.srv import Trigger

    endless = Path(shutil.copytree(bundles["first"], tmp_path / "endless"))
    manifest = yaml.safe_load((endless / "manifest.yaml").read_text())
    with (endless / "large.bin").open("wb") as large:
        large.truncate(1 << 38)  # takes no room, and its hash takes minutes
    manifest["files"]["large.bin"] = {"bytes": 1 << 38, "sha256": "0" * 64}
    (endless / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    assert client.set_parameter(NODE, "model", str(endless)).successful
    caller = client.node.create_client(Trigger, f"{NODE}/reload")
    client.spin_until(caller.service_is_ready, "service reload")
    answer = caller.call_async(Trigger.Request())
    masks_go_on(busy, client)
    assert not answer.done(), answer.result()
    assert busy.process.stop(timeout_s=SOON_S) == 0
    assert "Traceback" not in busy.process.log()
