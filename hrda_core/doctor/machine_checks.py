"""Checks of the machine: folders that are written to, devices that are read, free disk, and the clock."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from hrda_core.findings import Finding, fail, ok, warn
from hrda_core.inference.model_folders import models_home
from hrda_core.whole_files import cache_folder

__all__ = ["check_clock", "check_devices", "check_disk", "check_folders", "check_link"]

_ROOM, _ANY_ROOM = 2 << 30, 200 << 20
_DEVICES = ("nvmap", "nvhost-gpu", "nvidiactl", "nvidia0", "dri/renderD128", "video0")
"""What a node or its camera driver opens: a Jetson's memory and GPU, a GPU's driver, the first camera."""

_BUILT_IN = 1_735_689_600.0
"""2025-01-01: before that no clock of this release can be right."""

_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def check_folders() -> list[Finding]:
    """Look whether the folders can be written that hold the cache and the user's models."""
    home = models_home()
    places = [("cache", cache_folder(), "HRDA_CACHE")]
    if home is None:
        missing = warn("models' home", "this user has no home folder for models", "set HRDA_MODELS to a folder")
        return [_writable(*places[0]), missing]
    places.append(("models' home", home, "HRDA_MODELS"))
    return [_writable(*place) for place in places]


def _writable(subject: str, folder: Path, variable: str) -> Finding:
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path("/"))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ok(subject, f"'{folder}' can be written" + ("" if there == folder else " (made when it is needed)"))
    text = f"'{folder}' cannot be written ({'no right to write in' if there.is_dir() else 'not a folder:'} '{there}')"
    return warn(subject, text, f"make it writable, or set {variable} to a folder that is")


def check_link(model: Path) -> Finding | None:
    """Look whether a model that is a link can be moved, as `hrda night` does; None where it is no link."""
    if not model.is_symlink():
        return None
    folder, goal = Path(os.path.abspath(model)).parent, os.readlink(model)
    if not model.exists():
        advice = "let it lead to a bundle again: ln -sfn BUNDLE LINK"
        return fail("link", f"'{model}' leads to '{goal}', which is not there", advice)
    if os.access(folder, os.W_OK | os.X_OK):
        return ok("link", f"'{model}' leads to '{goal}' and can be moved")
    text = f"'{model}' leads to '{goal}' and cannot be moved: '{folder}' cannot be written"
    return warn("link", text, "make that folder writable for the user who runs hrda night")


def check_devices(devices: Path = Path("/dev"), names: Sequence[str] = _DEVICES) -> list[Finding]:
    """Look whether this user may open the cameras and GPUs that are there."""
    findings = []
    for path in (devices / name for name in names):
        if not path.exists() or os.access(path, os.R_OK | os.W_OK):
            continue
        found = path.stat()
        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
        text = f"'{path}' cannot be opened by this user (mode {stat.S_IMODE(found.st_mode):04o}, group {group})"
        advice = f"run 'sudo usermod -aG {group} {_user()}' and log in again (in a container: docker run --group-add)"
        findings.append(warn("device", text, advice))
    return findings


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def check_disk(folders: Sequence[Path] | None = None) -> list[Finding]:
    """Look for free disk where the cache, the user's models and temporary files are; one finding for a disk."""
    home = models_home()
    wanted = folders or [cache_folder(), *([home] if home else []), Path(os.environ.get("TMPDIR") or "/tmp")]
    findings: dict[int, Finding] = {}
    for folder in wanted:
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        free = shutil.disk_usage(there).free
        text = f"{free / (1 << 30):.1f} GiB free for '{folder}'"
        advice = "make room, or let HRDA_CACHE, HRDA_MODELS and TMPDIR name folders on another disk"
        found = ok("disk", text)
        if free < _ROOM:
            found = fail("disk", text, advice) if free < _ANY_ROOM else warn("disk", text, advice)
        findings.setdefault(os.stat(there).st_dev, found)
    return list(findings.values())


def check_clock(now: float | None = None, synchronised: bool | None = None) -> Finding:
    """Look whether the clock can be right, and whether the kernel says that it is kept in step with others.

    Args:
        now: seconds since 1970; None = ask.
        synchronised: whether it is kept in step; None = ask the kernel.
    """
    now = time.time() if now is None else now
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _BUILT_IN:
        text = f"it says {told}: images of other machines will be too old or of the future"
        return fail("clock", text, "set it (sudo date -s ...), and let chrony or systemd-timesyncd keep it")
    if _synchronised() if synchronised is None else synchronised:
        return ok("clock", f"{told}, kept in step with others")
    text = f"{told}, and nothing keeps it in step: the ages of other machines' images can be wrong"
    return warn("clock", text, "run chrony or systemd-timesyncd, unless every camera is on this machine")


def _synchronised() -> bool:
    """Ask the kernel, which chrony, ntpd and systemd-timesyncd tell; without an answer nothing is wrong."""
    call = getattr(ctypes.CDLL(None), "adjtimex", None)
    if call is None:
        return True
    no_change = ctypes.create_string_buffer(512)  # struct timex of all zeros; 208 bytes on 64-bit Linux
    return bool(call(no_change) != _NOT_SYNCHRONISED)
