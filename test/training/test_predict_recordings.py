"""`hrda predict` on recordings: masks that are the node's, byte for byte, on the time line of the camera."""

from __future__ import annotations

import array
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore
from safetensors.torch import save_file
from tiny_network import TINY

from hrda_core.camera_areas import CameraAreas
from hrda_core.errors import HrdaError
from hrda_core.inference import Predictor
from hrda_core.messages import decode_compressed, decode_image
from hrda_core.models import create_model
from hrda_ros.masks.outputs import OUTPUT_ENCODINGS, MaskOutputs
from hrda_training.predict import main

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TOPIC = "/camera/front/image_raw"
SEGMENTATION = "/camera/front/segmentation"
SIZE = (30, 46)
SECOND = 10**9


def _picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)


def _header(store: Any, number: int) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](sec=100 + number, nanosec=7 * number)
    extra = {"seq": number} if store is STORE1 else {}
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=f"lens{number % 2}", **extra)


def _raw(number: int, encoding: str = "bgr8", padding: int = 0, store: Any = STORE) -> Any:
    rgb = _picture(number)
    pixels = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., :1], "16UC1": rgb[..., :2]}[encoding]
    rows = np.pad(np.ascontiguousarray(pixels).reshape(SIZE[0], -1), ((0, 0), (0, padding)), constant_values=77)
    return store.types[IMAGE](
        header=_header(store, number),
        height=SIZE[0],
        width=SIZE[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def _compressed(number: int, suffix: str = ".jpg", store: Any = STORE, cut: int = 0) -> Any:
    data = cv2.imencode(suffix, _picture(number)[..., ::-1])[1].reshape(-1)
    return store.types[COMPRESSED](header=_header(store, number), format="jpeg", data=data[: len(data) - cut])


def _write(path: Path, rows: list[tuple[str, Any]], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Messages of (topic, message), logged 5 ms after one another."""
    with Writer2(path, version=8, storage_plugin=plugin) as writer:
        kinds = {topic: message.__msgtype__ for topic, message in rows}
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()}
        for number, (topic, message) in enumerate(rows):
            raw = STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], 200 * SECOND + 5_000_000 * number, raw)
    return path


def _read(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> (time in the recording, message)."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path]) as reader:
        for connection, log_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found


def _stamped(header: Any) -> tuple[int, int, str]:
    """Every reader has classes of its own, so headers are compared by what they say."""
    return header.stamp.sec, header.stamp.nanosec, header.frame_id


def _predict(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", str(tmp_path / "result.json")]) == 0
    values: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return values


class _Publisher:
    """Keeps a copy of what the node's outputs publish."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def publish(self, msg: Any) -> None:
        self.sent.append((_stamped(msg.header), msg.encoding, msg.height, msg.width, msg.step, msg.data.tobytes()))

    def get_subscription_count(self) -> int:
        return 1


def _node_path(messages: list[Any], predictor: Predictor, alpha: float) -> dict[str, list[tuple[Any, ...]]]:
    """What the node publishes for camera messages, by output: its decoders, its predictor, its outputs."""
    publishers = {name: _Publisher() for name in OUTPUT_ENCODINGS}

    def new_message() -> Any:
        fields = {"header": None, "height": 0, "width": 0, "encoding": "", "is_bigendian": 0, "step": 0}
        return SimpleNamespace(**fields, data=array.array("B"))

    outputs = MaskOutputs(publishers, new_message, predictor.bundle.label_space.color_table())
    for message in messages:
        rgb = (decode_image if message.__msgtype__ == IMAGE else decode_compressed)(message)
        outputs.publish(message.header, rgb, predictor(rgb), set(OUTPUT_ENCODINGS), alpha)
    return {name: publisher.sent for name, publisher in publishers.items()}


_FRAMES = {
    "raw": [_raw(0), _raw(1, "rgb8", padding=5), _raw(2, "mono8", padding=1), _raw(3, "16UC1")],
    "compressed": [_compressed(0), _compressed(1, ".png"), _compressed(2)],
}


@pytest.mark.parametrize("kind", list(_FRAMES))
@pytest.mark.parametrize("long_side", [-1, 24])
def test_masks_are_the_bytes_that_the_node_publishes(
    tmp_path: Path, tiny_bundle: Path, kind: str, long_side: int
) -> None:
    topic = TOPIC + ("/compressed" if kind == "compressed" else "")
    bag = _write(tmp_path / "bag", [(topic, message) for message in _FRAMES[kind]])
    options = ["--outputs", ",".join(OUTPUT_ENCODINGS), "--overlay_alpha", "0.3", "--long_side", str(long_side)]
    _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks", *options)
    found = _read(tmp_path / "masks")
    predictor = Predictor(tiny_bundle, long_side=None if long_side < 0 else long_side)
    expected = _node_path(_FRAMES[kind], predictor, 0.3)
    assert set(found) == {f"{SEGMENTATION}/{name}" for name in (*OUTPUT_ENCODINGS, "label_info")}
    for name, sent in expected.items():
        written = [
            (_stamped(m.header), m.encoding, m.height, m.width, m.step, m.data.tobytes())
            for _, m in found[f"{SEGMENTATION}/{name}"]
        ]
        assert written == sent


def test_masks_of_the_shipped_model_are_the_node_s(tmp_path: Path, repository: Path) -> None:
    model = repository / "models/hrda_lite"
    pytest.importorskip("onnxruntime")
    scene = cv2.resize(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8), (128, 96))
    store_image = _raw(0, "rgb8")
    store_image.height, store_image.width, store_image.step = 96, 128, 128 * 3
    store_image.data = scene.reshape(-1)
    bag = _write(tmp_path / "bag", [(TOPIC, store_image)])
    _predict(tmp_path, bag, "--model", model, "--out", tmp_path / "masks")
    found, expected = _read(tmp_path / "masks"), _node_path([store_image], Predictor(model), 0.5)
    for name in ("labels", "confidence"):
        assert found[f"{SEGMENTATION}/{name}"][0][1].data.tobytes() == expected[name][0][-1]
    assert len(np.unique(found[f"{SEGMENTATION}/labels"][0][1].data)) > 1


def test_masks_lie_on_the_time_line_of_the_camera(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(number)) for number in range(3)])
    result = _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks")
    assert (result["kind"], result["frames"], result["written"]) == ("recordings", 3, 3)
    assert result["cameras"] == {TOPIC: SEGMENTATION}
    camera, masks = _read(bag)[TOPIC], _read(tmp_path / "masks")
    assert set(masks) == {f"{SEGMENTATION}/{name}" for name in ("labels", "confidence", "label_info")}
    for name in ("labels", "confidence"):
        written = masks[f"{SEGMENTATION}/{name}"]
        assert [(t, _stamped(m.header)) for t, m in written] == [(t, _stamped(m.header)) for t, m in camera]
    info = json.loads(masks[f"{SEGMENTATION}/label_info"][0][1].data)
    assert (info["model"], info["plan"], info["classes"][0]["name"]) == ("tiny", "tiles", "road")
    assert json.loads((tmp_path / "masks/predict.json").read_text())["model"] == "tiny"


