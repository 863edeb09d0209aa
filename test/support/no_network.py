"""Forbids this process to reach another machine (F12): a tripwire that lies under all tests."""

from __future__ import annotations

import socket
import sys
from typing import Any

_HERE = {"", "localhost", "0.0.0.0", "::", "::1", "ip6-localhost"}


class ReachedOutError(BaseException):
    """A test, or what it tests, has asked for another machine. No `except Exception` swallows it."""


ATTEMPTS: list[str] = []
"""What was asked for. The session fails if it is not empty, whatever became of the error."""

_state = {"laid": False, "forbidden": False}


def is_here(host: object) -> bool:
    """Whether a host name or address is this machine."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    return name in _HERE or name.startswith(("127.", "::ffff:127.")) or name == socket.gethostname()


def _host_of(event: str, arguments: tuple[Any, ...]) -> object:
    """The host that an audit event asks for; the empty name where there is none."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]  # (host, port, ...) of the internet; a path of a Unix socket
        return address[0] if isinstance(address, tuple) else ""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return arguments[0]
    return ""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not (_state["forbidden"] and event.startswith("socket.")):
        return
    host = _host_of(event, arguments)
    if not is_here(host):
        ATTEMPTS.append(f"{event} {host!r}")
        raise ReachedOutError(f"{event} to {host!r}: no test and no command may reach another machine")


def forbid_other_machines(forbidden: bool = True) -> None:
    """Lay the tripwire, or take it up again. It sees all connections that Python opens in this process."""
    if not _state["laid"]:
        sys.addaudithook(_watch)
        _state["laid"] = True
    _state["forbidden"] = forbidden
