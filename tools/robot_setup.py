"""Bring what a robot needs beside its ROS 2 distribution: ONNX Runtime, and the libraries of the `hrda` command.

    source /opt/ros/jazzy/setup.bash
    tools/robot_setup --dry-run    # says what it would do
    tools/robot_setup

ROS, numpy, OpenCV and PyYAML come from the distribution (`rosdep install`) and stay as they are: pip is held to the
series of numpy that the distribution's OpenCV runs with. An ONNX Runtime that is there already is kept, whoever brought
it.

Packages go where the programs that `colcon build` installs find them, since those run by the distribution's own
/usr/bin/python3: for root to the place of all users (/usr/local), else to this user's own (~/.local). Nothing below
/usr/lib is written. In an active virtual environment they go into that, and `python3 -m colcon build` makes programs
that use it.

Needs nothing but the distribution's Python and its pip. Exit code: 0 = ready, 2 = something is missing, in a sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "hrda_lite"

ROSDEP = "rosdep install --from-paths src --ignore-src -y"
FROM_DISTRIBUTION = {"numpy": "python3-numpy", "yaml": "python3-yaml", "cv2": "python3-opencv"}
"""Module -> Debian package, for what `rosdep install` brings."""

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as in hrda_core/__init__.py, for the processes that import it

RUNTIME = {"onnxruntime": "onnxruntime>=1.17,<2"}
VERBS = {
    "rosbags": "rosbags>=0.11.9,<0.12",
    "mcap": "mcap>=1.2,<2",
    "jsonargparse": "jsonargparse>=4.53,<5",
    "docstring_parser": "docstring-parser>=0.17,<1",
    "tqdm": "tqdm>=4.60,<5",
    "PIL": "Pillow>=9,<14",
}
"""Module -> requirement for pip, as in the extras `runtime` and `bag` of setup.py."""

PROBE = """
import contextlib, importlib, io, json, sys
found = {}
for name in sys.argv[1:]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            module = importlib.import_module(name)
        found[name] = ["", str(getattr(module, "__version__", "")), str(getattr(module, "__file__", ""))]
    except ModuleNotFoundError as error:
        found[name] = ["missing" if error.name == name else str(error), "", ""]
    except BaseException as error:
        text = " ".join(str(error).split()) or type(error).__name__
        found[name] = [text + (" _ARRAY_API" if "_ARRAY_API" in said.getvalue() else ""), "", ""]
print(json.dumps(found))
"""

TRY_MODEL = """
import sys
import numpy, cv2, onnxruntime, yaml
from hrda_core.inference import Predictor
predictor = Predictor(sys.argv[1], "onnx")
predictor(numpy.zeros((128, 128, 3), numpy.uint8))
print(f"{predictor.bundle.name} runs: onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}, "
      f"OpenCV {cv2.__version__}, PyYAML {yaml.__version__}")
"""


class SetupError(Exception):
    """Something that the set-up needs is not as it must be; the text is one sentence that says what to do."""


@dataclass(frozen=True)
class Found:
    """One module as this Python sees it.

    Attributes:
        problem: why it does not import; `missing` where it is not there, empty where it imports.
        version, path: of one that imports.
    """

    problem: str
    version: str
    path: str


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        where: for whom packages are installed, in words.
        command: Python, pip and its arguments; empty where nothing is missing.
        notes: lines for the reader.
    """

    where: str
    command: list[str]
    notes: list[str]


