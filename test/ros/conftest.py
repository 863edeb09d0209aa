"""Fixtures for tests with real ROS: a private DDS domain, the node under test in its own process, and a client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "demo"))
TIMEOUT_S = 60.0
"""For whatever must come. It costs nothing while all is well, and a busy machine is slow."""
SOON_S = 20.0
"""For what takes two seconds at most: ten times that, for a busy machine, and far less than what goes on for ever."""
RESEND_S = 3.0
"""A best-effort message of which nothing is heard for so long was lost."""


@pytest.fixture(scope="session")
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`rclpy`, initialised in a DDS domain of this session alone."""
    rclpy = pytest.importorskip("rclpy", reason="rclpy is absent: source a ROS distribution or install hrda_ros[ros]")
    from street_demo.environment import free_domain

    os.environ.update(
        ROS_DOMAIN_ID=str(free_domain()),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        RMW_IMPLEMENTATION="rmw_fastrtps_cpp",
        ROS_LOG_DIR=str(tmp_path_factory.mktemp("ros_log")),
    )
    with warnings.catch_warnings():
        # The first node loads rclpy's type support, whose parser library uses deprecated modules.
        warnings.simplefilter("ignore", DeprecationWarning)
        rclpy.init()
        rclpy.create_node("first").destroy_node()
    yield rclpy
    rclpy.try_shutdown()


class NodeProcess:
    """A node in a process of its own, started as a launch file would.

    Args:
        log: file for its standard output and error.
        ros_args: what stands behind `--ros-args`.
        program: name of its console script.
    """

    def __init__(self, log: Path, *ros_args: str, program: str = "segment_node") -> None:
        script = Path(sys.executable).with_name(program)
        call = f"import sys; from hrda_ros.space.programs import {program}; sys.exit({program}())"
        here = ["-m", "hrda_ros"] if program == "segment_node" else ["-c", call]
        command = [str(script)] if script.exists() else [sys.executable, *here]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [*command, "--ros-args", *ros_args], stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    def wait_for_log(self, text: str, timeout_s: float = TIMEOUT_S) -> str:
        """Wait until `text` is in the log; returns the line."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [line for line in self.log().splitlines() if text in line]
            if found:
                return found[-1]
            assert self._process.poll() is None, f"the node has ended:\n{self.log()}"
            time.sleep(0.05)
        raise AssertionError(f"'{text}' did not appear in the log:\n{self.log()}")

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Exit code, once it ends by itself."""
        return self._process.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = TIMEOUT_S) -> int:
        """Send a signal and return the exit code."""
        self._process.send_signal(number)
        return self.wait(timeout_s)

    def interrupt(self) -> None:
        """Ask it to end, if it runs."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float) -> None:
        """Wait for its end so long, seconds, and kill it then."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))
        self.kill()

    def kill(self) -> None:
        """End it at all events."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def start_node(ros: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes that are ended with the module at the latest: `start_node("-p", "lazy:=false")`."""
    started: list[NodeProcess] = []

    def start(*ros_args: str, program: str = "segment_node") -> NodeProcess:
        started.append(NodeProcess(tmp_path_factory.mktemp("node") / "log.txt", *ros_args, program=program))
        return started[-1]

    yield start
    # What a killed node leaves in shared memory may cost the next ones of this domain their messages.
    for process in started:
        process.interrupt()
    deadline = time.monotonic() + SOON_S
    for process in started:
        process.end(deadline - time.monotonic())


