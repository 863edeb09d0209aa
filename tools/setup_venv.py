"""Set up a virtual environment of the project when it is missing or out of date, then run a command in it.

    python3 tools/setup_venv.py demo -- python demo/run_demo.py     lean runtime, no torch: .venv-demo
    python3 tools/setup_venv.py test -- pytest                      everything: .venv

Any Python from 3.8 on runs this file; an environment is made with the interpreter that the variable PYTHON names, else
with the first of `PYTHONS` that is found. A finished set-up leaves a stamp with a hash of what it was made from; it is
written last, so an interrupted set-up goes on where it stopped. Exit status: the command's, 2 for a missing
prerequisite, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STAMP = "hrda_ros_setup.stamp"
LOG = "hrda_ros_setup.log"

PYTHONS = ("3.11", "3.12", "3.13", "3.10", "3.14")
"""Versions that all packages have wheels for, in the order in which they are taken. CI runs every test on the first and
the demo on all but the last, which nobody here has run yet; 3.10 has older pins of its own."""

FOREIGN_VARIABLES = (
    # Python's own search paths.
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    # A sourced ROS distribution: its libraries and messages must not mix with the wheels.
    "AMENT_CURRENT_PREFIX",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "LD_LIBRARY_PATH",
    "RMW_IMPLEMENTATION",
    "ROS_DISTRO",
    "ROS_PYTHON_VERSION",
    "ROS_VERSION",
    # The wheels' start-up guard, inherited from a Python of another environment.
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)

WHICH_PYTHON = """
import sys
version = '%d.%d' % sys.version_info[:2]
inside = sys.prefix != sys.base_prefix
print(version)
print(sys.base_prefix + '/bin/python' + version if inside else sys.executable)
print(sys.base_prefix)
"""
"""What an interpreter is asked: the fields of `Interpreter`."""


@dataclass(frozen=True)
class Interpreter:
    """A Python outside of any virtual environment: version "3.12", the program, and where it is installed."""

    version: str
    program: str
    prefix: str

    def __str__(self) -> str:
        return f"Python {self.version} ({self.program})"


@dataclass(frozen=True)
class Profile:
    """One environment: its folder, what goes in, and what that costs."""

    folder: str
    extras: str
    needs_gb: float
    estimate: str
    imports: str


PROFILES = {
    "demo": Profile(".venv-demo", "runtime,ros,bag", 1.5, "0.6 GB, 1 to 2 minutes", "rclpy, cv2, onnxruntime, rosbags"),
    "test": Profile(
        ".venv",
        "runtime,ros,bag,video,train,openvino,fleet,test",
        9.7,
        "6.7 GB, 3 to 6 minutes",
        "rclpy, cv2, onnxruntime, rosbags, torch, torchvision, timm, pytest, hypothesis",
    ),
}


class SetupError(Exception):
    """Something that the set-up needs is missing; the text is one sentence that says what to do."""


def main(argv: list[str] | None = None) -> int:
    """Check, set up, and replace this process by the command."""
    parser = argparse.ArgumentParser(
        description="Set up an environment of hrda_ros and run a command in it.",
        epilog=f"A new environment gets the Python that PYTHON names, else the first found of {', '.join(PYTHONS)}.",
    )
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --: the command and its arguments")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        venv = ensure(PROFILES[arguments.profile], ROOT)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    command = [word for word in arguments.command[:1] if word != "--"] + arguments.command[1:]
    return run(command, venv) if command else 0


def ensure(profile: Profile, root: Path) -> Path:
    """The environment of `profile` under `root`, made or brought up to date if need be."""
    tell_about_ros_distribution()
    venv = root / profile.folder
    key = content_key(profile, root)
    wanted = named_python()
    if is_ready(venv, key, wanted):
        return venv
    check_platform()
    with only_one_at_a_time(root):
        if not is_ready(venv, key, wanted):
            set_up(profile, root, venv, wanted)
            (venv / STAMP).write_text(key + "\n", encoding="utf-8")
    return venv


def content_key(profile: Profile, root: Path) -> str:
    """Hash of what an environment is made from: the requirements, the pins, and where it stands (it cannot move)."""
    digest = hashlib.sha256(f"{profile.extras}\n{root / profile.folder}\n".encode())
    for name in ("setup.py", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def is_ready(venv: Path, key: str, wanted: Interpreter | None) -> bool:
    """Whether the last set-up ended well and was made from the same requirements, with the Python that is wanted."""
    stamp, python = venv / STAMP, venv / "bin" / "python"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8").strip() != key or not python.exists():
        return False
    return wanted is None or same_python(ask(str(python)), wanted)


def set_up(profile: Profile, root: Path, venv: Path, wanted: Interpreter | None) -> None:
    """Create the environment and install into it; each step is skipped by pip where it was done before."""
    started = time.monotonic()
    (venv / STAMP).unlink(missing_ok=True)
    made_with = usable(venv)
    if made_with is None or not (wanted is None or same_python(made_with, wanted)):
        python = wanted or find_python()
        check_venv_module(python)
        check_disk(root, profile.needs_gb)
        if made_with is not None:
            print(f"{profile.folder} is of {made_with}, PYTHON names {python}: it is made anew", flush=True)
        print(f"[1/3] creating {profile.folder} with {python} (a few seconds)", flush=True)
        create_venv(python, venv)
    print(
        f"[2/3] installing {profile.extras.replace(',', ', ')} into {profile.folder} ({profile.estimate})", flush=True
    )
    install(profile, root, venv)
    print("[3/3] trying the imports", flush=True)
    check_imports(profile, venv)
    print(f"{profile.folder} is ready after {time.monotonic() - started:.0f} s", flush=True)


def check_platform() -> None:
    """The ROS wheels are built for x86-64 Linux with glibc 2.28 or newer."""
    advice = "on this machine install a ROS 2 distribution and use 'colcon build' and 'ros2 launch' (see README.md)"
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine != "x86_64":
        raise SetupError(f"the ROS wheels exist for x86-64 Linux only, and this is {system} on {machine}; {advice}")
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < (2, 28):
        found = f"{libc} {version}".strip() or "another C library"
        raise SetupError(f"the ROS wheels need glibc 2.28 or newer, and this system has {found}; {advice}")


def named_python() -> Interpreter | None:
    """The interpreter that the variable PYTHON names; None where it is not set."""
    name = os.environ.get("PYTHON")
    if not name:
        return None
    found = ask(name)
    if found is None:
        raise SetupError(f"PYTHON={name} is no Python that runs; name one of {listed(PYTHONS)}, or leave PYTHON out")
    if found.version not in PYTHONS:
        raise SetupError(
            f"PYTHON={name} is Python {found.version}, and the wheels exist for {listed(PYTHONS)}; name one of these, "
            f"or leave PYTHON out"
        )
    return found


def find_python() -> Interpreter:
    """The first of `PYTHONS` that there is."""
    found = found_pythons()
    fit = [python for version in PYTHONS for python in found if python.version == version]
    if fit:
        # Debian keeps `venv` in a package of its own; where nobody has it, the first is named in the complaint.
        return next((python for python in fit if has_venv(python)), fit[0])
    seen = ", ".join(sorted({python.version for python in found})) or "none"
    raise SetupError(
        f"Python {listed(PYTHONS)} is needed, and the versions found are: {seen}; install one (Debian, Ubuntu: sudo "
        f"apt install python3 python3-venv; elsewhere: pyenv install 3.12) or name it by PYTHON=/path/to/it"
    )


def found_pythons() -> list[Interpreter]:
    """All that are found: the running one, on the PATH, in pyenv."""
    names = [sys.executable, "python3", *(f"python{version}" for version in PYTHONS)]
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    answers = [ask(name) for name in [*names, *map(str, pyenv)]]
    return [python for python in answers if python is not None]


def ask(python: str) -> Interpreter | None:
    """Which interpreter stands behind a program, which may be of a virtual environment; None = it does not run."""
    lines = (capture([python, "-c", WHICH_PYTHON]) or "").splitlines()
    return Interpreter(*lines) if len(lines) == 3 else None


def same_python(one: Interpreter | None, other: Interpreter) -> bool:
    """Whether two are the same installation, by whatever name it was called."""
    if one is None or one.version != other.version:
        return False
    return Path(one.prefix).resolve() == Path(other.prefix).resolve()


def listed(versions: tuple[str, ...]) -> str:
    """The versions in ascending order, for a sentence."""
    *first, last = sorted(versions)
    return f"{', '.join(first)} or {last}"


def has_venv(python: Interpreter) -> bool:
    """Whether an environment with pip can be made."""
    return capture([python.program, "-c", "import venv, ensurepip, ssl; print('ok')"]) is not None


def check_venv_module(python: Interpreter) -> None:
    """Debian keeps `venv` and `ensurepip` in a package of their own."""
    if not has_venv(python):
        raise SetupError(
            f"{python.program} lacks the module venv, ensurepip or ssl; install them (Debian, Ubuntu: sudo apt install "
            f"python{python.version}-venv) and run the same command again"
        )


def check_disk(folder: Path, needs_gb: float) -> None:
    """Refuse before the download rather than in the middle of it."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < needs_gb:
        raise SetupError(
            f"{folder} has {free_gb:.1f} GB free and the set-up needs {needs_gb:g} GB; make room and run the same "
            f"command again"
        )


