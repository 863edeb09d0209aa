"""The demo's processes see a ROS graph of their own, and its pace suits the machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from street_demo.environment import _hold, child_environment, free_domain
from street_demo.pacing import MAX_PLAYING_S, MAX_RATE_HZ, choose_rate
from street_demo.paths import DEMO

from hrda_ros.start.fastdds_profile import profile_variable

SOURCED = {
    "PATH": "/usr/bin",
    "HOME": "/home/someone",
    "ROS_DISTRO": "jazzy",
    "ROS_DOMAIN_ID": "42",
    "ROS_LOCALHOST_ONLY": "1",
    "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
    "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
    "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
    "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib",
    "FASTRTPS_DEFAULT_PROFILES_FILE": "/somewhere.xml",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
}


def test_a_sourced_distribution_does_not_reach_the_processes() -> None:
    environment = child_environment(Path("/logs"), Path("/profile.xml"), SOURCED)
    assert not [value for value in environment.values() if "/opt/ros" in value or "cyclone" in value]
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in environment
    assert "ROS_LOCALHOST_ONLY" not in environment
    assert environment["PATH"] == "/usr/bin"
    assert environment[profile_variable({})] == "/profile.xml"
    assert environment["ROS_LOG_DIR"] == "/logs"


@pytest.fixture
def held_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps none of the domains that a test draws."""
    monkeypatch.setattr("street_demo.environment._hold", lambda domain: True)


@pytest.mark.usefixtures("held_by_nobody")
def test_domain_is_drawn_afresh_and_valid() -> None:
    domains = {int(child_environment(Path(), Path(), SOURCED)["ROS_DOMAIN_ID"]) for _ in range(200)}
    assert len(domains) > 20
    assert domains <= set(range(1, 102))


HOLDS = """
import sys
from street_demo.environment import _hold
print(_hold(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_a_domain_that_another_process_has_drawn_is_not_drawn_until_it_ends() -> None:
    domain = 1000 + os.getpid()  # a number that nobody draws
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(domain)], cwd=DEMO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    assert not _hold(domain)
    process.communicate("")
    assert _hold(domain)
    assert _hold(domain), "it is this process's now"


@pytest.mark.usefixtures("held_by_nobody")
def test_a_domain_in_which_others_take_part_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the numbers that nobody draws: one that a graph of another test has would be no free one here.
    monkeypatch.setattr("street_demo.environment._DOMAINS", range(102, 105))
    with contextlib.ExitStack() as sockets:
        for domain in (102, 104):
            taken = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taken.bind(("127.0.0.1", 7410 + 250 * domain))
        assert {free_domain() for _ in range(20)} == {103}


@pytest.mark.usefixtures("held_by_nobody")
def test_a_domain_in_which_a_killed_process_has_left_ports_is_the_last_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("street_demo.environment._DOMAINS", range(102, 105))
    monkeypatch.setattr("street_demo.environment._SHARED_MEMORY", tmp_path)
    for name in (f"fastdds_port{7413 + 250 * 102}_el", f"fastrtps_port{7411 + 250 * 104}", "fastdds_0123", "other"):
        (tmp_path / name).touch()
    assert {free_domain() for _ in range(20)} == {103}
    (tmp_path / f"fastdds_port{7411 + 250 * 103}").touch()
    assert {free_domain() for _ in range(50)} == {102, 103, 104}


@pytest.mark.parametrize(("inference_s", "rate_hz"), [(0.005, MAX_RATE_HZ), (0.12, 5.0), (30.0, 101 / MAX_PLAYING_S)])
def test_rate_leaves_room_beside_the_inference_within_bounds(inference_s: float, rate_hz: float) -> None:
    assert choose_rate(inference_s, 101) == pytest.approx(rate_hz)


# What `make demo` does not install: see the extras in setup.py.
OF_TRAINING = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "onnx",
    "matplotlib",
    "jinja2",
    "tqdm",
    "tensorboard",
    "PIL",
)


def test_the_demo_imports_without_the_packages_of_training() -> None:
    pytest.importorskip("rclpy")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OF_TRAINING}))"
    scripts = "import run_demo, play_bag, record_masks, make_drive, street_demo.stages"
    done = subprocess.run([sys.executable, "-c", f"{blocked}; {scripts}"], cwd=DEMO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["make_demo_bag", "make_drive", "play_bag", "record_masks", "run_demo"])
def test_a_program_of_the_demo_ends_without_a_word_where_nobody_reads_its_output(name: str) -> None:
    if name in ("play_bag", "record_masks"):
        pytest.importorskip("rclpy")
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, str(DEMO / f"{name}.py"), "--help"]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # else argparse drops what it cannot print, and ends with 0
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