def stamp_ns(message: Any) -> int:
    """The stamp of a message with a header."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def statuses(diagnostics: list[Any], node: str) -> list[Any]:
    """What `diagnostic_msgs/DiagnosticArray` messages say of one node, by its full name."""
    return [status for array in diagnostics for status in array.status if status.name.startswith(node[1:] + ": ")]


def values_of(status: Any) -> dict[str, str]:
    """The values of a `diagnostic_msgs/DiagnosticStatus`."""
    return {entry.key: entry.value for entry in status.values}


class Client:
    """A node in the test's process: publishes images, collects messages, calls services."""

    def __init__(self, rclpy: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self.node = rclpy.create_node("test_client")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
        """Handle messages until `condition` holds; fail with `what` after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, duration_s: float) -> None:
        """Handle messages for a while."""
        deadline = time.monotonic() + duration_s
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)

    def collect(self, message_type: Any, topic: str, qos: Any = 10) -> list[Any]:
        """Subscribe; the list that is returned grows with every message."""
        messages: list[Any] = []
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def camera(self, topic: str, message_type: Any = None, reliable: bool = True) -> Any:
        """Publisher of images (`sensor_msgs/Image` if not said otherwise)."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.node.create_publisher(message_type or Image, topic, QoSProfile(depth=5, reliability=policy))

    def meet(self, node: str, *publishers: Any, outputs: Iterable[str] = ()) -> None:
        """Wait until a node and this client know each other, so that the next message reaches its reader.

        That this side has found the node's subscription does not tell it: the node drops best-effort messages of a
        publisher that it has yet to find, and makes no output for a subscriber that it has yet to find. Endpoints are
        announced in the order of their creation, so a node that has answered a client made after them knows them.

        Args:
            node: full name.
            publishers: of this client, each of a topic that the node has subscribed to or is about to.
            outputs: topics that the node publishes or is about to.
        """
        self.spin_until(lambda: all(self.node.count_publishers(topic) for topic in outputs), f"outputs of {node}")
        self.spin_until(lambda: all(p.get_subscription_count() for p in publishers), f"subscriptions of {node}")
        self._greet(node)

    def _greet(self, node: str) -> None:
        """Ask a node for a parameter until it answers: an answer to a client that it has yet to find is lost."""
        from rcl_interfaces.srv import GetParameters

        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        self.spin_until(client.service_is_ready, f"the services of {node}")
        answers: list[Any] = []
        asked_s = -RESEND_S

        def answered() -> bool:
            nonlocal asked_s
            if time.monotonic() - asked_s > RESEND_S:
                asked_s = time.monotonic()
                answers.append(client.call_async(GetParameters.Request(names=["use_sim_time"])))
            return any(answer.done() for answer in answers)

        self.spin_until(answered, f"an answer of {node}")
        self.node.destroy_client(client)

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        """Call a service of a node and return its response."""
        client = self.node.create_client(service_type, name)
        self.spin_until(client.service_is_ready, f"service {name}")
        self._greet(name.rpartition("/")[0])  # behind the client, which the node knows then, so that no answer is lost
        future = client.call_async(request)
        self.spin_until(future.done, f"an answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def status(self, diagnostics: list[Any], node: str) -> tuple[int, str, dict[str, str]]:
        """(level, message, values) of the next diagnostics of `node` in a list that `collect` gave.

        A report that was made before the call does not count: it may lack what happened last.
        """
        asked_ns = self.node.get_clock().now().nanoseconds

        def found() -> list[Any]:
            return [array for array in diagnostics if stamp_ns(array) >= asked_ns and statuses([array], node)]

        self.spin_until(found, f"diagnostics of {node}")
        status = statuses(found()[:1], node)[0]
        diagnostics.clear()
        return status.level[0], status.message, values_of(status)

    def refused(self, camera: Any, bad: dict[str, Any], diagnostics: list[Any], node: str, tries: int = 4) -> str:
        """Publish messages, by the cause that each must be counted under; returns what the reports have said of them.

        A message is sent again once several reports have not counted it: it was lost on the way, or superseded.
        """

        def counts(values: dict[str, str]) -> dict[str, int]:
            return {cause: int(values.get(f"refused/{cause}", 0)) for cause in bad}

        def grown() -> dict[str, int]:
            made = statuses(diagnostics, node)
            now = counts(values_of(made[-1])) if made else before
            return {cause: now[cause] - before[cause] for cause in bad}

        before = counts(self.status(diagnostics, node)[2])
        for _ in range(tries):
            for cause, message in bad.items():
                if not grown()[cause]:
                    camera.publish(message)
                    self.spin_for(0.15)  # one at a time: a newer frame supersedes one that waits
            enough = len(statuses(diagnostics, node)) + 5
            self.spin_until(
                lambda: all(grown().values()) or len(statuses(diagnostics, node)) >= enough,  # noqa: B023
                f"reports of {node}",
            )
            if all(grown().values()):
                break
        assert grown() == dict.fromkeys(bad, 1)
        made = statuses(diagnostics, node)
        assert all(status.level[0] in (1, 2) for status in made if "refused" in status.message)
        return " ".join(status.message for status in made)

    def set_parameter(self, node: str, name: str, value: Any) -> Any:
        """Result of a `set_parameters` service call."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def exchange(self, camera: Any, message: Any, masks: list[Any], tries: int = 20) -> Any:
        """Publish an image and return the mask with its stamp.

        The node subscribes best effort, so a frame may be lost on a busy machine: it is sent again then.
        """

        def answer() -> Any:
            return next((mask for mask in masks if mask.header == message.header), None)

        for _ in range(tries):
            camera.publish(message)
            deadline = time.monotonic() + RESEND_S
            while time.monotonic() < deadline:
                self._executor.spin_once(timeout_sec=0.05)
                if answer() is not None:
                    return answer()
        raise AssertionError(f"no mask for an image of stamp {message.header.stamp}")

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def client(ros: Any) -> Iterator[Client]:
    """One client for all tests of a module."""
    client = Client(ros)
    yield client
    client.close()


_stamps = iter(range(1, 1 << 31))


@pytest.fixture(scope="session")
def image_message(ros: Any) -> Callable[..., Any]:
    """Makes `sensor_msgs/Image` with a header of its own: `image_message(pixels, "rgb8", step=..., height=...)`."""
    from sensor_msgs.msg import Image

    def make(pixels: np.ndarray, encoding: str = "rgb8", *, padding: int = 0, **fields: Any) -> Any:
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
        message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
        message.step = rows.shape[1] + padding
        message.data.frombytes(np.pad(rows, ((0, 0), (0, padding)), constant_values=77).tobytes())
        stamp = next(_stamps)
        message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000 + stamp, 999_999_000 + stamp % 1000
        message.header.frame_id = f"camera_{stamp}"
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


def serves(publisher: Any, *, latched: bool = False) -> bool:
    """Whether a publisher (what the graph says of it) serves a subscription of nav2's semantic segmentation layer.

    Its README (November 2026): mask, confidence and cloud best effort, labels reliable and transient local.
    """
    from rclpy.qos import (
        DurabilityPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
        qos_profile_sensor_data,
    )

    wanted = qos_profile_sensor_data
    if latched:
        wanted = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
    compatible: bool = qos_check_compatible(publisher.qos_profile, wanted)[0] != QoSCompatibility.ERROR
    return compatible


@pytest.fixture(scope="session")
def serves_semantic_layer(ros: Any) -> Callable[..., bool]:
    """`serves`, as a fixture."""
    return serves


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Random RGB pictures: `picture(height, width)`."""
    generator = np.random.default_rng(7)
    return lambda height=120, width=160: generator.integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "damaged"))
