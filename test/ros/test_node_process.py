"""The node as a process: signals, start-up errors, its neighbours in the graph, and what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import expected_labels

from hrda_ros.fastdds_profile import SEGMENT_BYTES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_middle_of_a_stream_exits_cleanly(
    start_node: Callable[..., Any],
    client: Any,
    tiny_bundle: Path,
    image_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
    number: int,
) -> None:
    process = start_node(
        "-r", f"__node:=ending_{number}", "-r", "image:=/ending", "-p", f"model:={tiny_bundle}", "-p", "lazy:=false"
    )
    camera = client.camera("/ending")
    process.wait_for_log("segmenting images")
    client.spin_until(lambda: camera.get_subscription_count() == 1, "the node's subscription")
    for _ in range(20):
        camera.publish(image_message(picture()))
    assert process.stop(number) == 0
    assert "Traceback" not in process.log()
    client.node.destroy_publisher(camera)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay_s", [0.25, 0.5, 0.75, 1.0])
def test_signal_during_the_imports_exits_cleanly(ros: Any, tiny_bundle: Path, number: int, delay_s: float) -> None:
    # The entry announces itself, so that the signal meets the imports and not the start of Python.
    code = "import sys; from hrda_ros.__main__ import main; print('entered', flush=True); sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"model:={tiny_bundle}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        time.sleep(delay_s)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["cv2", "rclpy", "hrda_ros.segment_node"])
def test_a_signal_that_an_import_would_swallow_ends_the_node(
    ros: Any, tiny_bundle: Path, number: int, module: str
) -> None:
    # The signal meets the import of this very module, in a place that catches everything, as `import cv2` has some.
    code = f"""
import os, sys

class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("sent", flush=True)
            try:
                os.kill(os.getpid(), {number})
                sum(range(1000))
            except BaseException:
                pass

sys.meta_path.insert(0, Signals())
from hrda_ros.__main__ import main
sys.exit(main())
"""
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"model:={tiny_bundle}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    assert (done.returncode, set(done.stdout.split())) == (0, {"sent"})


def test_signal_in_the_middle_of_a_build_ends_it_and_exits_cleanly(ros: Any) -> None:
    # In place of TensorRT: it reports every step as a build does, for a minute.
    code = """
import sys, time
from hrda_ros import process, segment_node

def build(settings, say):
    for step in range(600):
        say(f"building the engine: step {step}")
        time.sleep(0.1)
    raise SystemExit("the build went on to its end")

segment_node.open_segmenter = build
sys.exit(process.run_node())
"""
    command = [sys.executable, "-c", code, "--ros-args"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert "building the engine: step 0" in process.stdout.readline(), "progress is in the log"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "Traceback" not in output


def test_a_node_without_a_launch_file_has_the_segment_for_images(
    start_node: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    if os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize < SEGMENT_BYTES:
        pytest.skip("/dev/shm has too little room for the profile's segment")
    names = "fast*_*"  # fastrtps_ up to Jazzy, fastdds_ since Kilted
    before = set(Path("/dev/shm").glob(names))
    process = start_node("-r", "__node:=unlaunched", "-p", f"model:={tiny_bundle}")
    process.wait_for_log("segmenting images")
    sizes = [path.stat().st_size for path in set(Path("/dev/shm").glob(names)) - before]
    assert max(sizes) >= 64 << 20
    assert "DEPRECATED" not in process.log().upper(), "the variable of this distribution and no other"
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "model:=/nowhere/model"], "'/nowhere/model' is not a folder"),
        (["-p", "overlay_alpha:=3.0"], "overlay_alpha out of range"),
        (["-p", "threads:=many"], "'threads' to 'many' of type 'STRING', expecting type 'INTEGER'"),
        (["-p", "backend:=magic"], "backend must be one of auto, onnx, cuda, tensorrt, torch, not 'magic'"),
        (["--params-file", "/nowhere/params.yaml"], "/nowhere/params.yaml"),
    ],
)
def test_start_that_cannot_succeed_says_why_and_exits_with_2(
    start_node: Callable[..., Any], arguments: list[str], reason: str
) -> None:
    process = start_node(*arguments)
    assert process.wait() == 2
    assert reason in process.log()
    assert "Traceback" not in process.log()


@pytest.mark.filterwarnings("ignore:Deprecated in favor:DeprecationWarning")  # rclpy's own report of unfit QoS
def test_two_nodes_at_once_and_warnings_about_topics_without_frames(
    start_node: Callable[..., Any],
    client: Any,
    tiny_bundle: Path,
    image_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
) -> None:
    from sensor_msgs.msg import Image

    # Waiting for the warnings takes 5 s, so all nodes wait at the same time.
    reliability = "qos_overrides./picky/image.subscription.reliability:=reliable"
    common = ("-p", f"model:={tiny_bundle}")
    left = start_node("-r", "__ns:=/left", *common)
    right = start_node("-r", "__node:=right", "-r", "image:=/right/image", *common)
    lonely = start_node("-r", "__ns:=/lonely", *common)
    picky = start_node("-r", "__ns:=/picky", *common, "-p", reliability)
    topics = {"left": "/left/segment_node/labels", "right": "/right/labels"}
    masks = {name: client.collect(Image, topic) for name, topic in topics.items()}
    cameras = {name: client.camera(f"/{name}/image") for name in masks}
    client.camera("/lonely/camera/image_raw", reliable=False)
    client.camera("/picky/image", reliable=False)
    for process in (left, right, lonely, picky):
        process.wait_for_log("segmenting images")
    for name in masks:
        client.spin_until(lambda name=name: cameras[name].get_subscription_count() == 1, f"subscription of {name}")
    client.spin_for(0.5)
    for name in masks:
        rgb = picture()
        mask = client.exchange(cameras[name], image_message(rgb), masks[name])
        np.testing.assert_array_equal(np.frombuffer(mask.data, np.uint8).reshape(120, 160), expected_labels(rgb))
    warning = lonely.wait_for_log("no image on '/lonely/image'")
    assert "nobody publishes it" in warning
    assert "/lonely/camera/image_raw [Image] from /test_client, best_effort volatile" in warning
    assert "/lonely/segment_node" not in warning, "its own masks are no proposal"
    warning = picky.wait_for_log("no image on '/picky/image'")
    assert "/test_client (best_effort volatile: incompatible QoS" in warning


def test_node_module_imports_neither_torch_nor_plotting(ros: Any) -> None:
    code = "import sys, hrda_ros.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rclpy" in loaded
    heavy = {"torch", "torchvision", "matplotlib", "timm", "scipy", "PIL", "pandas"}
    assert not heavy & set(loaded)


def test_ros_free_modules_import_without_ros() -> None:
    modules = "codec pipeline parameters diagnostics outputs label_info segmenter topic_watch"
    modules += " hot_swap served_model meters"
    code = "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'sensor_msgs', 'std_msgs', 'rcl_interfaces']));"
    code += "import " + ", ".join(f"hrda_ros.{name}" for name in modules.split())
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
