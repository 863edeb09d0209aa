"""What ends a node before it runs is told for what it is."""

from __future__ import annotations

import errno
from typing import Any

import pytest

pytest.importorskip("rclpy")
from hrda_core.errors import HrdaError
from hrda_ros.start import process


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "raise the limit of the process, such as by 'ulimit -n 1024'"),
        (RuntimeError("epoll: Too many open files"), "raise the limit of the process, such as by 'ulimit -n 1024'"),
        (MemoryError(), "no memory is left; end other programs"),
        (RuntimeError("of the middleware"), "look at its name and namespace"),
    ],
    ids=["files", "files of the middleware", "memory", "names"],
)
def test_c6_a_limit_of_the_process_is_not_told_as_a_mistake_in_names(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def fails() -> Any:
        raise error

    monkeypatch.setattr(process.rclpy, "ok", lambda: True)
    with pytest.raises(HrdaError, match="the node cannot be made: ") as caught:
        process._made(fails)
    assert advice in str(caught.value)
