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

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which PYTHONSAFEPATH leaves out

from interpreters import (
    PYTHONS,
    Interpreter,
    SetupError,
    ask,
    capture,
    check_venv_module,
    clean_environment,
    find_python,
    named_python,
    same_python,
)

ROOT = Path(__file__).resolve().parent.parent
STAMP = "hrda_ros_setup.stamp"
LOG = "hrda_ros_setup.log"


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


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
