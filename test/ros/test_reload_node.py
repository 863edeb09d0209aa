"""`~/reload` of the real node in this process, on a single-threaded executor, with models that the test controls."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from answering_graphs import constant_graph
from fake_segmenter import FakeSegmenter
from tiny_bundle import write_tiny_bundle

from hrda_core.errors import BackendError, BundleError
from hrda_core.inference import Prediction
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_ros.model.segmenter import open_segmenter

NODE = "/swapping"
WAIT_S = 60.0
COARSE = LabelSpace("coarse", ("sky", "rest", "street", "car"), ((0, 0, 9), (1, 1, 9), (2, 2, 9), (3, 3, 9)))


class Constant(FakeSegmenter):
    """Every pixel has the same class."""

    warmed_up: tuple[int, int] | None = None
    hangs: threading.Event | None = None

    def __init__(self, *names: Any) -> None:
        super().__init__(*names)
        self.entered = threading.Event()

    def __call__(self, rgb: np.ndarray) -> Prediction:
        if self.hangs is not None:
            self.entered.set()
            assert self.hangs.wait(WAIT_S)
        return super().__call__(rgb)

    def warm_up(self, height: int, width: int) -> None:
        if self.bundle.name == "cold":
            raise BackendError("out of memory")
        self.warmed_up = (height, width)


class Models:
    """The factory: by the parameter `model`. `slow` comes once `gate` is open."""

    def __init__(self) -> None:
        self.gate, self.opened = threading.Event(), threading.Event()
        self.opened_models: list[Constant] = []

    def __call__(self, settings: Any) -> Any:
        self.opened.set()
        if settings.model == "broken":
            raise BundleError("model bundle 'broken' is not a folder; give another")
        if settings.model == "slow":
            assert self.gate.wait(WAIT_S)
        if "/" in settings.model:
            return open_segmenter(settings)
        names = {"": ("old", 1), "slow": ("slow", 2), "coarse": ("coarse", 3, COARSE), "cold": ("cold", 4)}
        self.opened_models.append(Constant(*names[settings.model]))
        return self.opened_models[-1]

    def closed(self) -> list[tuple[str, int]]:
        """Name of every model that was opened, and how often it was closed."""
        return [(model.bundle.name, model.closed) for model in self.opened_models]


@pytest.fixture
def swapping(ros: Any, client: Any) -> Iterator[Any]:
    """An unconfigured node that spins in a thread of its own, its camera, and what it publishes."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    from hrda_ros.segment_node import SegmentNode

    models = Models()
    names = ["-r", f"__node:={NODE[1:]}", "-r", "image:=/swapping_camera"]
    node = SegmentNode(predictor_factory=models, cli_args=["--ros-args", *names])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    latched = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    topics = [(Image, "labels", 50), (Image, "color", 50), (String, "label_info", latched)]
    subscriptions = [client.node.create_subscription(t, f"{NODE}/{n}", (got := []).append, q) for t, n, q in topics]
    masks, colors, infos = (subscription.callback.__self__ for subscription in subscriptions)
    assert got is infos
    diagnostics: list[Any] = []
    subscriptions.append(client.node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, 10))
    camera = client.camera("/swapping_camera")
    yield SimpleNamespace(
        node=node, models=models, camera=camera, masks=masks, colors=colors, infos=infos, diagnostics=diagnostics
    )
    models.gate.set()
    executor.shutdown()
    spinning.join(WAIT_S)
    node.close()
    node.destroy_node()
    for subscription in subscriptions:
        client.node.destroy_subscription(subscription)
    client.node.destroy_publisher(camera)


@pytest.fixture
def active(swapping: Any, client: Any) -> Any:
    assert swapping.node.start()
    client.meet(NODE, swapping.camera, outputs=[f"{NODE}/labels", f"{NODE}/color"])
    client.spin_until(lambda: swapping.infos, "the first label info")
    return swapping


@pytest.fixture
def label_of(client: Any, image_message: Callable[..., Any]) -> Callable[[Any], tuple[int, Any]]:
    """Segments a frame: (the class of its mask, its header)."""

    def label(swapping: Any) -> tuple[int, Any]:
        message = image_message(np.zeros((6, 8, 3), np.uint8))
        mask = client.exchange(swapping.camera, message, swapping.masks)
        return mask.data[0], mask.header

    return label


def ask(client: Any, node: str = NODE) -> Any:
    """A call of `~/reload`, as a future."""
    from std_srvs.srv import Trigger

    caller = client.node.create_client(Trigger, f"{node}/reload")
    client.spin_until(caller.service_is_ready, "service reload")
    return caller.call_async(Trigger.Request())


def reload(client: Any, model: str) -> tuple[bool, str]:
    """Set the parameter and reload: what the service answered."""
    assert client.set_parameter(NODE, "model", model).successful
    future = ask(client)
    client.spin_until(future.done, "an answer of reload")
    return future.result().success, future.result().message


