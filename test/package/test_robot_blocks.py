"""The blocks of README and docs/robot that need ROS: run as they are written, with what ships, where ROS is."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Block, blocks_of

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/robot/")
BLOCKS = [
    block
    for block in blocks_of(REPOSITORY)
    if block.page.startswith(PAGES) and block.marks.get("needs") == "ros" and block.language == "sh"
]
SERVES = "segmenting images of"

# What goes on until it is stopped runs behind the block, as if in a terminal of its own (with job control, so that
# Ctrl-C reaches it), and the next command waits until the node serves.
PRELUDE = r"""
set -m
trap '[ -z "${node:-}" ] || kill -KILL -- "-$node"' EXIT
stop_node() {
    if [ -n "${node:-}" ]; then
        kill -INT -- "-$node"
        # 130: `ros2 run` may report the Ctrl-C itself.
        wait "$node" || [ $? = 130 ] || { echo "the node did not end cleanly"; cat node.log; exit 1; }
        if grep Traceback node.log; then cat node.log; exit 1; fi
        node=""
        command ros2 daemon stop > daemon.log
    fi
}
start_node() {
    stop_node
    command ros2 "$@" > node.log 2>&1 &
    node=$!
    until grep -q "SERVES" node.log; do
        kill -0 "$node" || { cat node.log; exit 1; }
        sleep 0.2
    done
    until command ros2 node list | grep -q segment_node; do sleep 0.2; done
}
ros2() {
    case "$*" in
        "launch "*--show-args*) command ros2 "$@" ;;
        "launch "* | "run hrda_ros segment_node"*) start_node "$@" ;;
        "topic echo"*)  # a topic that has not been discovered yet ends it at once
            for _ in 1 2 3 4 5; do
                timeout 20 ros2 "$@" > echo.log || true
                [ -s echo.log ] && return
            done
            return 1
            ;;
        *) timeout 60 ros2 "$@" ;;
    esac
}
""".replace("SERVES", SERVES)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def test_there_are_blocks_for_robots() -> None:
    assert {block.page for block in BLOCKS} >= {"README.md", "docs/robot/node.md", "docs/robot/troubleshooting.md"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose ~/ros_ws holds the built package."""
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS distribution only")
    if shutil.which("ros2") is None:
        pytest.skip("the program ros2 comes with a ROS distribution only")
    home = tmp_path_factory.mktemp("home")
    a_new_home(home, empty=False)
    colcon = shutil.which("colcon", path=str(Path(sys.executable).parent)) or shutil.which("colcon")
    if colcon is None:
        pytest.skip("colcon is not installed here")
    subprocess.run([colcon, "build"], cwd=home / "ros_ws", check=True, capture_output=True)
    shutil.copytree(REPOSITORY / "models" / "hrda_lite", home / "bundle")
    return home


def a_new_home(home: Path, *, empty: bool) -> Path:
    """A home folder with ~/ros_ws/src, which holds a clone of this repository unless it is to be empty."""
    source = home / "ros_ws" / "src"
    source.mkdir(parents=True)
    if not empty:
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(source / "hrda_ros")], check=True)
    return home


def script_of(block: Block, home: Path) -> str:
    """The block for bash, between the start of the node that its page supposes and the end of the node."""
    if "colcon build" in block.text:  # it installs: what it supposes is a workspace, at most
        return f"{PRELUDE}\n{block.text.replace('<this repository>', str(REPOSITORY))}\nstop_node\n"
    starts = any(command.startswith(("ros2 launch", "ros2 run hrda_ros segment_node")) for command in block.commands())
    text = block.text.replace("<this repository>", str(REPOSITORY)).replace("/path/to/bundle", str(home / "bundle"))
    before = "" if starts else "start_node run hrda_ros segment_node\n"
    return f"{PRELUDE}\nsource {home}/ros_ws/install/setup.bash\n{before}{text}\nstop_node\n"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_for_robots_runs_as_it_is_written(block: Block, home: Path, tmp_path: Path) -> None:
    if "colcon build" in block.text:
        home = a_new_home(tmp_path / "home", empty="git clone" in block.text)
    if "ros2 bag" in block.text and subprocess.run(["ros2", "bag", "--help"], capture_output=True).returncode:
        pytest.skip("ros2 bag is not installed here")
    if "rosdep" in block.text and shutil.which("rosdep") is None:
        pytest.skip("rosdep is not installed here")
    environment = {
        **os.environ,
        "HOME": str(home),
        "ROS_LOG_DIR": str(tmp_path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script_of(block, home)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
