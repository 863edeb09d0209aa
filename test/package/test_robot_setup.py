"""tools/robot_setup: the sound line for pip on each distribution, and one sentence where there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

JAZZY = {"AMENT_PREFIX_PATH": "/home/žofie/ws/install/hrda_ros:/opt/ros/jazzy", "ROS_DISTRO": "jazzy"}


@pytest.fixture
def tool(repository, monkeypatch):
    """The script as a module; under a name in sys.modules, since dataclasses look there."""
    spec = importlib.util.spec_from_file_location("robot_setup", repository / "tools" / "robot_setup.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "robot_setup", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def robot(tool, monkeypatch, tmp_path):
    """A machine in words: what each module is, where pip may write, whose process it is."""

    class Robot:
        def __init__(self):
            there = {"numpy": "1.26.4", "yaml": "6.0.1", "cv2": "4.6.0"}
            missing = dict.fromkeys([*tool.RUNTIME, *tool.VERBS], tool.Found("missing", "", ""))
            self.found = missing | {name: tool.Found("", version, f"/usr/{name}") for name, version in there.items()}

        def plan(self):
            return tool.make_plan(self.found)

        def line(self):
            return self.plan().command[4:]

    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(tool.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(tool.site, "getusersitepackages", lambda: str(tmp_path / "žofie" / "site-packages"))
    monkeypatch.setattr(tool, "externally_managed", lambda: True)
    return Robot()


def numpys(monkeypatch, tool, *versions):
    """Let these versions of numpy lie on the path, the first hiding the others."""
    entries = [type("Entry", (), {"version": version}) for version in versions]
    monkeypatch.setattr(tool, "distributions", lambda name: entries)


# What is brought


def test_its_requirements_are_those_of_setup_py(tool, repository):
    text = (repository / "setup.py").read_text(encoding="utf-8")
    for requirement in [*tool.RUNTIME.values(), *tool.VERBS.values()]:
        assert f'"{requirement}"' in text
    bag = text.split('"bag": [')[1].split("]")[0]
    assert sorted(word for word in bag.split('"') if ">" in word) == sorted(tool.VERBS.values())


def test_humble_keeps_its_series_of_numpy(robot, tool, monkeypatch):
    monkeypatch.setattr(tool, "externally_managed", lambda: False)
    robot.found["numpy"] = tool.Found("", "1.21.5", "/usr/lib/python3/dist-packages/numpy/__init__.py")
    assert robot.line()[:4] == ["--user", "--no-warn-script-location", "numpy>=1.21.5,<1.22", "onnxruntime>=1.17,<2"]


def test_jazzy_tells_pip_to_write_beside_the_system_and_for_this_user(robot):
    assert {"--user", "--break-system-packages"} < set(robot.line())
    assert robot.line()[3:5] == ["numpy>=1.26.4,<1.27", "onnxruntime>=1.17,<2"]


def test_root_installs_for_all_users(robot, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--break-system-packages" in robot.line()
    assert "--user" not in robot.line()
    assert "all users" in robot.plan().where


def test_a_virtual_environment_gets_them_and_is_told_how_to_build(robot, tool, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(tool.sysconfig, "get_path", lambda name: str(tmp_path))
    assert robot.line()[0] == "numpy>=1.26.4,<1.27"
    assert "python3 -m colcon build" in robot.plan().where


def test_an_onnxruntime_that_imports_is_kept_whoever_brought_it(robot, tool):
    robot.found["onnxruntime"] = tool.Found("", "1.20.0", "/usr/lib/python3/dist-packages/onnxruntime/__init__.py")
    plan = robot.plan()
    assert not [word for word in plan.command if "onnxruntime" in word]
    assert "onnxruntime 1.20.0 is there and stays" in plan.notes[0]


def test_nothing_missing_means_no_line_for_pip(robot, tool):
    robot.found = {name: tool.Found("", "1.0", f"/usr/{name}") for name in robot.found}
    assert robot.plan().command == []


def test_a_broken_onnxruntime_is_not_overwritten(robot, tool):
    robot.found["onnxruntime"] = tool.Found("libcudart.so.12: cannot open shared object file", "", "")
    with pytest.raises(tool.SetupError, match=r"libcudart.*not overwritten: repair it, or remove it"):
        robot.plan()


def test_a_numpy_that_hides_the_one_of_opencv_is_answered_with_the_hidden_series(robot, tool, monkeypatch):
    numpys(monkeypatch, tool, "2.2.6", "1.21.5")
    robot.found["numpy"] = tool.Found("", "2.2.6", "/home/me/.local/numpy/__init__.py")
    robot.found["cv2"] = tool.Found("numpy.core.multiarray failed to import _ARRAY_API", "", "")
    robot.found["onnxruntime"] = tool.Found("", "1.22.0", "/home/me/.local/onnxruntime/__init__.py")
    assert "numpy>=1.21.5,<1.22" in robot.line()
    assert not [word for word in robot.line() if word.startswith("onnxruntime")]


def test_an_rclpy_that_only_that_numpy_breaks_is_no_other_python(robot, tool):
    robot.found["rclpy"] = tool.Found("numpy.core.multiarray failed to import", "", "")
    with pytest.raises(tool.SetupError, match=r"does not import rclpy of ROS 2 humble"):
        tool.check_python("humble", robot.found)
    robot.found["cv2"] = tool.Found("numpy.core.multiarray failed to import _ARRAY_API", "", "")
    tool.check_python("humble", robot.found)


def test_without_a_hidden_numpy_the_one_for_old_opencv_is_any_before_2(robot, tool, monkeypatch):
    numpys(monkeypatch, tool, "2.2.6")
    robot.found["cv2"] = tool.Found("numpy.core.multiarray failed to import _ARRAY_API", "", "")
    assert "numpy>=1.21,<2" in robot.line()


def test_aarch64_hears_that_jetpack_brings_tensorrt(robot, tool, monkeypatch):
    monkeypatch.setattr(tool.platform, "machine", lambda: "aarch64")
    assert "neither onnxruntime-gpu nor TensorRT" in robot.plan().notes[-1]


# What cannot be


def test_what_rosdep_brings_is_asked_of_rosdep(robot, tool):
    robot.found["cv2"] = tool.Found("missing", "", "")
    with pytest.raises(tool.SetupError, match=r"'cv2' is missing.*rosdep install --from-paths src"):
        robot.plan()


def test_an_opencv_that_is_broken_otherwise_is_not_mended_by_numpy(robot, tool):
    robot.found["cv2"] = tool.Found("libGL.so.1: cannot open shared object file", "", "")
    with pytest.raises(tool.SetupError, match=r"libGL.so.1.*repair python3-opencv"):
        robot.plan()


def test_a_home_that_cannot_be_written_is_refused_before_pip(robot, tool, monkeypatch):
    monkeypatch.setattr(tool.site, "getusersitepackages", lambda: "/dev/null/žofie/site-packages")
    with pytest.raises(tool.SetupError, match=r"/dev/null cannot be written .*PYTHONUSERBASE"):
        robot.plan()


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="there is no /usr/bin/python3 here")
def test_the_home_of_somebody_else_is_refused_before_pip(repository):
    # As an ordinary user, who may not even look into it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "private").mkdir(mode=0o700)
        shutil.copy(repository / "tools" / "robot_setup.py", folder)
        folder.chmod(0o755)
        if os.geteuid() != 0:
            (folder / "private").chmod(0)
        code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import robot_setup as tool\n"
        code += "tool.check_writable(pathlib.Path(sys.argv[2]), 'move out')"
        done = subprocess.run(
            ["/usr/bin/python3", "-B", "-c", code, name, str(folder / "private" / ".local" / "lib")],
            user=65534 if os.geteuid() == 0 else None,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        (folder / "private").chmod(0o700)
    assert done.stderr.strip().endswith(f"and {folder}/private cannot be written (Permission denied); move out")


def test_a_switched_off_user_site_is_named(robot, tool, monkeypatch):
    monkeypatch.setattr(tool.site, "ENABLE_USER_SITE", False)
    with pytest.raises(tool.SetupError, match="PYTHONNOUSERSITE"):
        robot.plan()


# Which distribution


def test_the_sourced_distribution_is_found(tool):
    assert tool.sourced_distribution(JAZZY) == "jazzy"
    assert (
        tool.sourced_distribution({"AMENT_PREFIX_PATH": "/home/me/ros2/install/rclpy", "ROS_DISTRO": "kilted"})
        == "kilted"
    )


@pytest.mark.parametrize("environment", [{}, {"ROS_DISTRO": "jazzy"}, {"AMENT_PREFIX_PATH": ""}])
def test_no_sourced_distribution_is_one_sentence(tool, environment):
    with pytest.raises(
        tool.SetupError, match=r"no ROS distribution is sourced .* run 'source /opt/ros/\w+/setup.bash'"
    ):
        tool.sourced_distribution(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"AMENT_PREFIX_PATH": "/opt/ros/jazzy:/opt/ros/humble", "ROS_DISTRO": "jazzy"},
        {"AMENT_PREFIX_PATH": "/opt/ros/humble", "ROS_DISTRO": "jazzy"},
    ],
)
def test_two_sourced_distributions_are_one_sentence(tool, environment):
    with pytest.raises(tool.SetupError, match=r"2 ROS distributions are sourced .*\(humble, jazzy\).* new shell"):
        tool.sourced_distribution(environment)


# The program


def run(repository, *arguments, **environment):
    here = {name: value for name, value in os.environ.items() if name not in ("AMENT_PREFIX_PATH", "ROS_DISTRO")}
    return subprocess.run(
        [repository / "tools" / "robot_setup", *arguments], env=here | environment, capture_output=True, text=True
    )


def test_the_program_ends_with_2_and_one_sentence(repository):
    done = run(repository, PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stderr.startswith("robot_setup: error: no ROS distribution is sourced")
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_not_there_is_one_sentence(repository):
    done = run(repository, PYTHON="/nowhere/python3")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no Python at /nowhere/python3" in done.stderr


def test_it_runs_by_an_active_environment_and_else_by_the_systems_python(repository, tmp_path):
    shown = tmp_path / "bin" / "python3"
    shown.parent.mkdir()
    shown.write_text('#!/bin/sh\necho "environment $1"\n')
    shown.chmod(0o755)
    assert run(repository, VIRTUAL_ENV=str(tmp_path), PYTHON="").stdout.startswith("environment ")
    text = (repository / "tools" / "robot_setup").read_text(encoding="utf-8")
    assert "python=/usr/bin/python3" in text


def test_a_python_of_no_distribution_is_told(repository, tmp_path):
    # A bare environment has no rclpy, as conda and pyenv have none of the distribution's.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    done = run(repository, PYTHON=str(tmp_path / "bare" / "bin" / "python3"), PYTHONPATH="", **JAZZY)
    assert done.returncode == 2
    assert "does not import rclpy of ROS 2 jazzy" in done.stderr
    assert done.stderr.count("\n") == 1


def old_python() -> str | None:
    """A Python 3.10, as Ubuntu 22.04 has."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))
    return next(map(str, pyenv), None) or shutil.which("python3.10")


