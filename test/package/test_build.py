"""The package as a ROS user builds it: colcon build, the share folder, the installed programs, colcon test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hrda_core.inference import Bundle

INSIDE_COLCON_TEST = "HRDA_INSIDE_COLCON_TEST"

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(INSIDE_COLCON_TEST in os.environ, reason="this test started the colcon test that runs here"),
]

LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv*",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
    "build",
    "install",
    "log",
    "runs",
    "demo_output",
)


def run(command: list[str], workspace: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, INSIDE_COLCON_TEST: "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module", params=["copies", "links"])
def workspace(request, repository, tmp_path_factory) -> Path:
    """A colcon workspace with a copy of the source tree, built plainly or with --symlink-install."""
    colcon = shutil.which("colcon", path=str(Path(sys.executable).parent)) or shutil.which("colcon")
    if colcon is None:
        pytest.skip("colcon is not installed here")
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(repository, folder / "src" / "hrda_ros", ignore=LEFT_OUT)
    write_bundle_with_a_graph(folder / "src" / "hrda_ros" / "models" / "mine")
    run([colcon, "build", *(["--symlink-install"] if request.param == "links" else [])], folder)
    return folder


def write_bundle_with_a_graph(folder: Path) -> None:
    """A bundle of somebody who works in the source tree, with a graph for one image size."""
    from tiny_bundle import write_tiny_bundle

    from hrda_core.inference.bundle import change_bundle

    graph = (write_tiny_bundle(folder) / "model.onnx").read_bytes()
    entry = {"plan": "tiles", "file": "graphs/tiles_64x64.onnx", "size": [64, 64]}
    change_bundle(folder, lambda now: ({**now.manifest, "static_graphs": [entry]}, {"graphs/tiles_64x64.onnx": graph}))


@pytest.fixture(scope="module")
def share(workspace) -> Path:
    return workspace / "install" / "hrda_ros" / "share" / "hrda_ros"


def sourced(workspace: Path, command: str) -> list[str]:
    return ["bash", "-c", f"source install/setup.bash && exec {command}"]


def test_it_is_built_as_an_ament_package(workspace):
    index = workspace / "install" / "hrda_ros" / "share" / "ament_index" / "resource_index" / "packages"
    assert (index / "hrda_ros").exists()
    assert (workspace / "install" / "hrda_ros" / "share" / "hrda_ros" / "package.dsv").exists()


def test_share_holds_launch_config_and_models(repository, share):
    for folder, patterns in {
        "launch": ["*.launch.py"],
        "config": ["**/*.yaml", "**/*.xml", "**/*.rviz", "**/*.json", "**/*.service", "**/*.env"],
        "models": ["*/manifest.yaml", "*/*.onnx", "*/*.safetensors", "*/MODEL_CARD.md"],
    }.items():
        for pattern in patterns:
            for path in (repository / folder).glob(pattern):
                name = path.relative_to(repository)
                assert (share / name).is_file(), f"{name} is not installed"


def test_the_installed_command_finds_the_installed_source_pack(workspace, share):
    code = (
        "from pathlib import Path; from hrda_core.data.packs.pack_folders import find_source; "
        "from hrda_core.data.packs.source_pack import SourcePack; "
        "print(SourcePack.open(Path(find_source('streets').spec)).path)"
    )
    done = run(sourced(workspace, f'{sys.executable} -c "{code}"'), workspace)
    assert done.stdout.strip() == str(share / "packs" / "streets")


def test_only_links_let_edited_files_be_seen_without_a_rebuild(request, workspace, share):
    installed = share / "launch" / "segment.launch.py"
    linked = installed.resolve().is_relative_to(workspace / "src")
    assert linked == ("links" in request.node.callspec.id), "links that are copies: check setuptools<80"


def test_programs_are_where_ros2_run_looks(workspace):
    folder = workspace / "install" / "hrda_ros" / "lib" / "hrda_ros"
    assert {path.name for path in folder.iterdir()} >= {"segment_node", "cloud_node", "ground_node", "hrda"}
    first_line = (folder / "segment_node").read_text().splitlines()[0]
    assert "python" in first_line


def test_the_index_finds_the_package_when_sourced(workspace):
    pytest.importorskip("ament_index_python")
    code = "from ament_index_python import get_package_share_directory as share; print(share('hrda_ros'))"
    done = run(sourced(workspace, f'{sys.executable} -c "{code}"'), workspace)
    assert done.stdout.strip() == str(workspace / "install" / "hrda_ros" / "share" / "hrda_ros")


def test_the_installed_hrda_command_runs(workspace):
    done = run(sourced(workspace, "install/hrda_ros/lib/hrda_ros/hrda --version"), workspace)
    assert done.stdout.startswith("hrda_ros ")


def test_installed_bundles_open_also_with_graphs_for_one_image_size(share):
    assert Bundle.open(share / "models" / "hrda_lite").static_graphs == ()
    assert [graph.size for graph in Bundle.open(share / "models" / "mine").static_graphs] == [(64, 64)]


@pytest.mark.parametrize("workspace", ["links"], indirect=True)  # where a write would reach the source tree
def test_an_export_of_the_installed_model_gives_the_graph_to_a_copy_and_leaves_it_whole(
    workspace, share, tmp_path, monkeypatch
):
    pytest.importorskip("torch")
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    command = "install/hrda_ros/lib/hrda_ros/hrda export hrda_lite --size 64x128"
    done = run(sourced(workspace, command), workspace)
    copy = tmp_path / "home" / "hrda_lite"
    assert done.stdout.endswith(f"ros2 launch hrda_ros segment.launch.py model:={copy}\n")
    assert [graph.size for graph in Bundle.open(copy).static_graphs] == [(64, 128)]
    for bundle in (share / "models" / "hrda_lite", workspace / "src" / "hrda_ros" / "models" / "hrda_lite"):
        assert Bundle.open(bundle).static_graphs == ()


def test_the_installed_node_starts_with_the_installed_model_and_ends_cleanly_on_sigint(
    workspace, repository, tmp_path, monkeypatch
):
    pytest.importorskip("rclpy")
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(repository / "demo")
    from street_demo.environment import free_domain

    environment = {
        **os.environ,
        "ROS_LOG_DIR": str(tmp_path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(free_domain()),
    }
    program = "install/hrda_ros/lib/hrda_ros/segment_node"
    log = tmp_path / "output.txt"
    with open(log, "w") as output:
        node = subprocess.Popen(
            sourced(workspace, program), cwd=workspace, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_for(lambda: "segmenting images of" in log.read_text() or node.poll() is not None, timeout_s=60)
        finally:
            node.send_signal(signal.SIGINT)
            code = node.wait(timeout=60)
    assert "segmenting images of" in log.read_text()
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    """Poll until the condition holds or the time is up; the caller checks which."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize("workspace", ["copies"], indirect=True)
def test_colcon_test_runs_tests_and_reports_them(workspace):
    colcon = shutil.which("colcon", path=str(Path(sys.executable).parent)) or "colcon"
    files = ["test/package/test_setup.py", "test/package/test_config_files.py"]
    show_output = ["--event-handlers", "console_direct+"]
    run([colcon, "test", *show_output, "--return-code-on-test-failure", "--pytest-args", *files], workspace)
    done = run([colcon, "test-result", "--verbose"], workspace)
    count = int(done.stdout.split("Summary: ")[1].split()[0])
    assert count > 20, done.stdout
    assert "0 errors, 0 failures" in done.stdout