def test_several_cameras_go_into_one_recording(tmp_path: Path, tiny_bundle: Path) -> None:
    topics = ["/front/image_raw", "/rear/image_raw"]
    bag = _write(tmp_path / "bag", [(topics[number % 2], _raw(number)) for number in range(4)])
    command = [bag, "--model", tiny_bundle, "--out", tmp_path / "masks"]
    with pytest.raises(HrdaError, match=r"/front/image_raw, /rear/image_raw"):
        main([str(word) for word in command])
    _predict(tmp_path, *command, "--topic", topics[0], topics[1].strip("/"))
    found = _read(tmp_path / "masks")
    for place, camera in enumerate(("front", "rear")):
        written = [m.header.stamp.sec for _, m in found[f"/{camera}/segmentation/labels"]]
        assert written == [100 + place, 102 + place]


def test_the_camera_images_are_copied_on_demand(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(0)), (TOPIC, _raw(1, "16UC1")), (TOPIC, _raw(2))])
    _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks", "--copy_camera")
    before, after = _read(bag)[TOPIC], _read(tmp_path / "masks")[TOPIC]
    assert [(t, _stamped(m.header)) for t, m in after] == [(t, _stamped(m.header)) for t, m in before]
    assert [m.data.tobytes() for _, m in after] == [m.data.tobytes() for _, m in before]


