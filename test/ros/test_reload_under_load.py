"""Hot swap of the real node in a process of its own, over real DDS, while a camera sends numbered frames at 30 Hz.

The two bundles read the class id from different channels of the frame, so that a mask tells frame and model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

NODE = "/busy/segment_node"
CAMERA_HZ = 30.0


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
    client.spin_until(lambda: camera.get_subscription_count() == 1, "the node's subscription")
    client.spin_until(lambda: client.node.count_publishers(f"{NODE}/labels") == 1, "the node's masks")
    client.spin_until(lambda: infos, "label info")
    client.spin_for(0.5)
    return SimpleNamespace(process=process, masks=masks, infos=infos, diagnostics=diagnostics, camera=camera)


@pytest.fixture
def sending(busy: Any, client: Any, image_message: Callable[..., Any]) -> Iterator[dict[tuple[int, int], int]]:
    """The camera sends at 30 Hz for the length of a test; stamp to number of every frame sent so far."""
    sent: dict[tuple[int, int], int] = {}
    numbers = iter(range(1, 1 << 20))

    def send() -> None:
        number = next(numbers)
        pixels = np.zeros((120, 160, 3), np.uint8)
        pixels[..., 0], pixels[..., 2] = (16 * value for value in classes_of(number).values())
        message = image_message(pixels)
        sent[stamp_of(message)] = number
        busy.camera.publish(message)

    timer = client.node.create_timer(1 / CAMERA_HZ, send)
    yield sent
    client.node.destroy_timer(timer)


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


def test_every_mask_is_of_the_model_that_its_stamp_says_while_models_come_and_go(
    busy: Any, client: Any, bundles: dict[str, Path], sending: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(bundles["first"], tmp_path / "damaged"))
    (damaged / "model.onnx").write_bytes((damaged / "model.onnx").read_bytes()[:-1] + b"x")
    client.spin_until(lambda: len(busy.masks) >= 10, "masks of the first model")
    for name in ("second", "first", "second"):
        success, message = reload(client, bundles[name])
        assert success, message
        assert f"model '{name}' ({short_id(bundles[name])})" in message
        client.spin_for(0.4)
        success, message = reload(client, damaged)
        assert not success
        assert "the sha256 of file 'model.onnx' does not match" in message
        client.spin_for(0.4)

    names = []
    for mask in busy.masks:
        name, identity = maker(busy.infos, stamp_of(mask))
        assert identity == short_id(bundles[name])
        expected = classes_of(sending[stamp_of(mask)])[name]
        assert set(mask.data) == {expected}, f"frame {sending[stamp_of(mask)]}, said to be of '{name}'"
        names.append(name)
    changes = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    assert changes == ["first", "second", "first", "second"]


def test_no_frame_is_lost_to_a_swap_and_the_counts_add_up(
    busy: Any, client: Any, bundles: dict[str, Path], sending: dict[tuple[int, int], int]
) -> None:
    def counts() -> dict[str, int]:
        values = client.status(busy.diagnostics, NODE)[2]
        names = ("received", "published", "superseded", "stale", "refused", "failed", "in_flight", "reloads")
        return {name: int(values[name]) for name in names}

    before, masks = counts(), len(busy.masks)
    for name in ("first", "second") * 3:
        assert reload(client, bundles[name])[0]
        client.spin_for(0.2)
    after = counts()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["reloads"] == 6
    assert (grown["stale"], grown["refused"], grown["failed"]) == (0, 0, 0)
    assert grown["received"] >= 30
    assert grown["published"] + grown["superseded"] + grown["in_flight"] == grown["received"]
    # On a machine that does other things as well a frame may find the one before still in work; a swap adds none.
    assert grown["superseded"] <= grown["received"] // 10
    assert len(busy.masks) - masks >= grown["published"] - 3, "what went out arrives, but for the last ones"


def test_a_signal_in_the_middle_of_a_reload_exits_cleanly(
    busy: Any, client: Any, bundles: dict[str, Path], sending: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    from std_srvs.srv import Trigger

    endless = Path(shutil.copytree(bundles["first"], tmp_path / "endless"))
    (endless / "manifest.yaml").unlink()
    os.mkfifo(endless / "manifest.yaml")  # the loading thread waits for somebody who writes
    assert client.set_parameter(NODE, "model", str(endless)).successful
    caller = client.node.create_client(Trigger, f"{NODE}/reload")
    client.spin_until(caller.service_is_ready, "service reload")
    answer = caller.call_async(Trigger.Request())
    client.spin_for(0.5)
    received = len(busy.masks)
    client.spin_until(lambda: len(busy.masks) > received + 5, "masks while the model loads")
    assert not answer.done()

    def end_of_file() -> None:
        time.sleep(0.5)
        (endless / "manifest.yaml").write_bytes(b"{}")

    writer = threading.Thread(target=end_of_file, daemon=True)
    writer.start()
    assert busy.process.stop() == 0
    writer.join()
    assert "Traceback" not in busy.process.log()