def change(client: Any, transition: str) -> bool:
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.label = transition
    return bool(client.call(ChangeState, f"{NODE}/change_state", request).success)


def info(swapping: Any) -> tuple[str, Any]:
    """(model, first stamp) of the newest label info."""
    newest = json.loads(swapping.infos[-1].data)
    return newest["model"], newest["first_stamp"]


def stamp(header: Any) -> dict[str, int]:
    return {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}


def test_p6_frames_and_services_go_on_while_a_model_loads(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert client.set_parameter(NODE, "model", "slow").successful
    active.models.opened.clear()
    answer = ask(client)
    client.spin_until(active.models.opened.is_set, "the loading")
    assert [label_of(active)[0] for _ in range(5)] == [1] * 5
    assert client.status(active.diagnostics, NODE)[2]["model"] == "old"
    second = ask(client)
    client.spin_until(second.done, "the refusal")
    assert not second.result().success
    assert "another reload is on its way" in second.result().message
    assert not answer.done()
    active.models.gate.set()
    client.spin_until(answer.done, "the answer")
    assert answer.result().success
    assert "model 'slow', 19 classes" in answer.result().message
    assert "the label space 'cityscapes19' is the same" in answer.result().message
    assert active.models.opened_models[-1].warmed_up == (6, 8), "at the camera's size"
    assert label_of(active)[0] == 2


def test_the_end_of_a_reload_wakes_an_executor_that_has_nothing_else_to_do(ros: Any, client: Any) -> None:
    from rclpy.executors import SingleThreadedExecutor

    from hrda_ros.model.hot_swap import HotSwap
    from hrda_ros.services.reload_service import ReloadService

    models: HotSwap[Any] = HotSwap(lambda old, new, duration_s: "exchanged")
    models.install(SimpleNamespace(announce=lambda: None))
    gate = threading.Event()

    def load() -> Any:
        assert gate.wait(WAIT_S)
        return SimpleNamespace(announce=lambda: None)

    node = ros.create_node("idle")  # without the timer of the real node
    ReloadService(node, models, lambda: (load, 0.0))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    try:
        answer = ask(client, "/idle")
        client.spin_until(lambda: models._attempt, "the loading")
        client.spin_for(0.3)  # until the executor sleeps
        gate.set()
        client.spin_until(answer.done, "the answer")
        assert answer.result().message == "exchanged"
    finally:
        executor.shutdown()
        spinning.join(WAIT_S)
        node.destroy_node()


def test_label_info_names_the_model_and_its_first_frame(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert info(active) == ("old", None)
    _, first = label_of(active)
    label_of(active)
    assert info(active) == ("old", stamp(first))
    active.models.gate.set()
    assert reload(client, "slow")[0]
    client.spin_until(lambda: info(active) == ("slow", None), "the new model before its first frame")
    label, first = label_of(active)
    label_of(active)
    assert (label, *info(active)) == (2, "slow", stamp(first))
    assert change(client, "deactivate")
    assert change(client, "activate")
    client.spin_until(lambda: info(active) == ("slow", None), "a fresh start")


def test_colours_change_with_the_label_space_in_the_same_frame(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    label_of(active)
    success, message = reload(client, "coarse")
    assert success
    assert "changed from 'cityscapes19' to 'coarse'" in message
    label_of(active)
    client.spin_until(lambda: len(active.colors) == len(active.masks), "the pictures")
    shown = [tuple(color.data[:3]) for color in active.colors]
    spaces = [CITYSCAPES19, COARSE]
    expected = [space.palette[label] for space, label in zip(spaces, (1, 3), strict=True)]
    assert list(dict.fromkeys(shown)) == expected
    assert [entry["name"] for entry in json.loads(active.infos[-1].data)["classes"]] == list(COARSE.classes)


@pytest.mark.parametrize(("model", "reason"), [("broken", "is not a folder; give another"), ("cold", "out of memory")])
def test_p6_c8_a_broken_model_leaves_the_old_one_serving(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]], model: str, reason: str
) -> None:
    success, message = reload(client, model)
    assert not success
    assert message.startswith("the old model goes on serving: ")
    assert reason in message
    assert label_of(active)[0] == 1
    assert active.node.get_parameter("model").value == model, "the parameter stays as it was set"
    level, text, values = client.status(active.diagnostics, NODE)
    assert (level, values["model"], values["reloads"]) == (1, "old", "0")
    assert reason in text
    assert reason in values["reload_error"]
    assert info(active)[0] == "old"
    success, _ = reload(client, "coarse")
    assert success
    label_of(active)
    _, _, values = client.status(active.diagnostics, NODE)
    assert (values["model"], values["reloads"], values["reload_error"]) == ("coarse", "1", "")


@pytest.mark.parametrize("confidence", [0, 200])
def test_p6_m11_c8_a_model_that_does_not_answer_like_one_leaves_the_old_one_serving(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]], tmp_path: Path, confidence: int
) -> None:
    bundle = write_tiny_bundle(tmp_path / "constant", model=constant_graph(0, confidence))  # 0 is what NaNs become
    success, message = reload(client, str(bundle))
    assert not success
    assert "the old model goes on serving: graph 'model.onnx'" in message
    assert "does not answer like a model" in message
    assert label_of(active)[0] == 1


