"""Locks down a process that opens untrusted bytes: no programs, no connections, no other files."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

__all__ = ["lock"]

_FORBIDDEN_EVENTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "os.remove",
    "os.rename", "os.rmdir", "os.chmod", "os.putenv", "pty.spawn", "shutil.", "socket.connect", "socket.bind",
    "subprocess.Popen", "ctypes.dlopen", "urllib.Request", "webbrowser.open",
)  # fmt: skip


def lock() -> None:
    """Keep this process from starting programs, connecting, and opening files for writing through Python.

    An attempt raises PermissionError. The lock cannot be undone.
    """
    sys.dont_write_bytecode = True
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, mode, flags = arguments
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (mode is None and flags & writing):
                _stop(event)
        elif event.startswith(_FORBIDDEN_EVENTS):
            _stop(event)

    sys.addaudithook(watch)


def _stop(event: str) -> NoReturn:
    raise PermissionError(f"the file tried '{event}'")
