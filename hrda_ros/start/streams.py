"""Standard input, output and error: they are open, and one that cannot be written to ends nothing.

A program that starts without them, as some service managers do it, gives their numbers to the next files that it opens:
lines of the log would then go into a socket or a picture.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from contextlib import suppress

__all__ = ["open_streams", "tell", "wait_for_no_reader"]

_LONGEST_SEND = struct.pack("ll", 0, 50_000)
"""What a line may take that goes into a socket: seconds and microseconds, a `timeval` of the system."""


def open_streams() -> None:
    """Open those streams of the process that are closed, on the null device."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the smallest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def wait_for_no_reader() -> None:
    """Let what is printed into a full pipe, terminal or socket be lost. Otherwise the first line of the log that nobody
    reads would stop a node for ever, since the executor and the worker write it: a terminal is full behind an ssh whose
    network is gone, or after Ctrl-S, and a socket is where systemd's journal stands still.

    A pipe or terminal is opened anew, since a flag of the open one would count for other processes that print into it.
    A socket cannot be; it waits a moment, for the others too.
    """
    for number in (1, 2):
        with suppress(OSError):
            kind = os.fstat(number).st_mode
            if stat.S_ISFIFO(kind) or os.isatty(number):
                anew = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                os.dup2(anew, number)
                os.close(anew)
            elif stat.S_ISSOCK(kind):
                with socket.socket(fileno=os.dup(number)) as outgoing:
                    outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _LONGEST_SEND)


def tell(line: str) -> None:
    """Print a line to standard error, where that can be written to."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr)
