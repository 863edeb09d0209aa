"""The real node in a process of its own, over real DDS, with a model whose masks are known."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_bundle import expected_confidence, expected_labels

from hrda_core.labels import CITYSCAPES19
from hrda_ros.settings.parameters import PARAMETERS

NODE = "/front/segment_node"


def pixels_of(message: Any) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) of an output message, after checking its geometry."""
    channels = {"mono8": 1, "rgb8": 3}[message.encoding]
    assert message.step == message.width * channels
    assert message.is_bigendian == 0
    shape = (message.height, message.width) if channels == 1 else (message.height, message.width, channels)
    return np.frombuffer(message.data, np.uint8).reshape(shape)


@pytest.fixture(scope="module")
def front(start_node: Callable[..., Any], client: Any, tiny_bundle: Path) -> Iterator[Any]:
    """A running node in namespace /front with its camera, masks and diagnostics."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    process = start_node(
        "-r",
        "__ns:=/front",
        "-r",
        "image:=camera/image_raw",
        "-p",
        f"model:={tiny_bundle}",
        "-p",
        "publish_confidence:=true",
        "-p",
        "mask_classes:=person, car",
    )
    masks = client.collect(Image, f"{NODE}/labels")
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    camera = client.camera("/front/camera/image_raw")
    process.wait_for_log("segmenting images")
    client.meet(NODE, camera, outputs=[f"{NODE}/labels"])
    return SimpleNamespace(process=process, masks=masks, camera=camera, diagnostics=diagnostics)


# Masks.


def test_compressed_ids_and_the_mask_of_chosen_classes_are_made_of_the_same_frame(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    from sensor_msgs.msg import CompressedImage, Image

    rgb = picture()
    message = image_message(rgb)
    outputs = {
        "mask": client.collect(Image, f"{NODE}/mask"),
        "labels/compressed": client.collect(CompressedImage, f"{NODE}/labels/compressed"),
    }
    client.meet(NODE, outputs=[f"{NODE}/{name}" for name in outputs])
    client.exchange(front.camera, message, front.masks)
    client.spin_until(lambda: all(outputs.values()), "both outputs of the frame")
    assert all(found[-1].header == message.header for found in outputs.values())
    ids = cv2.imdecode(np.frombuffer(outputs["labels/compressed"][-1].data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(ids, expected_labels(rgb))
    chosen = [CITYSCAPES19.classes.index(name) for name in ("person", "car")]
    np.testing.assert_array_equal(pixels_of(outputs["mask"][-1]), np.where(np.isin(ids, chosen), 255, 0))


def test_masks_and_class_names_fit_the_subscriptions_of_nav2s_semantic_layer(
    front: Any, client: Any, serves_semantic_layer: Callable[..., bool]
) -> None:
    from hrda_ros.masks.outputs import OUTPUT_ENCODINGS

    # Where vision_msgs is absent, the JSON twin of label_info_vision stands for it: one function advertises both.
    latched = ["label_info", "label_info_vision"] if importlib.util.find_spec("vision_msgs") else ["label_info"]
    assert (client.node.count_publishers(f"{NODE}/label_info_vision") == 1) == (len(latched) == 2)
    for name in ("labels", "confidence", *latched):
        (publisher,) = client.node.get_publishers_info_by_topic(f"{NODE}/{name}")
        assert serves_semantic_layer(publisher, latched=name in latched), name
    (masks,) = client.node.get_publishers_info_by_topic(f"{NODE}/labels")
    assert not serves_semantic_layer(masks, latched=True), "the check tells QoS apart"
    assert OUTPUT_ENCODINGS["labels"] == OUTPUT_ENCODINGS["confidence"] == "mono8"


def test_camera_info_goes_out_with_the_stamp_of_each_mask_and_of_no_other(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    from sensor_msgs.msg import CameraInfo

    relayed = client.collect(CameraInfo, f"{NODE}/camera_info")
    source = client.camera("/front/camera/camera_info", CameraInfo)
    client.meet(NODE, source, outputs=[f"{NODE}/camera_info"])

    def info_of(image: Any) -> Any:
        return CameraInfo(header=image.header, width=image.width, height=image.height, k=[1.5] * 9, d=[0.25] * 5)

    def relayed_for(image: Any) -> list[Any]:
        return [info for info in relayed if info.header == image.header]

    before, without_mask, after = (image_message(picture()) for _ in range(3))
    source.publish(info_of(before))
    source.publish(info_of(without_mask))
    client.exchange(front.camera, before, front.masks)
    client.spin_until(lambda: relayed_for(before), "the information that came before the image")
    client.exchange(front.camera, after, front.masks)
    assert not relayed_for(after)
    source.publish(info_of(after))
    client.spin_until(lambda: relayed_for(after), "the information that came after the mask")
    assert relayed_for(before) == [info_of(before)]
    assert relayed_for(after) == [info_of(after)]
    assert not relayed_for(without_mask)


def test_p2_mask_is_exact_and_keeps_header_and_size(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    rgb = picture()
    message = image_message(rgb)
    mask = client.exchange(front.camera, message, front.masks)
    assert mask.encoding == "mono8"
    assert mask.header == message.header
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(rgb))


def test_color_overlay_and_confidence_are_made_for_their_subscribers(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    from sensor_msgs.msg import Image

    topics = {name: client.collect(Image, f"{NODE}/{name}") for name in ("color", "overlay", "confidence")}
    client.meet(NODE, outputs=[f"{NODE}/{name}" for name in topics])
    rgb = picture()
    message = image_message(rgb)
    client.exchange(front.camera, message, front.masks)
    client.spin_until(lambda: all(topics.values()), "all outputs")
    assert all(outputs[-1].header == message.header for outputs in topics.values())
    color = CITYSCAPES19.color_table()[expected_labels(rgb)]
    np.testing.assert_array_equal(pixels_of(topics["color"][-1]), color)
    np.testing.assert_array_equal(pixels_of(topics["overlay"][-1]), cv2.addWeighted(rgb, 0.5, color, 0.5, 0))
    np.testing.assert_array_equal(pixels_of(topics["confidence"][-1]), expected_confidence(rgb))


@pytest.mark.parametrize("shape", [(1, 1), (121, 161), (64, 64), (33, 200), (120, 160)])
def test_size_may_change_from_frame_to_frame(
    front: Any,
    client: Any,
    image_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
    shape: tuple[int, int],
) -> None:
    rgb = picture(*shape)
    mask = client.exchange(front.camera, image_message(rgb), front.masks)
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(rgb))


def test_m5_other_layouts_give_the_same_mask(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    rgb = picture(31, 47)
    grey = rgb[..., 0]
    sixteen = grey.astype(np.uint16) * 256 + 5
    alpha = np.full((31, 47, 1), 9, np.uint8)
    layouts = [
        (image_message(rgb, padding=7), rgb),
        (image_message(rgb[..., ::-1], "bgr8", padding=1), rgb),
        (image_message(np.concatenate([rgb, alpha], 2), "rgba8"), rgb),
        (image_message(grey, "mono8", padding=3), np.dstack([grey] * 3)),
        (image_message(sixteen.astype("<u2"), "mono16"), np.dstack([grey] * 3)),
        (image_message(sixteen.astype(">u2"), "mono16", padding=5, is_bigendian=1), np.dstack([grey] * 3)),
    ]
    for message, expected in layouts:
        mask = client.exchange(front.camera, message, front.masks)
        np.testing.assert_array_equal(pixels_of(mask), expected_labels(expected), err_msg=message.encoding)


@pytest.mark.parametrize(("given", "said"), [("", "0..4095 become 0..255"), ("0 65535", "near black")])
def test_a_camera_of_twelve_bits_is_seen_as_one_of_eight_or_said_to_be_dark(
    start_node: Callable[..., Any],
    client: Any,
    tiny_bundle: Path,
    image_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
    given: str,
    said: str,
) -> None:
    from sensor_msgs.msg import Image

    place = "/dark" if given else "/deep"
    options = ["-r", f"__ns:={place}", "-p", f"model:={tiny_bundle}", "-p", f"value_range:='{given}'"]
    process = start_node(*options)
    masks = client.collect(Image, f"{place}/segment_node/labels")
    camera = client.camera(f"{place}/image")
    process.wait_for_log("segmenting images")
    client.meet(f"{place}/segment_node", camera, outputs=[f"{place}/segment_node/labels"])
    grey = picture()[..., 0]
    grey[0, 0] = 255
    twelve = (grey.astype(np.uint16) << 4) + 15
    expected = np.dstack([(twelve >> 8).astype(np.uint8) if given else grey] * 3)
    mask = client.exchange(camera, image_message(twelve.astype("<u2"), "mono16"), masks)
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(expected))
    process.wait_for_log(said)


def test_m1_trailing_bytes_are_ignored(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    rgb = picture()
    message = image_message(rgb)
    message.data.extend([1] * 5000)
    np.testing.assert_array_equal(pixels_of(client.exchange(front.camera, message, front.masks)), expected_labels(rgb))


def test_m8_stamps_going_backwards_still_give_masks(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    rgb = picture()
    client.exchange(front.camera, image_message(rgb), front.masks)
    message = image_message(rgb)
    message.header.stamp.sec -= 1000
    assert client.exchange(front.camera, message, front.masks).header == message.header
    front.process.wait_for_log("stamps jumped back")


# Bad messages.


def test_p3_p8_m1_m2_m4_bad_messages_are_counted_by_cause_and_do_not_end_the_node(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    rgb = picture(20, 30)
    short = image_message(rgb)
    short.data = short.data[:-1]
    bad = {
        "empty": image_message(rgb, height=0),
        "step": image_message(rgb, step=89),
        "short": short,
        "encoding": image_message(rgb, "rgb999"),
    }
    text = client.refused(front.camera, bad, front.diagnostics, NODE)
    assert all(cause in text for cause in bad), "diagnostics warn and name the cause"
    level, text = 1, ""
    while level < 2:  # of a camera whose every image is refused, until it counts as blind
        front.camera.publish(bad["encoding"])
        level, text, _ = client.status(front.diagnostics, NODE)
    assert (level, "every message has been refused for" in text, "rgb999" in text) == (2, True, True)
    mask = client.exchange(front.camera, image_message(rgb), front.masks)
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(rgb))
    assert "rgb999" in front.process.log()
    assert "bayer_rggb8" in front.process.log(), "the warning lists the encodings that are known"


def test_p1_counters_add_up_to_the_frames_received(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray]
) -> None:
    for _ in range(30):
        front.camera.publish(image_message(picture()))
    client.exchange(front.camera, image_message(picture()), front.masks)
    _, _, values = client.status(front.diagnostics, NODE)
    outcomes = [int(values[name]) for name in ("published", "stale", "superseded", "refused", "failed", "in_flight")]
    assert sum(outcomes) == int(values["received"])
    assert int(values["failed"]) == 0
    assert float(values["infer_ms_p50"]) > 0
    assert values["age_ms_p50"] == "n/a", "the stamps of this test are years old"
    assert values["model"] == "tiny"


# Services.


def test_the_next_frame_is_saved_and_a_node_that_is_switched_off_says_so(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image
    from std_srvs.srv import SetBool, Trigger

    assert client.call(SetBool, f"{NODE}/enable", SetBool.Request(data=False)).success
    refused = client.call(Trigger, f"{NODE}/save_frame", Trigger.Request())
    assert (refused.success, refused.message) == (False, "the node is switched off; call ~/enable with true first")
    assert client.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True)).success
    assert client.set_parameter(NODE, "save_folder", str(tmp_path)).successful

    service = client.node.create_client(Trigger, f"{NODE}/save_frame")
    client.spin_until(service.service_is_ready, "the service")
    answer, message, rgb = service.call_async(Trigger.Request()), None, picture()
    while not answer.done():  # the camera may be quicker than the call
        message = image_message(rgb)
        client.exchange(front.camera, message, front.masks)
    assert answer.result().success, answer.result().message
    (folder,) = tmp_path.iterdir()
    assert answer.result().message == f"saved '{folder}'"
    saved = deserialize_message((folder / "message.cdr").read_bytes(), Image)
    assert saved.data == message.data
    np.testing.assert_array_equal(cv2.imread(str(folder / "labels.png"), cv2.IMREAD_UNCHANGED), expected_labels(rgb))
    assert (folder / "manifest.yaml").read_text(encoding="utf-8").count("name: tiny") == 1


# The graph.


def test_subscription_is_best_effort_and_outputs_are_reliable(front: Any, client: Any) -> None:
    def qos(infos: list[Any]) -> list[tuple[str, str]]:
        return [(info.qos_profile.reliability.name, info.qos_profile.durability.name) for info in infos]

    node = client.node
    assert qos(node.get_subscriptions_info_by_topic("/front/camera/image_raw")) == [("BEST_EFFORT", "VOLATILE")]
    for name in ("labels", "color", "overlay", "confidence"):
        assert qos(node.get_publishers_info_by_topic(f"{NODE}/{name}")) == [("RELIABLE", "VOLATILE")], name
    assert qos(node.get_publishers_info_by_topic(f"{NODE}/label_info")) == [("RELIABLE", "TRANSIENT_LOCAL")]


def test_late_subscriber_gets_the_class_names(front: Any, client: Any) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = client.collect(String, f"{NODE}/label_info", latched)
    client.spin_until(lambda: infos, "label info")
    info = json.loads(infos[0].data)
    assert [entry["name"] for entry in info["classes"]] == list(CITYSCAPES19.classes)
    assert info["classes"][13] == {"id": 13, "name": "car", "color": [0, 0, 142], "thing": True}
    assert (info["model"], info["plan"], info["ignore_label"]) == ("tiny", "tiles", 255)


# Parameters.


def test_parameters_are_described_as_in_the_table(front: Any, client: Any) -> None:
    from rcl_interfaces.srv import DescribeParameters, ListParameters

    listed = client.call(ListParameters, f"{NODE}/list_parameters", ListParameters.Request()).result.names
    own = [spec.name for spec in PARAMETERS]
    assert set(own) <= set(listed)
    assert "qos_overrides./front/camera/image_raw.subscription.reliability" in listed
    request = DescribeParameters.Request(names=own)
    descriptors = client.call(DescribeParameters, f"{NODE}/describe_parameters", request).descriptors
    for spec, descriptor in zip(PARAMETERS, descriptors, strict=True):
        assert descriptor.description == spec.description
        assert descriptor.read_only == (spec.applied == "start")
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(entry.from_value, entry.to_value) for entry in ranges] == ([spec.limits] if spec.limits else [])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("overlay_alpha", 1.5, "out of range"),
        ("overlay_alpha", math.nan, "out of range"),
        ("threads", -1, "out of range"),
        ("overlay_alpha", "much", "type"),
        ("overlay_alpha", 2, "must be 0 to 1"),
        ("backend", "magic", "one of auto, onnx"),
        ("image_transport", "theora", "one of raw, compressed"),
        ("autostart", False, "read-only"),
    ],
)
def test_c6_wrong_parameter_values_are_refused_with_a_reason(
    front: Any, client: Any, name: str, value: Any, reason: str
) -> None:
    result = client.set_parameter(NODE, name, value)
    assert not result.successful
    assert reason in result.reason
    assert name in result.reason or reason == "type"


@pytest.mark.parametrize("whole", [1.0, 1])
def test_overlay_alpha_applies_to_the_next_frame_also_as_a_whole_number(
    front: Any, client: Any, image_message: Callable[..., Any], picture: Callable[..., np.ndarray], whole: float
) -> None:
    from sensor_msgs.msg import Image

    overlays = client.collect(Image, f"{NODE}/overlay")
    client.meet(NODE, outputs=[f"{NODE}/overlay"])
    assert client.set_parameter(NODE, "overlay_alpha", whole).successful
    rgb = picture()
    client.exchange(front.camera, image_message(rgb), overlays)
    np.testing.assert_array_equal(pixels_of(overlays[-1]), CITYSCAPES19.color_table()[expected_labels(rgb)])
    assert client.set_parameter(NODE, "overlay_alpha", 0.5).successful


# Compressed images.


def test_c7_compressed_images_come_from_the_remapped_topic_with_suffix(
    start_node: Callable[..., Any], client: Any, tiny_bundle: Path, picture: Callable[..., np.ndarray]
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CompressedImage, Image

    node = "/jpeg/eye"
    start_node(
        *("-r", "__ns:=/jpeg", "-r", "__node:=eye", "-r", "image:=/cam/image_raw"),
        *("-p", f"model:={tiny_bundle}", "-p", "image_transport:=compressed"),
    )
    masks, diagnostics = client.collect(Image, f"{node}/labels"), client.collect(DiagnosticArray, "/diagnostics")
    camera = client.camera("/cam/image_raw/compressed", CompressedImage)
    client.meet(node, camera, outputs=[f"{node}/labels"])

    rgb = cv2.GaussianBlur(picture(), (0, 0), 9)
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    jpeg = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()

    def message(data: bytes, stamp: int) -> Any:
        made = CompressedImage(format="rgb8; jpeg compressed bgr8")
        made.header.stamp.sec, made.header.frame_id = stamp, "cam"
        made.data.frombytes(data)
        return made

    mask = client.exchange(camera, message(png, 1), masks)
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(rgb))
    mask = client.exchange(camera, message(jpeg, 2), masks)
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(pixels_of(mask), expected_labels(decoded))
    bad = {
        "truncated": message(jpeg[: len(jpeg) // 2], 3),
        "codec": message(b"GIF89a" * 9, 4),
        "empty": message(b"", 5),
    }
    client.refused(camera, bad, diagnostics, node)
    client.exchange(camera, message(png, 6), masks)
