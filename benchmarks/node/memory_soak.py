"""Does the running node's memory grow? Reloads, image sizes and errors mixed, over real DDS, for as long as you like.

    python benchmarks/node/memory_soak.py                 # 10 minutes
    python benchmarks/node/memory_soak.py --hours 2

The node runs in a process of its own. Round by round it gets images of changing sizes and encodings, an image message
that is broken, and a reload: of two models in turn, of a damaged one, and of one that is not there. Every 20 rounds it
is deactivated and activated, every 50 rounds cleaned up and configured for the other of raw and compressed images.
After each round its resident memory, threads and descriptors are read. The exit code is 1 if any of them grows after
the warm-up (`soak_verdict.judge`).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from soak_verdict import Held, judge, look_at
from std_srvs.srv import Trigger

from hrda_core.bench.record import ROOT, write_record
from hrda_core.machine import machine
from hrda_core.standard_streams import with_streams
from hrda_ros.masks.codec import fill_image
from hrda_ros.start.fastdds_profile import PROFILE, profile_variable

NODE = "/segment_node"
SIZES = [(height, width) for height in (96, 180, 240, 333) for width in (128, 321, 427)]
FRAMES_A_ROUND = 6
_ANSWER_S, _MASK_S = 60.0, 2.0


class Soak:
    """The node under load, and the client that loads it.

    Args:
        model: bundle that the node starts with.
        backend: its inference back end.
        folder: for the other bundles, and for the log.

    Attributes:
        done: what has happened, by name.
    """

    def __init__(self, model: Path, backend: str, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        self._models = cycle(_bundles(model, folder))
        self._process = _start_node(model, backend, folder / "node.log")
        self._client = rclpy.create_node("soak")
        self._services: dict[tuple[Any, str], Any] = {}
        self._masks: dict[int, Any] = {}
        for name in ("labels", "overlay"):
            self._client.create_subscription(Image, f"{NODE}/{name}", self._on_mask, 10)
        self._cameras = {
            "raw": self._client.create_publisher(Image, "image", QoSProfile(depth=5)),
            "compressed": self._client.create_publisher(CompressedImage, "image/compressed", QoSProfile(depth=5)),
        }
        self._transport = "raw"
        self._frames, self._broken = _frames(), cycle((_short, _unknown, _empty))
        self._stamps = count(1)

    def wait_until_ready(self) -> None:
        """Wait until images arrive."""
        while not self._send_one():
            if self._process.poll() is not None:
                raise SystemExit("the node has ended; see its log")

    def round(self, number: int) -> None:
        """Send images, one of them broken, and exchange the model."""
        for _ in range(FRAMES_A_ROUND):
            self.done["frames" if self._send_one() else "frames without a mask"] += 1
        self._cameras[self._transport].publish(self._broken_message())
        self.done["broken images"] += 1
        if number % 50 == 49:
            self._configure_again()
        elif number % 20 == 19:
            self._change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE)
        self._set("model", str(next(self._models)))
        answer = self._call(Trigger, "reload", Trigger.Request())
        self.done["reloads" if answer.success else "refused reloads"] += 1
        self._send_one()  # the thread of the reload has ended by now

    def held(self, at_s: float) -> Held:
        """Return what the node holds."""
        return look_at(self._process.pid, at_s)

    def close(self) -> int:
        """End the node and return its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)

    def _on_mask(self, mask: Any) -> None:
        self._masks[mask.header.stamp.sec] = mask

    def _send_one(self) -> bool:
        """Send the next image; return whether its mask has come."""
        stamp, pixels = next(self._stamps), next(self._frames)
        message = (
            _jpeg(pixels) if self._transport == "compressed" else _raw(pixels, ("rgb8", "bgr8", "mono8")[stamp % 3])
        )
        message.header.stamp.sec = stamp
        self._cameras[self._transport].publish(message)
        arrived = self._spin_until(lambda: stamp in self._masks, _MASK_S)
        self._masks.clear()
        return arrived

    def _broken_message(self) -> Any:
        if self._transport == "compressed":
            return CompressedImage(format="jpeg", data=_jpeg(next(self._frames)).data[:200])
        return next(self._broken)()

    def _configure_again(self) -> None:
        self._change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
        self._transport = "raw" if self._transport == "compressed" else "compressed"
        self._set("image_transport", self._transport)
        self._set("model", str(next(self._models)))
        while not self._change(Transition.TRANSITION_CONFIGURE):
            self._set("model", str(next(self._models)))
        self._change(Transition.TRANSITION_ACTIVATE)

    def _change(self, *transitions: int) -> bool:
        requests = [ChangeState.Request(transition=Transition(id=number)) for number in transitions]
        self.done["transitions"] += len(requests)
        answers = [self._call(ChangeState, "change_state", request).success for request in requests]
        return all(answers)

    def _set(self, name: str, value: str) -> None:
        parameter = Parameter(name, value=value).to_parameter_msg()
        answer = self._call(SetParameters, "set_parameters", SetParameters.Request(parameters=[parameter]))
        assert answer.results[0].successful, answer.results[0].reason

    def _call(self, kind: Any, name: str, request: Any) -> Any:
        if (kind, name) not in self._services:
            self._services[kind, name] = self._client.create_client(kind, f"{NODE}/{name}")
        service = self._services[kind, name]
        answer = None
        if self._spin_until(service.service_is_ready, _ANSWER_S):
            answer = service.call_async(request)
            self._spin_until(answer.done, _ANSWER_S)
        if answer is None or not answer.done():
            raise SystemExit(f"{NODE}/{name} has not answered for {_ANSWER_S:g} s; exit code: {self._process.poll()}")
        return answer.result()

    def _spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline and self._process.poll() is None:
            rclpy.spin_once(self._client, timeout_sec=0.05)
        return condition()