def test_p7_l2_a_back_end_that_hangs_is_an_error_within_two_seconds_and_recovers(
    active: Any, client: Any, image_message: Callable[..., Any], label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert label_of(active)[0] == 1
    model = active.models.opened_models[-1]
    model.hangs = threading.Event()
    active.camera.publish(image_message(np.zeros((6, 8, 3), np.uint8)))
    client.spin_until(model.entered.is_set, "the frame that hangs")

    def level() -> tuple[int, str]:
        return client.status(active.diagnostics, NODE)[:2]

    found = [level() for _ in range(3)]  # there is one a second
    assert found[-1][0] == 2
    assert "has not come back with a frame" in found[-1][1]
    model.hangs.set()
    assert label_of(active)[0] == 1
    assert level()[0] == 0


def test_l2_a_reload_that_hangs_answers_after_its_time_out_and_can_be_tried_again(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert client.set_parameter(NODE, "reload_timeout_s", 0.3).successful
    success, message = reload(client, "slow")
    assert not success
    assert message.endswith("the new model has given no sign of life for 0.3 s (reload_timeout_s)")
    assert label_of(active)[0] == 1
    assert client.status(active.diagnostics, NODE)[0] == 1
    assert client.set_parameter(NODE, "reload_timeout_s", 60.0).successful
    assert reload(client, "coarse")[0]
    assert label_of(active)[0] == 3
    active.models.gate.set()
    client.spin_until(lambda: ("slow", 1) in active.models.closed(), "the end of the model that came too late")


def test_c1_deactivation_drops_a_reload_on_its_way(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert client.set_parameter(NODE, "model", "slow").successful
    active.models.opened.clear()
    answer = ask(client)
    client.spin_until(active.models.opened.is_set, "the loading")
    assert change(client, "deactivate")
    client.spin_until(answer.done, "the answer")
    assert not answer.result().success
    assert "dropped" in answer.result().message
    active.models.gate.set()
    assert change(client, "activate")
    client.meet(NODE, active.camera)
    assert label_of(active)[0] == 1


@pytest.mark.parametrize("transitions", [["deactivate", "cleanup"], ["shutdown"]])
def test_cleanup_and_shutdown_wait_for_the_loading_thread(active: Any, client: Any, transitions: list[str]) -> None:
    assert client.set_parameter(NODE, "model", "slow").successful
    active.models.opened.clear()
    answer = ask(client)
    client.spin_until(active.models.opened.is_set, "the loading")
    threading.Timer(0.2, active.models.gate.set).start()
    assert all(change(client, transition) for transition in transitions)
    assert not [thread for thread in threading.enumerate() if thread.name == "hrda-reload"]
    client.spin_until(answer.done, "the answer")
    assert not answer.result().success
    assert active.models.closed() == [("old", 1), ("slow", 1)], "also the model that came too late"
    success, message = reload(client, "coarse")
    assert not success
    assert "no model serves" in message


def test_an_inactive_node_takes_the_new_model_and_an_unconfigured_one_refuses(
    swapping: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    success, message = reload(client, "coarse")
    assert not success
    assert "the configure transition loads" in message
    assert client.set_parameter(NODE, "model", "").successful
    assert change(client, "configure")
    assert client.status(swapping.diagnostics, NODE)[2]["model"] == "old"
    assert reload(client, "coarse")[0]
    assert client.status(swapping.diagnostics, NODE)[2]["model"] == "coarse"
    assert swapping.infos == [], "nothing is published before activate"
    assert change(client, "activate")
    client.meet(NODE, swapping.camera, outputs=[f"{NODE}/labels"])
    assert label_of(swapping)[0] == 3


def test_each_model_is_closed_once_when_it_serves_no_more(
    active: Any, client: Any, label_of: Callable[[Any], tuple[int, Any]]
) -> None:
    assert label_of(active)[0] == 1
    assert not reload(client, "cold")[0]
    assert active.models.closed() == [("old", 0), ("cold", 1)], "what could not be warmed up goes, the old model stays"
    assert reload(client, "coarse")[0]
    client.spin_until(lambda: active.models.closed()[0] == ("old", 1), "the end of the old model")
    assert label_of(active)[0] == 3
    assert change(client, "deactivate")
    assert active.models.closed()[-1] == ("coarse", 0), "an inactive node keeps its model"
    assert change(client, "cleanup")
    assert active.models.closed() == [("old", 1), ("cold", 1), ("coarse", 1)]
