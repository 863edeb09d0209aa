"""In place of systemd: the socket that a service of `Type=notify` writes to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ServiceManager:
    """Listens at a unix socket.

    Attributes:
        name: value of NOTIFY_SOCKET; with @ in front it is one without a file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def wait_for(self, text: str, timeout_s: float = 60.0) -> list[str]:
        """The messages up to the one with this text.

        Raises:
            TimeoutError: no message has come for so long.
        """
        self._socket.settimeout(timeout_s)
        told = [self._socket.recv(4096).decode()]
        while text not in told[-1]:
            told.append(self._socket.recv(4096).decode())
        return told

    def heard(self) -> list[str]:
        """The messages that wait."""
        self._socket.setblocking(False)
        told = []
        try:
            while True:
                told.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return told

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()


@contextmanager
def service_manager(folder: Path, *, without_file: bool = False) -> Iterator[ServiceManager]:
    """Listen at a socket in a folder, whose path is short enough for one, or at one without a file."""
    path = min(os.path.relpath(folder / "notify"), str(folder / "notify"), key=len)
    manager = ServiceManager(f"@hrda-{os.getpid()}-{folder.name}" if without_file else path)
    try:
        yield manager
    finally:
        manager.close()
