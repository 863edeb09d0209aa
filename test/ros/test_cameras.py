"""Several cameras of one node with one model: in this process without DDS between, and once over DDS."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from served_node import WAIT_S, HeldSegmenter, ServedNode, served_node

from hrda_core.errors import BackendError, HrdaError
from hrda_core.inference import Prediction
from hrda_ros.health.diagnostics import ERROR, OK, assess
from hrda_ros.model.segmenter import open_segmenter
from hrda_ros.settings.camera_settings import cameras_refusal, check_topics
from hrda_ros.settings.parameters import PARAMETERS

FOUR = "front, rear, left, right"
AREA = "/front/image_raw: {size: [3, 2], ego_vehicle: [[0, 1], [3, 1], [3, 2], [0, 2]]}\n"


class Red(FakeSegmenter):
    """The class of each pixel is its red value, all are quite sure; 200 makes it fail."""

    def __call__(self, rgb: np.ndarray) -> Prediction:
        if rgb[0, 0, 0] == 200:
            raise BackendError("cannot see 200")
        return Prediction(np.ascontiguousarray(rgb[..., 0]), np.full(rgb.shape[:2], 250, np.uint8))


class Several(Red):
    """Takes several images in a run, and counts those of each."""

    takes_batch = True

    def __init__(self) -> None:
        super().__init__("several")
        self.runs: list[int] = []
        self.gate = threading.Event()

    def __call__(self, rgb: np.ndarray) -> Prediction:
        assert self.gate.wait(20.0)
        return super().__call__(rgb)

    def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """All at once."""
        self.runs.append(len(images))
        return [super(Several, self).__call__(rgb) for rgb in images]


def grey(value: int, image_message: Callable[..., Any], height: int = 2) -> Any:
    return image_message(np.full((height, 3, 3), value, np.uint8))


@pytest.fixture(scope="module")
def two(ros: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    areas = tmp_path_factory.mktemp("areas") / "areas.yaml"
    areas.write_text(AREA)
    with served_node(
        "two_cameras", lambda _: Red("red"), lazy=False, cameras="front, rear", camera_areas=str(areas)
    ) as served:
        yield served


def test_p1_p4_l7_each_of_four_cameras_gets_a_quarter_of_a_back_end_that_is_too_slow_for_one(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    held = HeldSegmenter()
    with served_node("four_cameras", lambda _: held, lazy=False, cameras=FOUR) as served:
        for turn in range(20):
            for camera in range(4):
                for _ in range(1 + 3 * (camera == 0)):  # the first one sends four times as many
                    served.give(grey(camera, image_message), camera, wait=False)
                assert served.counts(camera).in_flight <= 2
            assert held.entered.acquire(timeout=WAIT_S)
            if turn < 19:
                held.leave.release()
        held.leave.release(5)
        served.wait()
        published = [served.counts(camera).published for camera in range(4)]
        assert sum(published) in (20 + 3, 20 + 4), "what waited at the end had its turn too"
        assert min(published) >= 5
        assert max(published) <= 7
        assert [served.counts(camera).received for camera in range(4)] == [80, 20, 20, 20]
        for camera, masks in enumerate(served.masks_of.values()):
            assert [mask[0, 0] for mask in masks.pixels] == [camera] * published[camera]


def test_p1_p2_images_of_one_moment_go_through_the_model_in_one_run(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    several = Several()
    with served_node("one_moment", lambda _: several, lazy=False, cameras=FOUR, batch_slop_s=0.02) as served:
        served.give(grey(1, image_message), wait=False)  # keeps the worker busy until the others have come
        while served.counts().in_flight and served.node._worker._slots:
            time.sleep(0.001)
        messages = [grey(value, image_message) for value in (5, 6, 7, 8)]
        for camera, message in enumerate(messages):
            message.header.stamp.sec, message.header.stamp.nanosec = 100 + (camera == 3), 1000 * camera
            served.give(message, camera, wait=False)
        several.gate.set()
        served.wait()
        assert several.runs == [3], "the fourth is of another second"
        assert [served.counts(camera).published for camera in range(4)] == [2, 1, 1, 1]
        for value, message, masks in zip((5, 6, 7, 8), messages, served.masks_of.values(), strict=True):
            assert masks.headers[-1] == message.header
            assert masks.pixels[-1][0, 0] == value


def test_p2_a_mask_goes_out_under_its_camera_with_the_header_of_its_image(
    two: ServedNode, image_message: Callable[..., Any]
) -> None:
    messages = [grey(7, image_message), grey(9, image_message)]
    for camera, message in enumerate(messages):
        two.give(message, camera)
    for message, value, masks in zip(messages, (7, 9), two.masks_of.values(), strict=True):
        assert masks.headers[-1] == message.header
        assert masks.pixels[-1][0, 0] == value


def test_pixels_that_do_not_count_get_255_on_their_camera_and_on_no_other(
    two: ServedNode, image_message: Callable[..., Any]
) -> None:
    for camera in (0, 1):
        two.give(grey(7, image_message), camera)
    front, rear = (masks.pixels[-1].tolist() for masks in two.masks_of.values())
    assert front == [[7, 7, 7], [255, 255, 255]]
    assert rear == [[7, 7, 7], [7, 7, 7]]


def test_p1_p3_a_frame_of_another_size_than_the_area_is_refused_and_the_next_one_served(
    two: ServedNode, image_message: Callable[..., Any]
) -> None:
    before = two.counts()
    two.give(grey(7, image_message, height=5))
    two.give(grey(7, image_message))
    after = two.counts()
    assert after.causes["refused", "area"] - before.causes.get(("refused", "area"), 0) == 1
    assert after.published - before.published == 1
    assert "the picture has 3x5 pixels, but the camera's area is for 3x2" in two.node.cameras[0].errors["refused"]


def test_p1_a_camera_whose_frames_fail_is_an_error_in_its_own_diagnostics_and_the_other_one_is_well(
    two: ServedNode, image_message: Callable[..., Any]
) -> None:
    before = [two.counts(camera) for camera in (0, 1)]
    two.give(grey(200, image_message))
    two.give(grey(7, image_message), 1)
    reports = [two.report(100.0, 0.0, camera) for camera in (0, 1)]
    verdicts = [assess(report, counts) for report, counts in zip(reports, before, strict=True)]
    assert [level for level, _ in verdicts] == [ERROR, OK]
    assert "cannot see 200" in verdicts[0][1]
    assert [report.name for report in reports] == ["/two_cameras/front", "/two_cameras/rear"]
    assert [report.topic for report in reports] == ["/front/image_raw", "/rear/image_raw"]


def test_a_reload_exchanges_the_model_of_all_cameras_and_a_pause_keeps_their_counters(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    opened: list[FakeSegmenter] = []

    def open_next(_: Any) -> FakeSegmenter:
        opened.append(FakeSegmenter("next", label=len(opened) + 1))
        return opened[-1]

    with served_node("reloaded_cameras", open_next, lazy=False, cameras="front,rear") as served:
        for camera in (0, 1):
            served.give(grey(0, image_message), camera)
        done: list[Any] = []
        load, timeout_s = served.node._prepare_reload()
        served.node._models.reload(load, done.append, timeout_s)
        assert served.node._models.join(10.0)
        assert [outcome.success for outcome in done] == [True]
        served.keep_masks()
        for camera in (0, 1):
            served.give(grey(0, image_message), camera)
        assert [[mask[0, 0] for mask in masks.pixels] for masks in served.masks_of.values()] == [[1, 2], [1, 2]]
        assert [model.closed for model in opened] == [1, 0]
        assert served.node.trigger_deactivate() == served.node.trigger_activate()
        served.give(grey(0, image_message), 1)
        assert [served.counts(camera).published for camera in (0, 1)] == [2, 3]


def test_a_camera_takes_what_its_own_parameters_leave_out_from_those_of_the_node(ros: Any) -> None:
    from rclpy.parameter import Parameter

    with served_node(
        "own_parameters",
        cameras="front,rear",
        image_transport="compressed",
        **{"front.image": "nose/picture", "rear.image_transport": "raw"},
    ) as served:
        assert [camera.topic for camera in served.node.cameras] == ["/nose/picture/compressed", "/rear/image_raw"]
        result = served.node.set_parameters([Parameter("front.image_transport", value="theora")])[0]
        assert result.reason == "front.image_transport must be one of \"\", raw, compressed, not 'theora'"
        assert not served.node.set_parameters([Parameter("cameras", value="front")])[0].successful


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (" , ", "cameras is empty; give their names with commas between"),
        ("front,front", "camera 'front' stands in cameras twice"),
        ("front,2nd", "'2nd' cannot be a namespace"),
        ("roof/front", "'roof/front' cannot be a camera of one node"),
        ("model,front", "camera 'model' has the name of a parameter of the node"),
    ],
)
def test_p8_names_that_cannot_be_cameras_of_a_node_are_refused(names: str, sentence: str) -> None:
    assert sentence in cameras_refusal(names, [spec.name for spec in PARAMETERS])


def test_p8_two_cameras_on_one_topic_are_refused() -> None:
    check_topics({"front": "/a", "rear": "/b"})
    with pytest.raises(HrdaError, match="cameras 'front' and 'rear' both listen to '/a'; give each a topic of its own"):
        check_topics({"front": "/a", "rear": "/a"})


def test_p8_two_outputs_on_one_topic_are_refused() -> None:
    with pytest.raises(HrdaError, match="several outputs are remapped to '/x'; give each a topic of its own"):
        check_topics({"": "/a"}, ["/x", "/y", "/x"])


def refusal(factory: Callable[[Any], Any], **parameters: Any) -> str:
    """Why a node with these parameters does not start."""
    from rclpy.parameter import Parameter

    from hrda_ros.segment_node import SegmentNode

    node = SegmentNode(
        predictor_factory=factory,
        parameter_overrides=[Parameter(key, value=value) for key, value in parameters.items()],
        cli_args=["--ros-args", "-r", "__node:=mistaken"],
    )
    try:
        assert not node.start()
        return str(node._report(node.cameras[0], 0.0, 0.0).last_error)
    finally:
        node.close()
        node.destroy_node()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"cameras": "front,rear", "rear.image": "/front/image_raw"}, "both listen to '/front/image_raw'"),
        ({"cameras": "front,rear", "rear.image": "/mistaken/front/overlay"}, "set the parameter rear.image"),
        (
            {"cameras": "front", "front.image": "/mistaken/front/labels", "image_transport": "compressed"},
            "the images come from '/mistaken/front/labels/compressed', which this node publishes itself",
        ),
        ({"cameras": "front", "front.image": "a b"}, "give another one, with the parameter front.image"),
        ({"cameras": "front", "front.image": 100 * "/abc"}, "give another one, with the parameter front.image"),
        ({"camera_areas": "/absent.yaml"}, "camera areas '/absent.yaml' cannot be read"),
    ],
)
def test_p8_a_mistake_about_the_inputs_is_one_sentence_before_a_model_is_loaded(
    ros: Any, parameters: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(lambda _: pytest.fail("a model is loaded"), **parameters)


def test_l2_a_back_end_that_wants_to_end_the_process_while_it_loads_is_refused(ros: Any) -> None:
    assert "cannot configure: SystemExit: 3" in refusal(lambda _: sys.exit(3))


def test_p8_images_of_one_moment_are_refused_for_a_graph_that_takes_one(ros: Any, tiny_bundle: Path) -> None:
    text = refusal(open_segmenter, cameras=FOUR, batch_slop_s=0.02, model=str(tiny_bundle))
    assert "batch_slop_s is 0.02, but the graph of plan 'tiles' takes one image at a time (onnxruntime" in text


def test_p1_l7_over_dds_each_camera_has_its_topics_and_its_line_in_diagnostics(
    start_node: Callable[..., Any], client: Any, tiny_bundle: Path, image_message: Callable[..., Any], picture: Any
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    node = "/car/segment_node"
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    names, latched = ("front", "rear"), QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    masks = {name: client.collect(Image, f"{node}/{name}/labels") for name in names}
    infos = {name: client.collect(String, f"{node}/{name}/label_info", latched) for name in names}
    process = start_node("-r", "__ns:=/car", "-p", f"model:={tiny_bundle}", "-p", "cameras:=front,rear")
    process.wait_for_log("segmenting images of '/car/front/image_raw', '/car/rear/image_raw'")
    cameras = {name: client.camera(f"/car/{name}/image_raw") for name in names}
    client.meet(node, *cameras.values(), outputs=[f"{node}/{name}/labels" for name in names])
    assert client.node.count_publishers(f"{node}/labels") == 0
    sent = {name: image_message(picture()) for name in names}
    for name in names:
        assert client.exchange(cameras[name], sent[name], masks[name]).header == sent[name].header
        stamp = sent[name].header.stamp
        client.spin_until(
            lambda name=name, stamp=stamp: (
                infos[name]  # type: ignore[misc]
                and json.loads(infos[name][-1].data)["first_stamp"] == {"sec": stamp.sec, "nanosec": stamp.nanosec}
            ),
            "the first stamp of this camera",
        )
    for name in names:
        while client.status(diagnostics, f"{node}/{name}")[2]["published"] == "0":
            pass  # a mask goes out before it is counted