@pytest.fixture(scope="module")
def jammy(tmp_path_factory, repository) -> Path:
    """Python 3.10 with the libraries of Ubuntu 22.04, and above them an environment of a user, Žofie, with numpy 2.

    The environment stands for `~/.local`: it comes first, and a file in it names the folder of the distribution's
    packages, as apt's folder comes last on Ubuntu. Packages that are Python alone are those of this environment.
    """
    python = old_python()
    if python is None:
        pytest.skip("Python 3.10, which Ubuntu 22.04 has, is not on this machine")
    folder = tmp_path_factory.mktemp("jammy") / "žofie"
    subprocess.run([python, "-m", "venv", "--without-pip", folder / "user"], check=True)
    (folder / "apt").mkdir()
    of_verbs = ("rosbags", "mcap", "jsonargparse", "docstring_parser", "tqdm")
    for name in ("pip", *of_verbs, "flatbuffers", "mpmath", "packaging", "sympy"):
        package = Path(importlib.util.find_spec(name).submodule_search_locations[0])
        for path in (package, *package.parent.glob(f"{name}-*.dist-info")):
            (folder / "apt" / path.name).symlink_to(path)
    (folder / "apt" / "rclpy.py").touch()  # in place of ROS, of which robot_setup only asks whether it imports
    site = folder / "user" / "lib" / "python3.10" / "site-packages"
    (site / "distribution.pth").write_text(f"{folder / 'apt'}\n", encoding="utf-8")
    apt = ["numpy==1.21.5", "opencv-python-headless==4.5.4.60", "PyYAML==6.0"]
    old = ["numpy==1.21.5", "onnxruntime==1.16.3"]
    for where, packages in (("apt", apt), ("old", old), ("", ["numpy==2.2.6"])):
        options = ["--target", folder / where] if where else []
        command = [folder / "user" / "bin" / "python3", "-m", "pip", "install", "-q", "--no-deps", *options, *packages]
        done = subprocess.run(command, env=os.environ | FAST_PIP, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"the package index does not give these: {done.stderr.strip().splitlines()[-1]}")
    (folder / "packages").mkdir()
    for link, target in {"hrda_core": "hrda_core", "hrda_ros": "hrda_ros", "hrda_training": "training"}.items():
        (folder / "packages" / link).symlink_to(repository / target)
    return folder