def test_a_ros1_recording_gives_a_ros2_recording(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "drive.bag"
    with Writer1(path) as writer:
        connection = writer.add_connection(TOPIC + "/compressed", COMPRESSED, typestore=STORE1)
        for number in range(2):
            raw = STORE1.serialize_ros1(_compressed(number, store=STORE1), COMPRESSED)
            writer.write(connection, (200 + number) * SECOND, raw)
    _predict(tmp_path, path, "--model", tiny_bundle, "--out", tmp_path / "masks", "--copy_camera")
    found = _read(tmp_path / "masks")
    expected = _node_path([_compressed(0), _compressed(1)], Predictor(tiny_bundle), 0.5)["labels"]
    written = found[f"{SEGMENTATION}/labels"]
    assert [m.data.tobytes() for _, m in written] == [sent[-1] for sent in expected]
    assert [(m.header.stamp.sec, m.header.frame_id) for _, m in written] == [(100, "lens0"), (101, "lens1")]
    assert [m.data.tobytes() for _, m in found[TOPIC + "/compressed"]] == [
        _compressed(number).data.tobytes() for number in range(2)
    ]


@pytest.mark.parametrize("suffix", ["", "/compressed"])
def test_pixels_that_do_not_count_are_those_of_the_node_camera_by_camera(
    tmp_path: Path, tiny_bundle: Path, suffix: str
) -> None:
    topics = [f"/front/image_raw{suffix}", f"/rear/image_raw{suffix}"]
    messages = [_compressed(number) if suffix else _raw(number) for number in range(2)]
    bag = _write(tmp_path / "bag", list(zip(topics, messages, strict=True)))
    width, height = SIZE[1], SIZE[0]
    path = tmp_path / "areas.yaml"
    path.write_text(
        f"/front/image_raw: {{size: [{width}, {height}], ego_vehicle: [[0, 20], [46, 20], [46, 30], [0, 30]]}}"
    )
    command = [bag, "--model", tiny_bundle, "--out", tmp_path / "masks", "--camera_areas", path, "--topic", *topics]
    _predict(tmp_path, *command)
    found = _read(tmp_path / "masks")
    area = CameraAreas.read(path).of([topics[0]])[topics[0]]
    whole = [Predictor(tiny_bundle)(decode_compressed(m) if suffix else decode_image(m)) for m in messages]
    expected = {
        "front": area.mask(whole[0].labels, whole[0].confidence),
        "rear": (whole[1].labels, whole[1].confidence),
    }
    for camera, masks in expected.items():
        for name, mask in zip(("labels", "confidence"), masks, strict=True):
            np.testing.assert_array_equal(found[f"/{camera}/segmentation/{name}"][0][1].data.reshape(SIZE), mask)
    assert (found["/front/segmentation/labels"][0][1].data.reshape(SIZE)[20:] == 255).all()


def test_areas_of_other_topics_are_refused_and_frames_of_another_size_left_out(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(0))])
    command = [str(bag), "--model", str(tiny_bundle), "--out", str(tmp_path / "masks"), "--camera_areas"]
    for text, sentence in (
        ("/other: {size: [46, 30]}", f"are for '/other', but the images are on '{TOPIC}'"),
        (f"{TOPIC}: {{size: [40, 30]}}", "none of 1 frames.*46x30 pixels, but the camera's area is for 40x30"),
    ):
        (tmp_path / "areas.yaml").write_text(text)
        with pytest.raises(HrdaError, match=sentence):
            main([*command, str(tmp_path / "areas.yaml")])
    assert not list(tmp_path.glob("masks*"))


