"""Published wheels that the proofs without a GPU need: fetched once, checked by sha256, unpacked to stay.

The folder is `$HRDA_WHEELS`, else `share/hrda_wheels` inside the virtual environment. Nothing is installed: each wheel
lies in a folder of its own, and child processes put that folder on their path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BINDINGS", "CUDA_PATHFINDER", "CUDA_PYTHON", "RTX", "RTX_BINDINGS", "UnavailableError", "Wheel", "unpacked"]

DOWNLOAD_TIMEOUT_S = 120


class UnavailableError(Exception):
    """What a proof needs cannot be had on this machine; the text says why. Tests skip with it, they never pass."""


@dataclass(frozen=True)
class Wheel:
    """One file of a package index.

    Attributes:
        package, version: what pip is asked for; one file only fits Python 3.11 on x86-64 Linux.
        sha256: of that file.
        suffixes: of the files to unpack; wheels of bindings carry their sources too.
    """

    package: str
    version: str
    sha256: str
    suffixes: tuple[str, ...] = (".py", ".so")


BINDINGS = {
    wheel.version: wheel
    for wheel in (
        Wheel("tensorrt-bindings", "8.6.1", "705cfab5c60f0bed7d939559d880165a761bd9ac0f4203004948a760eef99838"),
        Wheel("tensorrt-cu12-bindings", "10.3.0", "59ace22d7f2ca1e9dcde2cb0cb5916912cb3cd5a9d72dd7852be0160d9b3a0ee"),
        Wheel(
            "tensorrt-cu12-bindings", "10.16.1.11", "150ef2b672487e29a8ea916353467c3e199994fb33589167e3641a928e243aa7"
        ),
        Wheel(
            "tensorrt-cu13-bindings", "11.4.0.106", "d072ac2a095e2be749fefc847adfb25d5ebe70303401df62ede8fe67a59f27fc"
        ),
    )
}
"""Python bindings of TensorRT by version: JetPack 5 (8.5, of which there is no wheel) to 7, and what servers have."""

RTX_BINDINGS = BINDINGS["11.4.0.106"]
RTX = Wheel(
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "0.5.0",
    "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298",
    suffixes=("libtensorrt_rtx.so.1.7.1", "libtensorrt_onnxparser_rtx.so.1.7.1"),
)
"""TensorRT-RTX 1.7.1, builder and ONNX parser. `RTX_BINDINGS` fit it by a coincidence: change both or none."""

CUDA_PATHFINDER = Wheel("cuda-pathfinder", "1.9.1", "b743c132f90ad2d1e71d43fd28f31ebcde518f943e50fd44aca62b2a80d5230d")
CUDA_PYTHON = {
    wheel.version: wheel
    for wheel in (
        Wheel("cuda-python", "12.2.0", "d2956a364c90dc3365c0efc96300eacdf4a724b199de1107271aa1e2489ed1ab"),
        Wheel("cuda-bindings", "12.9.0", "f543acf44f1d119c148c49937810451541a8618b054cc779fb1fa21ab46da64c"),
        Wheel("cuda-bindings", "13.5.0", "08b7e8d674c3266facb00453a7e34ea7d3ea965c2f594bb728f269f45f39fbe2"),
    )
}
"""cuda-python by version: the old layout (`cuda.cudart`) and the present one (`cuda.bindings.runtime`)."""


def unpacked(wheel: Wheel) -> Path:
    """Folder with the content of a wheel; fetched and unpacked at the first call.

    Raises:
        UnavailableError: another platform or Python, no pip, no network, or no room.
        ValueError: the index gave other bytes than the pinned ones.
    """
    _check_platform()
    folder = _cache() / f"{wheel.package}-{wheel.version}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.parent):
            if not folder.is_dir():
                _fetch(wheel, folder)
    except OSError as error:
        raise UnavailableError(
            f"cannot keep wheels in '{folder.parent}' ({error}); name a folder by HRDA_WHEELS"
        ) from error
    return folder


def _cache() -> Path:
    chosen = os.environ.get("HRDA_WHEELS")
    if chosen:
        return Path(chosen).absolute()
    if sys.prefix == sys.base_prefix:
        return Path.home() / ".cache" / "hrda_wheels"
    return Path(sys.prefix) / "share" / "hrda_wheels"


def _check_platform() -> None:
    found = (platform.system(), platform.machine(), sys.version_info[:2])
    if found != ("Linux", "x86_64", (3, 11)):
        raise UnavailableError(
            f"the pinned wheels are for Python 3.11 on x86-64 Linux; this is Python {found[2]} on {found[1]} {found[0]}"
        )


def _fetch(wheel: Wheel, folder: Path) -> None:
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        file = _download(wheel, part / "wheel")
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(wheel.suffixes)]
            archive.extractall(part / "content", names)
        (part / "content").rename(folder)  # last: a folder of this name is always whole
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(wheel: Wheel, folder: Path) -> Path:
    asked = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"fetching {asked} took more than {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise UnavailableError(f"pip cannot fetch {asked} ({(errors or ['no output'])[-1]})")
    (file,) = folder.glob("*.whl")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ValueError(f"{file.name} has sha256 {found}, expected {wheel.sha256}; nothing of it was used")
    return file


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two test runs with one folder: the second waits and finds the wheel there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