def _start_node(model: Path, backend: str, log: Path) -> subprocess.Popen[bytes]:
    arguments = ["-p", f"model:={model}", "-p", f"backend:={backend}", "-p", "threads:=1"]
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "hrda_ros", "--ros-args", *arguments], stdout=output, stderr=subprocess.STDOUT
        )


def _bundles(model: Path, folder: Path) -> list[Path]:
    """The models of the reloads: two that work, one whose graph is damaged, one that is not there."""
    other, damaged = (Path(shutil.copytree(model, folder / name)) for name in ("other", "damaged"))
    manifest = other / "manifest.yaml"
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), "name": "other"}, sort_keys=False))
    graph = next(damaged.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    return [other, model, damaged, other, model, folder / "missing"]


def _frames() -> Iterator[np.ndarray]:
    """RGB pictures of blocks, whose size changes with each one."""
    random_numbers = np.random.default_rng(0)
    for height, width in cycle(SIZES):
        yield cv2.resize(random_numbers.integers(0, 256, (5, 7, 3), np.uint8), (width, height))


def _raw(pixels: np.ndarray, encoding: str) -> Any:
    message = Image()
    fill_image(message, pixels if encoding != "mono8" else np.ascontiguousarray(pixels[..., 0]), encoding)
    return message


def _jpeg(pixels: np.ndarray) -> Any:
    message = CompressedImage(format="jpeg")
    message.data.frombytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return message


def _short() -> Any:
    message = _raw(np.zeros((48, 64, 3), np.uint8), "rgb8")
    del message.data[100:]
    return message


def _unknown() -> Any:
    message = _raw(np.zeros((48, 64, 3), np.uint8), "rgb8")
    message.encoding = "no_such_encoding"
    return message


def _empty() -> Any:
    return Image()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory, threads and descriptors of the node under mixed load.")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the load (default: %(default)s)")
    parser.add_argument("--hours", type=float, default=0.0, help="length of the load, in place of --minutes")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "hrda_lite", help="model bundle")
    parser.add_argument("--backend", default="auto", help="inference back end of the node (default: %(default)s)")
    parser.add_argument(
        "--growth_mb",
        type=float,
        default=24.0,
        help="growth of the resident memory after the warm-up that is still taken for none (default: %(default)s)",
    )
    parser.add_argument("--name", default="memory_soak", help="name of the record (default: %(default)s)")
    return parser.parse_args()


def _environment(folder: Path) -> None:
    os.environ[profile_variable()] = str(ROOT / PROFILE)
    os.environ.update(
        ROS_DOMAIN_ID=str(random.SystemRandom().randrange(102)),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        ROS_LOG_DIR=str(folder),
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    )


def _loaded(soak: Soak, seconds: float) -> list[Held]:
    """What the node holds after each round, for so long."""
    soak.wait_until_ready()
    started, samples = time.monotonic(), []
    said_s = 0.0
    while (at_s := time.monotonic() - started) < seconds or len(samples) < 20:
        soak.round(len(samples))
        samples.append(soak.held(at_s))
        if at_s - said_s > 60:
            said_s = at_s
            print(
                f"{at_s / 60:.0f} min: {samples[-1].resident_mb:.0f} MB and {samples[-1].shared_mb:.0f} MB shared; "
                f"{dict(soak.done)}",
                flush=True,
            )
    return samples


def main() -> int:
    """Load, judge, print and record; the exit code is 1 if something grows, or if the node does not end with 0."""
    options, before = _options(), machine()
    seconds = 3600 * options.hours or 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        _environment(Path(folder))
        rclpy.init()
        soak = Soak(options.model.resolve(), options.backend, Path(folder))
        samples = _loaded(soak, seconds)
        exit_code = soak.close()
    rclpy.try_shutdown()
    figures, growing = judge(samples, options.growth_mb)
    figures |= {"done": dict(soak.done), "grows": growing, "exit_code_of_the_node": exit_code}
    settings = {
        "model": options.model.name,
        "backend": options.backend,
        "seconds": seconds,
        "growth_mb": options.growth_mb,
        "sizes": SIZES,
    }
    path = write_record(options.name, figures=figures, settings=settings, before=before)
    memory = figures["resident_mb"]
    print(
        f"resident memory {memory['after_warm_up']:.0f} MB after the warm-up, {memory['at_end']:.0f} at the end, "
        f"{memory['largest']:.0f} at most; {memory['slope_mb_per_hour']:+.1f} MB an hour; {dict(soak.done)}"
    )
    for name in ("threads", "descriptors"):
        print(f"{name}: {figures[name]['after_warm_up']} after the warm-up, {figures[name]['at_end']} at the end")
    print("\n".join(growing) or "nothing grows")
    print(f"written: {path}")
    return 1 if growing or exit_code else 0


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "memory_soak"))