def usable(venv: Path) -> Interpreter | None:
    """The Python of an environment that has pip, complete or not in its packages, and was made at this place."""
    pip = venv / "bin" / "pip"
    # Programs of an environment name its path, so in one that was moved or copied they run the wrong Python.
    if not pip.is_file() or str(venv) not in pip.read_text(encoding="utf-8", errors="replace"):
        return None
    python = str(venv / "bin" / "python")
    found = ask(python) if capture([python, "-c", "import pip"]) is not None else None
    return found if found is not None and found.version in PYTHONS else None


def create_venv(python: Interpreter, venv: Path) -> None:
    """A fresh environment; what an interrupted attempt left behind goes away."""
    done = subprocess.run(
        [python.program, "-m", "venv", "--clear", str(venv)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"'{python.program} -m venv' failed: {last_line(done.stdout)}")


def install(profile: Profile, root: Path, venv: Path) -> None:
    """pip install the package, editable, with its extras and the pinned versions; the output goes to a log."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "-c", "constraints.txt", "-e", f".[{profile.extras}]"]
    log = venv / LOG
    status = run_with_progress(command, root, log)
    if status != 0:
        raise SetupError(explain(log.read_text(encoding="utf-8", errors="replace"), log))


def run_with_progress(command: list[str], cwd: Path, log: Path) -> int:
    """Run pip, keep its output in `log`, and say every few seconds what it is at."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    current = ["starting"]
    reader = threading.Thread(target=follow, args=(process.stdout, log, current), daemon=True)
    reader.start()
    terminal = sys.stdout.isatty()
    started, pause_s = time.monotonic(), 0.5 if terminal else 15.0
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(timeout=pause_s)
                break
            text = f"      {time.monotonic() - started:3.0f} s: {current[0]}"[:100]
            print(f"\r{text:<100}" if terminal else text, end="" if terminal else "\n", flush=True)
    finally:
        # An interrupt reaches pip as well when it came from the keyboard, not when it was sent to this process alone.
        process.terminate()
        process.wait()
        if terminal:
            print(f"\r{'':<100}\r", end="", flush=True)
    reader.join()
    return status


def follow(lines: IO[str], log: Path, current: list[str]) -> None:
    """Copy pip's output to the log and keep the last line that tells a person where it is."""
    with lines, open(log, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            file.flush()
            step = re.match(r"\s*(Collecting|Downloading|Using cached|Building|Installing)\s+(\S+)", line)
            if step:
                name = step.group(2).rsplit("/", 1)[-1]
                current[0] = f"{step.group(1).lower()} {name}"
            if line.startswith("Installing collected packages"):
                current[0] = f"unpacking {line.count(',') + 1} packages"


def explain(output: str, log: Path) -> str:
    """One sentence for what made pip fail."""
    if "No space left on device" in output:
        return "the disk is full; make room and run the same command again (it goes on where it stopped)"
    if re.search(r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError", output):
        return (
            "the package index cannot be reached; check the network (proxy: HTTPS_PROXY, mirror: PIP_INDEX_URL) and "
            "run the same command again (it goes on where it stopped)"
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    reason = errors[-1][len("ERROR:") :].strip() if errors else last_line(output)
    return f"pip failed ({reason}); the whole output is in {log}; run the same command again to go on"


def check_imports(profile: Profile, venv: Path) -> None:
    """Finds packages that an interrupted install left half-written."""
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-c", f"import {profile.imports}"],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(
            f"a package in {venv.name} does not import ({last_line(done.stdout)}); remove the folder {venv.name} and "
            f"run the same command again"
        )


def tell_about_ros_distribution() -> None:
    """Say that a sourced ROS distribution is left alone, and what to use if that is not wanted."""
    distribution = os.environ.get("ROS_DISTRO") or ("unnamed" if os.environ.get("AMENT_PREFIX_PATH") else "")
    if distribution:
        print(
            f"note: ROS '{distribution}' is sourced here; this command leaves it alone and uses its own ROS wheels in "
            f"a cleaned environment. With your ROS: colcon build, then ros2 launch hrda_ros segment.launch.py",
            flush=True,
        )


def clean_environment(venv: Path | None = None) -> dict[str, str]:
    """This process's environment without what a ROS distribution or another Python put there; `venv` goes first."""
    values = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    path = [
        entry
        for entry in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if not any(Path(entry) == Path(prefix, "bin") for prefix in prefixes)
    ]
    if venv is not None:
        path.insert(0, str(venv / "bin"))
        values["VIRTUAL_ENV"] = str(venv)
    values["PATH"] = os.pathsep.join(path)
    return values


def run(command: list[str], venv: Path) -> int:
    """Become the command, so that Ctrl-C and signals reach it directly; returns only if there is no such program."""
    environment = clean_environment(venv)
    program = shutil.which(command[0], path=environment["PATH"])
    if program is not None:
        sys.stdout.flush()
        os.execve(program, command, environment)
    print(f"error: the program '{command[0]}' is not in {venv.name} and not on the PATH", file=sys.stderr)
    return 2


@contextlib.contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Two `make` in the same tree: the second waits for the first."""
    import fcntl  # not on Windows, where the platform check has given its advice by now

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another set-up in this folder to end", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a network folder without locks: go on without
        yield
    finally:
        os.close(descriptor)


def capture(command: list[str]) -> str | None:
    """Standard output of a short command; None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