FAST_PIP = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def in_jammy(jammy: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {name: os.environ[name] for name in os.environ if name == "PATH" or name.startswith("PIP_")}
    here |= {"HOME": str(jammy), "PYTHONPATH": str(jammy / "packages"), "LC_ALL": "POSIX", **FAST_PIP}
    return subprocess.run(
        [jammy / "user" / "bin" / "python3", *command],
        env=here | environment,
        cwd=jammy,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


HUMBLE = {"AMENT_PREFIX_PATH": "/opt/ros/humble", "ROS_DISTRO": "humble"}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_numpy_2_beside_the_opencv_of_ubuntu_22_04_is_told_and_mended(jammy, repository):
    setup = str(repository / "tools" / "robot_setup.py")
    for command in (["-m", "hrda_ros"], ["-m", "hrda_training", "models"]):
        done = in_jammy(jammy, *command, **HUMBLE)
        assert done.returncode == 2
        assert "OpenCV (cv2) was built for another numpy and does not import beside numpy 2.2.6" in done.stderr
        assert "run tools/robot_setup" in done.stderr
        assert done.stderr.count("\n") == 1, "one sentence, without numpy's page"

    done = in_jammy(jammy, setup, "--dry-run", **HUMBLE)
    assert done.returncode == 0, done.stderr
    assert "cv2               does not import" in done.stdout
    assert "'numpy>=1.21.5,<1.22'" in done.stdout
    assert in_jammy(jammy, "-c", "import numpy; print(numpy.__version__)").stdout == "2.2.6\n"

    done = in_jammy(jammy, setup, **HUMBLE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hrda_lite runs: onnxruntime 1." in done.stdout
    assert "numpy 1.21." in done.stdout
    assert "OpenCV 4.5.4" in done.stdout

    again = in_jammy(jammy, setup, **HUMBLE)
    assert again.returncode == 0
    assert "nothing is missing" in again.stdout
    assert "is there and stays" in again.stdout


@pytest.mark.heavy
def test_an_onnxruntime_older_than_the_graph_says_which_one_reads_it(jammy, tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 4, 4, 3])
    graph = onnx.helper.make_graph([], "g", [value], [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    code = f"""
from pathlib import Path
from hrda_core.errors import BackendError
from hrda_core.inference.backends.onnx_backend import OnnxBackend
try:
    OnnxBackend(Path({str(tmp_path / "graph.onnx")!r}))
except BackendError as error:
    print(error)
"""
    done = in_jammy(jammy, "-c", code, PYTHONPATH=f"{jammy / 'old'}:{jammy / 'packages'}")
    assert "onnxruntime 1.16.3 is too old" in done.stdout, done.stderr
    assert "(operator set 20, IR version 9): 1.17 is the first release that reads it" in done.stdout