def main(argv: list[str] | None = None) -> int:
    """Look, say what will be done, do it, and try the result."""
    parser = argparse.ArgumentParser(
        prog="robot_setup",
        description="Bring ONNX Runtime and the libraries of the 'hrda' command beside a ROS 2 distribution.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and change nothing")
    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of users and folders in any alphabet
    try:
        distribution = sourced_distribution(os.environ)
        found = probe(["rclpy", *FROM_DISTRIBUTION, *RUNTIME, *VERBS])
        check_python(distribution, found)
        plan = make_plan(found)
        tell(distribution, found, plan)
        if arguments.dry_run:
            return 0
        if plan.command:
            install(plan.command)
        print(try_model(), flush=True)
    except SetupError as error:
        print(f"robot_setup: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrobot_setup: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def sourced_distribution(environment: Mapping[str, str]) -> str:
    """Name of the ROS distribution whose setup file was sourced, for example `jazzy`.

    Raises:
        SetupError: none was, or two were.
    """
    prefixes = [Path(entry) for entry in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    # /opt/ros/jazzy; a distribution that was built from source has prefixes of other names, and ROS_DISTRO alone.
    names = {prefix.name for prefix in prefixes if prefix.parent.name == "ros"}
    if environment.get("ROS_DISTRO"):
        names.add(environment["ROS_DISTRO"])
    if not prefixes or not names:
        raise SetupError(f"no ROS distribution is sourced in this shell; {advice_to_source()}")
    if len(names) > 1:
        raise SetupError(
            f"{len(names)} ROS distributions are sourced in this shell ({', '.join(sorted(names))}), and their "
            f"libraries do not mix; open a new shell, source one of them (look into ~/.bashrc too) and run this again"
        )
    return names.pop()


def advice_to_source() -> str:
    """What to type, with the distributions that are installed here."""
    installed = sorted(path.parent.name for path in Path("/opt/ros").glob("*/setup.bash"))
    choice = installed[-1] if installed else "DISTRO"
    others = f" (installed here: {', '.join(installed)})" if installed else " (none is installed below /opt/ros)"
    return f"run 'source /opt/ros/{choice}/setup.bash'{others} and run this again"


def check_python(distribution: str, found: Mapping[str, Found]) -> None:
    """The distribution's own Python must run this, since the node will run by it.

    Raises:
        SetupError: rclpy does not import here, for another reason than a numpy that is mended below.
    """
    problem = found["rclpy"].problem
    if problem and not wants_other_numpy(found["cv2"]):
        raise SetupError(
            f"this Python {platform.python_version()} ({sys.executable}) does not import rclpy of ROS 2 {distribution} "
            f"({problem}), so the node could not run by it; leave the environment of another Python (unset PYTHON), or "
            f"repair the distribution: sudo apt install ros-{distribution}-rclpy"
        )


def wants_other_numpy(opencv: Found) -> bool:
    """Whether OpenCV is there and does not import because it was built for another numpy."""
    return "_ARRAY_API" in opencv.problem or "numpy" in opencv.problem


def probe(modules: list[str]) -> dict[str, Found]:
    """Import each module in a fresh process of this Python and see what comes of it."""
    done = run([sys.executable, "-c", PROBE, *modules])
    if done.returncode != 0:
        raise SetupError(
            f"trying the imports of {', '.join(modules)} ended with exit code {done.returncode} ({last_line(done)}); "
            f"import them one by one with {sys.executable} to see which"
        )
    return {name: Found(*values) for name, values in json.loads(done.stdout.splitlines()[-1]).items()}


def make_plan(found: Mapping[str, Found]) -> Plan:
    """Decide what pip shall bring and where to.

    Raises:
        SetupError: the distribution's own libraries are not there or broken, an ONNX Runtime is there and broken, or
            packages cannot be written.
    """
    check_distribution(found)
    opencv_broken = bool(found["cv2"].problem)
    runtime = found["onnxruntime"]
    notes = []
    if opencv_broken:
        notes.append("OpenCV does not import beside the numpy that hides the distribution's; its own series comes back")
    if not runtime.problem:
        notes.append(f"onnxruntime {runtime.version} is there and stays: {Path(runtime.path).parent}")
    elif runtime.problem != "missing" and not opencv_broken:
        raise SetupError(
            f"an ONNX Runtime is installed and does not import ({runtime.problem}); it is not overwritten: repair it, "
            f"or remove it ('{sys.executable} -m pip uninstall onnxruntime onnxruntime-gpu') and run this again"
        )
    requirements = list(RUNTIME.values()) if runtime.problem == "missing" else []
    requirements += [requirement for module, requirement in VERBS.items() if found[module].problem]
    if not requirements and not opencv_broken:
        return Plan("", [], notes + machine_notes())
    where, options = target()
    held = held_numpy("" if opencv_broken else found["numpy"].version)
    command = [sys.executable, "-m", "pip", "install", *options, held, *requirements]
    return Plan(where, command, notes + machine_notes())


def check_distribution(found: Mapping[str, Found]) -> None:
    """What rosdep brings must be there; OpenCV beside a numpy of another binary interface can be mended.

    Raises:
        SetupError: something is missing, or broken otherwise.
    """
    for module, package in FROM_DISTRIBUTION.items():
        problem = found[module].problem
        if problem == "missing":
            raise SetupError(
                f"the Python module '{module}' is missing, and it comes with the distribution; run '{ROSDEP}' in the "
                f"workspace, or 'sudo apt install {package}', and run this again"
            )
        if problem and not (module == "cv2" and wants_other_numpy(found[module])):
            raise SetupError(f"the Python module '{module}' does not import ({problem}); repair {package} first")


def held_numpy(version: str) -> str:
    """Requirement that holds pip to one series of numpy, whose releases have the same interface, binary and in Python.

    Args:
        version: numpy that OpenCV imports with; empty = it does not import with the one that is there.
    """
    if not version:
        versions = [entry.version for entry in distributions(name="numpy")]
        if len(versions) < 2:
            return "numpy>=1.21,<2"  # OpenCV asked for the binary interface of numpy 1
        version = versions[-1]  # the distribution's own comes last on Python's path, hidden by the first
    major, minor, patch = [*re.findall(r"\d+", version), "0", "0"][:3]
    return f"numpy>={major}.{minor}.{patch},<{major}.{int(minor) + 1}"


def target() -> tuple[str, list[str]]:
    """(where packages go, in words; options of pip for it).

    Raises:
        SetupError: that place cannot be written, or Python does not look there.
    """
    everybody = Path(sysconfig.get_path("purelib"))
    if sys.prefix != sys.base_prefix:
        check_writable(everybody, "choose an environment that you may change")
        return f"into the virtual environment {sys.prefix} (build with 'python3 -m colcon build' in it)", []
    options = ["--no-warn-script-location"]  # nothing here is run by its name
    options += ["--break-system-packages"] if externally_managed() else []
    if os.geteuid() == 0:
        check_writable(everybody, "mount it for writing, or build the image with these packages in it")
        return f"for all users ({everybody})", options
    if not site.ENABLE_USER_SITE:
        raise SetupError(
            "Python does not look at this user's own packages here; unset PYTHONNOUSERSITE, or run as root"
        )
    own = Path(site.getusersitepackages())
    check_writable(own, "set PYTHONUSERBASE to a folder that can, here and where the node starts, or run as root")
    return f"for this user alone ({own})", ["--user", *options]


def externally_managed() -> bool:
    """Whether the distribution asks pip to keep out (PEP 668), as Ubuntu does from 24.04 on.

    What that protects is files of the system. They stay: pip writes beside them, and numpy is held.
    """
    return Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file()


def check_writable(folder: Path, advice: str) -> None:
    """Refuse before pip does, in the middle of its work.

    Raises:
        SetupError: neither the folder nor what it would be made in can be written.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # False also where it may not look
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SetupError(
            f"packages would go to {folder}, and {there} cannot be written ({error.strerror}); {advice}"
        ) from error


def machine_notes() -> list[str]:
    """What a user of this machine should know about its GPU."""
    if platform.machine() != "aarch64":
        return []
    return [
        "aarch64: PyPI has ONNX Runtime for the CPU, but neither onnxruntime-gpu nor TensorRT for a Jetson; TensorRT "
        "comes with JetPack (python3-libnvinfer), see docs/robot/jetson.md"
    ]


def tell(distribution: str, found: Mapping[str, Found], plan: Plan) -> None:
    """Say what is there and what will be done."""
    print(f"ROS 2 {distribution}, Python {platform.python_version()} ({sys.executable}), {platform.machine()}")
    for name, entry in found.items():
        state = entry.version or "there"
        if entry.problem:
            state = "missing" if entry.problem == "missing" else "does not import"
        print(f"  {name:<17} {state}")
    for note in plan.notes:
        print(f"- {note}")
    print(
        f"pip installs {plan.where}:\n  {shlex.join(plan.command)}" if plan.command else "nothing is missing",
        flush=True,
    )


def install(command: list[str]) -> None:
    """Run pip, its output on this terminal.

    Raises:
        SetupError: there is no pip, or it failed.
    """
    if run([command[0], "-m", "pip", "--version"]).returncode != 0:
        raise SetupError(f"{command[0]} has no pip; run 'sudo apt install python3-pip' and run this again")
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if status != 0:
        raise SetupError(
            f"pip ended with exit code {status}, its reason stands above; mend it (proxy: HTTPS_PROXY, mirror: "
            f"PIP_INDEX_URL) and run this again"
        )


def try_model() -> str:
    """Import numpy, OpenCV, ONNX Runtime and PyYAML together and run the shipped model; one line on what runs.

    Raises:
        SetupError: it does not.
    """
    path = os.pathsep.join(entry for entry in (str(ROOT), os.environ.get("PYTHONPATH", "")) if entry)
    done = run([sys.executable, "-c", TRY_MODEL, str(MODEL)], PYTHONPATH=path)
    if done.returncode != 0:
        raise SetupError(f"the shipped model does not run with what is installed now: {last_line(done)}")
    return done.stdout.strip().splitlines()[-1]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A short command, its output caught."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a Python program said last, without the class of its exception."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return re.sub(r"^[\w.]+Error: ", "", lines[-1]) if lines else f"exit code {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
