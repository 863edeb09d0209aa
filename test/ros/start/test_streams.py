"""Standard streams that are closed or full."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

WRONG = [sys.executable, "-m", "hrda_ros", "--ros-args", "-p", "overlay_alpha:=3.0"]


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_a_node_whose_streams_are_closed_or_full_ends_as_with_others(ros: object, streams: str) -> None:
    assert subprocess.run(["sh", "-c", f'exec "$@" {streams}', "sh", *WRONG]).returncode == 2


def test_a_pipe_that_nobody_reads_does_not_stop_a_node(ros: object) -> None:
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, b"." * size)
    try:
        assert subprocess.run(WRONG, stdout=writing, stderr=writing, timeout=60).returncode == 2
        assert os.get_blocking(writing), "others print into it too"
    finally:
        os.close(reading)
        os.close(writing)


def fill(number: int) -> None:
    """Write into a terminal or socket until nothing more goes in."""
    os.set_blocking(number, False)
    with suppress(BlockingIOError):
        while True:
            os.write(number, b"." * 64)
    os.set_blocking(number, True)


@pytest.mark.parametrize("ends", [os.openpty, lambda: [end.detach() for end in socket.socketpair()]])
def test_a_terminal_or_socket_that_nobody_reads_does_not_stop_a_node(
    ros: object, ends: Callable[[], Sequence[int]]
) -> None:
    code = (
        "from hrda_ros.start.streams import tell, wait_for_no_reader; wait_for_no_reader(); "
        "[tell('a line of the log') for _ in range(200)]"
    )
    reading, writing = ends()
    fill(writing)
    try:
        assert subprocess.run(WRONG, stdout=writing, stderr=writing, timeout=60).returncode == 2
        assert subprocess.run([sys.executable, "-c", code], stderr=writing, timeout=60).returncode == 0
        assert os.get_blocking(writing), "others print into it too"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_never_gets_the_number_of_a_stream_that_was_closed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, sys; from hrda_ros.start.streams import open_streams; open_streams(); "
        "print('a', file=sys.stderr); sys.stdin.read(); "
        f"file = open({str(out)!r}, 'w'); os.system('echo lost'); file.write(str(file.fileno() > 2))"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command).returncode == 0
    assert out.read_text() == "True"
