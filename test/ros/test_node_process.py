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
from service_manager import service_manager
from tiny_bundle import expected_labels

from hrda_ros.start.fastdds_profile import SEGMENT_BYTES

TIMEOUT_S = 60.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_c2_signal_in_the_middle_of_a_stream_exits_cleanly(
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
    client.meet(f"/ending_{number}", camera)
    for _ in range(20):
        camera.publish(image_message(picture()))
    assert process.stop(number) == 0
    assert "Traceback" not in process.log()
    client.node.destroy_publisher(camera)


def test_a_node_that_systemd_runs_tells_it_when_it_serves_that_it_lives_and_when_it_ends(
    start_node: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service_manager(tmp_path, without_file=True) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
        process = start_node("-r", "__node:=supervised", "-p", f"model:={tiny_bundle}")
        systemd.wait_for("READY=1")
        assert "segmenting images" in process.log()
        assert systemd.wait_for("WATCHDOG=1")[-1].startswith("STATUS=")
        assert process.stop(signal.SIGINT) == 0
        assert systemd.heard()[-1] == "STOPPING=1"


def test_a_node_that_places_masks_in_space_tells_systemd_the_same(
    start_node: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service_manager(tmp_path, without_file=True) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
        process = start_node("-r", "__node:=supervised_cloud", program="cloud_node")
        systemd.wait_for("READY=1")
        assert systemd.wait_for("WATCHDOG=1")[-1].startswith("STATUS=nobody subscribes")
        assert process.stop(signal.SIGINT) == 0
        assert systemd.heard()[-1] == "STOPPING=1"


@pytest.mark.parametrize(
    ("number", "delay_s"),
    [(signal.SIGINT, 0.25), (signal.SIGTERM, 0.5), (signal.SIGINT, 0.75), (signal.SIGTERM, 1.0), (signal.SIGHUP, 0.6)],
)
def test_c2_signal_during_the_imports_exits_cleanly(ros: Any, tiny_bundle: Path, number: int, delay_s: float) -> None:
    # The entry announces itself, so that the signal meets the imports and not the start of Python.
    code = "import sys; from hrda_ros.__main__ import main; print('entered', flush=True); sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"model:={tiny_bundle}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        time.sleep(delay_s)
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("number", "module"),
    [
        (signal.SIGINT, "cv2"),
        (signal.SIGTERM, "cv2"),
        (signal.SIGINT, "rclpy"),
        (signal.SIGTERM, "hrda_ros.segment_node"),
    ],
)
def test_c2_a_signal_that_an_import_would_swallow_ends_the_node(
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
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, set(done.stdout.split())) == (0, {"sent"})


@pytest.mark.parametrize("argument", ["--help", "-p"])
@pytest.mark.parametrize(
    "entry", ["hrda_ros.__main__:main", "hrda_ros.space.programs:cloud_node", "hrda_ros.space.programs:ground_node"]
)
def test_c7_an_argument_outside_of_ros_args_is_refused_and_not_passed_over(ros: Any, entry: str, argument: str) -> None:
    module, function = entry.split(":")
    code = f"import sys; from {module} import {function} as main; sys.exit(main())"
    command = [sys.executable, "-c", code, argument, "plan:=context", "--ros-args", "-p", "height_m:=1.0"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 2, done.stdout
    assert f"the argument '{argument}' has no meaning here; names and parameters stand behind --ros-args" in done.stdout
    assert "Traceback" not in done.stdout


HANGING_OUTSIDE = """
import atexit, sys, threading

lock = threading.Lock()

def hang(*_):
    lock.acquire()
    print("hangs", flush=True)
    while not lock.acquire(timeout=1):  # what interrupts it does not get through, as in native code
        pass

class Importing:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            hang()

if sys.argv[1] == "import":
    sys.meta_path.insert(0, Importing())
else:
    atexit.register(hang)
from hrda_ros.start import stop_signals
stop_signals._LONGEST_LAST_S = 2.0
from hrda_ros.__main__ import main
sys.exit(main(["--ros-args", "-p", "overlay_alpha:=3.0"]))
"""


@pytest.mark.parametrize(("where", "code"), [("import", 0), ("end", -signal.SIGALRM)])
def test_c2_what_hangs_before_the_node_or_behind_it_ends_after_a_signal(ros: Any, where: str, code: int) -> None:
    command = [sys.executable, "-c", HANGING_OUTSIDE, where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "hangs\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == code, "by itself it would never end"
        finally:
            process.kill()


@pytest.mark.parametrize("says", [True, False], ids=["a build", "a load without a word"])
def test_c2_signal_while_a_node_configures_ends_it_cleanly_and_is_no_error(
    ros: Any, repository: Path, says: bool
) -> None:
    # In place of TensorRT: it reports every step as a build does, for a minute. A load ends a moment after the signal.
    # rcl writes a line before it publishes it, so what is read of it does not tell that it is through with it; a signal
    # in between makes it say that it failed.
    code = f"""
import sys, time
import rclpy
from fake_segmenter import FakeSegmenter
from hrda_ros import __main__, segment_node

def build(settings, say):
    say("building the engine: step 0")
    print("said", flush=True)
    while rclpy.ok():
        time.sleep(0.01)
    for step in range(1, 600 if {says} else 0):
        say(f"building the engine: step {{step}}")
        time.sleep(0.1)
    return FakeSegmenter("built")

assert segment_node.open_within_budget, 'what is replaced is there'
segment_node.open_within_budget = build
sys.exit(__main__.main())
"""
    command = [sys.executable, "-c", code, "--ros-args"]
    path = os.pathsep.join([str(repository), str(repository / "test" / "support"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert "building the engine: step 0" in lines[0], "progress is in the log"
        assert lines[1] == "said\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "ERROR" not in output
    assert "Failed" not in output, "nothing goes into the log where ROS is down"
    assert "step 1" not in output, "a build ends with ROS"


HANGING = """
import ctypes, sys
from fake_segmenter import FakeSegmenter
from sensor_msgs.msg import Image
from hrda_ros import __main__, segment_node

class Hanging(FakeSegmenter):
    def warm_up(self, height, width):
        if sys.argv[1] == "configure":
            self(None)

    def __call__(self, rgb):
        lock = ctypes.create_string_buffer(64)
        lock_it = ctypes.CDLL(None).pthread_mutex_lock
        lock_it(lock)
        print("hangs", flush=True)
        lock_it(lock)  # in native code for ever, and no signal wakes it

def start(node):
    started = node.start()
    node.cameras[0].on_image(Image(height=2, width=2, step=6, encoding="rgb8", data=bytes(12)))
    return started

assert segment_node.open_within_budget, 'what is replaced is there'
segment_node.open_within_budget = lambda settings, say: Hanging("hanging")
segment_node.autostart = start
sys.exit(__main__.main(["--ros-args", "-p", "lazy:=false"]))
"""


@pytest.mark.parametrize(
    ("number", "where", "again_s"), [(signal.SIGINT, "configure", 0.03), (signal.SIGTERM, "frame", 0.3)]
)
def test_c2_l2_a_signal_ends_a_node_whose_back_end_hangs_and_a_second_one_changes_nothing(
    ros: Any, repository: Path, number: int, where: str, again_s: float
) -> None:
    from hrda_ros.start.stop_signals import LONGEST_END_S

    assert LONGEST_END_S < 2.0
    path = os.pathsep.join([str(repository), str(repository / "test" / "support"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "hangs\n"
            process.send_signal(number)
            time.sleep(again_s)
            process.send_signal(number)
            assert process.wait(TIMEOUT_S) == 0, "by itself it would never end"
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_c2_a_second_signal_while_the_process_ends_does_not_change_the_exit_code(
    ros: Any, tiny_bundle: Path, number: int
) -> None:
    # One of the last objects that Python takes down sends it.
    code = f"""
import os, sys
from hrda_ros import __main__, segment_node

class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), write=os.write):
        write(1, b"sent")
        kill(me, {number})

last = Last()
segment_node.autostart = lambda node: os.kill(os.getpid(), {number}) or True
sys.exit(__main__.main())
"""
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"model:={tiny_bundle}"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stdout) == (0, "sent")


@pytest.mark.parametrize(("state", "number"), [("unconfigured", signal.SIGTERM), ("inactive", signal.SIGINT)])
def test_c2_a_signal_in_a_state_without_frames_exits_cleanly_and_a_second_one_changes_nothing(
    ros: Any, tiny_bundle: Path, state: str, number: int
) -> None:
    code = f"""
import sys
from hrda_ros import __main__, segment_node

def start(node):
    assert {state == "unconfigured"} or node.trigger_configure().name == "SUCCESS"
    node.create_timer(0.01, lambda: print(node._state_machine.current_state[1], flush=True))
    return True

segment_node.autostart = start
sys.exit(__main__.main())
"""
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"model:={tiny_bundle}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{state}\n", "it runs, and answers to timers"
            process.send_signal(number)
            process.send_signal(number)
            _, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_node_without_a_launch_file_has_the_segment_for_images(
    start_node: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    if os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize < SEGMENT_BYTES:
        pytest.skip("/dev/shm has too little room for the profile's segment")
    before = set(map(str, Path("/dev/shm").iterdir()))
    # `1`, where a number with a point is expected, is taken.
    process = start_node("-r", "__node:=unlaunched", "-p", f"model:={tiny_bundle}", "-p", "max_age_s:=1")
    process.wait_for_log("segmenting images")
    # Of the segments that this process has open, those of no process before it.
    mapped = {word for word in Path(f"/proc/{process.pid}/maps").read_text().split() if word.startswith("/dev/shm/")}
    assert max(Path(name).stat().st_size for name in mapped - before) >= 64 << 20
    assert "DEPRECATED" not in process.log().upper(), "the variable of this distribution and no other"
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "model:=/nowhere/model"], "'/nowhere/model' is not a folder"),
        (["-p", "overlay_alpha:=3.0"], "overlay_alpha out of range"),
        (["-p", "max_age_s:=61"], "max_age_s must be 0 to 60, not 61"),
        (["-p", "threads:=many"], "'threads' to 'many' of type 'STRING', expecting type 'INTEGER'"),
        (["-p", "backend:=magic"], "backend must be one of auto, onnx, openvino, cuda, tensorrt, torch, not 'magic'"),
        (["--params-file", "/nowhere/params.yaml"], "/nowhere/params.yaml"),
        (["-r", "__ns:=/" + 250 * "a"], "the node cannot be made: RCLError"),
        (["-r", "~/reload:=/segment_node/enable"], "look at its name and namespace, remapped topics"),
    ],
)
def test_p8_c6_start_that_cannot_succeed_says_why_and_exits_with_2(
    start_node: Callable[..., Any], arguments: list[str], reason: str
) -> None:
    process = start_node(*arguments)
    assert process.wait() == 2
    assert reason in process.log()
    assert "Traceback" not in process.log()


@pytest.mark.filterwarnings("ignore:Deprecated in favor:DeprecationWarning")  # rclpy's own report of unfit QoS
def test_c5_two_nodes_at_once_and_warnings_about_topics_without_frames(
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
    for name, topic in topics.items():
        client.meet(topic.removesuffix("/labels"), cameras[name], outputs=[topic])
        rgb = picture()
        mask = client.exchange(cameras[name], image_message(rgb), masks[name])
        np.testing.assert_array_equal(np.frombuffer(mask.data, np.uint8).reshape(120, 160), expected_labels(rgb))
    warning = lonely.wait_for_log("no image on '/lonely/image'")
    assert "nobody publishes it" in warning
    assert "/lonely/camera/image_raw [Image] from /test_client, best_effort volatile" in warning
    assert "/lonely/segment_node" not in warning, "its own masks are no proposal"
    warning = picky.wait_for_log("no image on '/picky/image'")
    assert "/test_client (best_effort volatile: incompatible QoS" in warning


def test_l10_node_module_imports_neither_torch_nor_plotting(ros: Any) -> None:
    code = "import sys, hrda_ros.start.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rclpy" in loaded
    heavy = {"torch", "torchvision", "matplotlib", "timm", "scipy", "PIL", "pandas"}
    assert not heavy & set(loaded)


def test_l10_ros_free_modules_import_without_ros() -> None:
    modules = "masks.codec masks.outputs masks.label_info masks.served_model frames.pipeline frames.meters"
    modules += " settings.parameters health.diagnostics health.topic_watch model.segmenter model.hot_swap"
    code = "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'sensor_msgs', 'std_msgs', 'rcl_interfaces']));"
    code += "import " + ", ".join(f"hrda_ros.{name}" for name in modules.split())
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_a_misspelt_class_of_the_mask_ends_the_start_with_one_sentence(
    start_node: Callable[..., Any], tiny_bundle: Path
) -> None:
    process = start_node("-r", "__ns:=/misspelt", "-p", f"model:={tiny_bundle}", "-p", "mask_classes:=persn")
    assert process.wait() == 2
    assert "cannot configure: parameter mask_classes names 'persn'" in process.log()
    assert "did you mean 'person'?" in process.log()
    assert "Traceback" not in process.log()
