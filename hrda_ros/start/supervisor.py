"""What systemd hears of a node that it runs as `Type=notify`: ready, alive, ends; elsewhere nothing. Needs no rclpy.

A unit with `WatchdogSec=` is restarted when it has not said that it is alive for so long. So a node whose executor
hangs says nothing, and one whose back end hangs says how it is, but not that it is alive. See sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

__all__ = ["Supervisor"]

_ALIVE = "WATCHDOG=1"
_PERIOD_S = 1.0
"""As often as diagnostics are published."""


class Supervisor:
    """The socket of the service manager that started this process.

    Args:
        environment: variables of the process, of which NOTIFY_SOCKET names the socket; None = its own.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        name = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # @ = without a file

    def ready(self) -> None:
        """Say that the node runs; what is ordered behind it may start."""
        self._say("READY=1")

    def ends(self) -> None:
        """Say that the node ends."""
        self._say("STOPPING=1")

    def look(self, status: str, hangs: bool) -> None:
        """Say how the node is, once a second, and that it is alive unless it hangs.

        Args:
            status: one line, which `systemctl status` shows.
            hangs: the back end does not come back.
        """
        told = "STATUS=" + " ".join(status.split())
        self._say(told if hangs else f"{told}\n{_ALIVE}")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Say in a thread that the node is alive, while the executor loads a model, which may take minutes."""
        done = threading.Event()
        if not self._address:
            yield
            return
        thread = threading.Thread(target=self._go_on, args=(done,), name="supervisor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _go_on(self, done: threading.Event) -> None:
        while not done.wait(_PERIOD_S):
            self._say(_ALIVE)

    def _say(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as outgoing:
            outgoing.setblocking(False)  # a service manager that does not read must not stop a node
            outgoing.sendto(text.encode(errors="replace"), self._address)