def test_several_recordings_become_one(tmp_path: Path, tiny_bundle: Path) -> None:
    plugins = (StoragePlugin.MCAP, StoragePlugin.SQLITE3)
    bags = [_write(tmp_path / f"bag{i}", [(TOPIC, _raw(i))], plugin) for i, plugin in enumerate(plugins)]
    assert _predict(tmp_path, *bags, "--model", tiny_bundle, "--out", tmp_path / "masks")["written"] == 2
    written = _read(tmp_path / "masks")[f"{SEGMENTATION}/labels"]
    assert [m.header.stamp.sec for _, m in written] == [100, 101]


def test_frames_that_do_not_decode_are_counted_named_and_left_out(tmp_path: Path, tiny_bundle: Path) -> None:
    topic = TOPIC + "/compressed"
    bag = _write(tmp_path / "bag", [(topic, _compressed(number, cut=50 * (number == 1))) for number in range(3)])
    result = _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks", "--copy_camera")
    assert (result["frames"], result["written"], result["unreadable"]) == (3, 2, 1)
    assert "101.000000007" in result["unreadable_first"][0]["name"]
    assert "cut off" in result["unreadable_first"][0]["reason"]
    found = _read(tmp_path / "masks")
    assert [m.header.stamp.sec for _, m in found[f"{SEGMENTATION}/labels"]] == [100, 102]
    assert len(found[topic]) == 3


def test_what_a_damaged_recording_lost_is_told(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(number)) for number in range(600)])
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks", "--outputs", "labels")
    (salvage,) = result["salvage"]
    assert 0 < result["written"] == salvage["kept"] == 600 - salvage["lost"]
    assert "damaged" in capsys.readouterr().out
    assert len(_read(tmp_path / "masks")[f"{SEGMENTATION}/labels"]) == result["written"]


def test_where_no_frame_decodes_no_recording_is_left(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC + "/compressed", _compressed(0, cut=50))])
    with pytest.raises(HrdaError, match="none of 1 frames"):
        main([str(bag), "--model", str(tiny_bundle), "--out", str(tmp_path / "masks")])
    assert not list(tmp_path.glob("masks*"))


def test_c3_t10_an_interrupted_call_leaves_no_half_recording_and_keeps_the_earlier_one(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _write(tmp_path / "first", [(TOPIC, _raw(0))])
    second = _write(tmp_path / "second", [(TOPIC, _raw(number)) for number in range(4)])
    options = ["--model", str(tiny_bundle), "--out", str(tmp_path / "masks")]
    real, calls = Predictor.__call__, []

    def predict(self: Predictor, rgb: np.ndarray) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, rgb)

    assert main([str(first), *options]) == 0
    monkeypatch.setattr(Predictor, "__call__", predict)
    with pytest.raises(KeyboardInterrupt):
        main([str(second), *options])
    assert len(_read(tmp_path / "masks")[f"{SEGMENTATION}/labels"]) == 1
    assert not (tmp_path / "masks.part").exists()


def test_the_recording_is_named_like_its_folder_and_is_readable_by_its_metadata(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(0))])
    _predict(tmp_path, bag, "--model", tiny_bundle, "--out", tmp_path / "masks")
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "masks.mcap", "metadata.yaml", "predict.json"
    ]  # fmt: skip
    assert "masks.mcap" in (tmp_path / "masks/metadata.yaml").read_text()


def test_the_result_can_be_segmented_again_by_its_camera_topic(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(0))])
    first = ["--model", tiny_bundle, "--out", tmp_path / "masks", "--copy_camera"]
    _predict(tmp_path, bag, *first)
    second = ["--model", tiny_bundle, "--out", tmp_path / "again", "--topic", TOPIC]
    assert _predict(tmp_path, tmp_path / "masks", *second)["written"] == 1


def test_a_run_gives_labels_alone_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    recipe = {"name": "tiny", "source": {"name": "made"}, "model": {"preset": "hrda_lite", "overrides": TINY}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    save_file(dict(create_model("hrda_lite", **TINY).state_dict()), run / "model.safetensors")
    bag = _write(tmp_path / "bag", [(TOPIC, _raw(0))])
    _predict(tmp_path, bag, "--model", run, "--out", tmp_path / "masks")
    assert set(_read(tmp_path / "masks")) == {f"{SEGMENTATION}/labels", f"{SEGMENTATION}/label_info"}
