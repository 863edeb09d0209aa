"""Standard streams that were closed, whose reader is gone, or that lie on a full disk: `hrda models | head -1`."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TextIO

__all__ = ["INTERRUPTED", "NO_READER", "is_of_streams", "with_streams"]

NO_READER = 128 + signal.SIGPIPE
"""Exit status of a command whose output nobody reads any more: what a shell says of programs that end by SIGPIPE."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a command that Ctrl-C has ended."""

_GONE = errno.EPIPE, errno.EIO, errno.ECONNRESET
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
    errno.EFBIG: "the largest size of a file is reached, see 'ulimit -f'",
}


def with_streams(command: Callable[[], int | None], name: str = "hrda") -> int:
    """Run a command, write all that it prints, and return its exit status.

    A reader that is gone ends it with `NO_READER` and without a word; output that the disk has no room for with 2 and
    a sentence; Ctrl-C that the command leaves to others with `INTERRUPTED` and a word. Output into a closed stream is
    dropped.

    Args:
        command: what returns the exit status; None = 0.
        name: begin of what it says.
    """
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is no text ends no command
    ended: SystemExit | None = None
    try:
        try:
            status = command() or 0
        except SystemExit as end:  # `--help` ends so
            ended, status = end, 0
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            status = INTERRUPTED
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        if error.filename is not None or not (error.errno in _FULL or (error.errno in _GONE and any(_gone()))):
            raise
        return _give_up(error, name)
    if ended is not None:
        raise ended
    return status


def is_of_streams(error: OSError) -> bool:
    """Return whether an error is of printing, and not of the files that are written meanwhile."""
    return error.filename is None and ((error.errno in _GONE and any(_gone())) or _cannot_print())


def _cannot_print() -> bool:
    """Whether nothing more can be printed: an error that names no file is of that then."""
    try:
        if getattr(sys.stdout, "write_through", False):  # as of PYTHONUNBUFFERED: what failed is not kept to be tried
            sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _open_closed() -> None:
    """Open what was closed as /dev/null: the next file would get its number, and what a library prints its content."""
    for number in (0, 1, 2):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(opened, True)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _gone() -> Iterator[bool]:
    """Of each output stream, whether its reader is gone."""
    for number in (1, 2):
        waiting = select.poll()
        waiting.register(number, 0)
        yield any(events & (select.POLLERR | select.POLLHUP) for _, events in waiting.poll(0))


def _give_up(error: OSError, name: str) -> int:
    for stream in (sys.stdout, sys.stderr):
        _drop_unwritten(stream)
    if error.errno in _GONE:
        return NO_READER
    found = _FULL.get(error.errno or 0, "")
    reason = f"what it prints cannot be written ({found}); make room, or send its output to another place"
    with suppress(OSError):
        print(f"{name}: error: {reason}", file=sys.stderr, flush=True)
    _drop_unwritten(sys.stderr)
    return 2


def _drop_unwritten(stream: TextIO) -> None:
    """Let what could not be written vanish, which Python would try again, and complain of, at the end."""
    try:
        stream.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()
