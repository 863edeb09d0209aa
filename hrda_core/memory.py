"""Process-wide memory: what is free; buffers of frames stay, for the node and for readers of recordings; models go."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "free_memory",
    "give_back_memory",
    "keep_big_buffers",
    "lacks_memory",
    "share_one_pool",
    "within_free_memory",
]

# glibc's mallopt parameter numbers, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_big_buffers() -> bool:
    """Stop glibc from giving frame-sized buffers back to the kernel after every message.

    A returned buffer has to be paged in again for the next frame, which on virtual machines costs more than all
    copies of the frame together. The price is that the resident memory does not shrink before `give_back_memory`.
    Call it before the first big allocation.

    Returns:
        True if the setting took effect, False if the C library has no such setting (is not glibc).
    """
    libc = _libc_with("mallopt")
    if libc is None:
        return False
    accepted = [
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30),
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1),
        libc.mallopt(_M_TOP_PAD, 64 << 20),
    ]
    return all(accepted)


def share_one_pool() -> bool:
    """Let all threads take memory from one pool, so that a model is loaded where an earlier one was.

    glibc gives threads pools of their own, eight for each core, and what a load has once touched at the end of a pool
    stays resident, because `keep_big_buffers` keeps it and `give_back_memory` does not reach it. Call it before the
    first import that starts threads.

    Returns:
        True if the setting took effect, False if the C library has no such setting (is not glibc).
    """
    libc = _libc_with("mallopt")
    return libc is not None and bool(libc.mallopt(_M_ARENA_MAX, 1))


def give_back_memory() -> bool:
    """Give pages that nothing uses any more back to the kernel, when a model has been freed. It takes milliseconds.

    Returns:
        True if there was something to give back, False if not, and where the C library is not glibc.
    """
    libc = _libc_with("malloc_trim")
    return libc is not None and bool(libc.malloc_trim(ctypes.c_size_t(0)))


def free_memory() -> int | None:
    """Return the bytes that this process can still take, swap included, within the limit of its container.

    Returns:
        None where the kernel does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        free = (kilobytes["MemAvailable"] + kilobytes["SwapFree"]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
    try:
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no cgroup of version 2, or `max`, no limit
        return free
    return min(free, max(0, limit - used))


@contextmanager
def within_free_memory() -> Iterator[None]:
    """Let fail what would take far more memory than is free, for as long as this lasts.

    The kernel grants far more than there is, and later ends the process that uses it, or another one. The limit is one
    of the process: of several threads in here the first sets it and the last lifts it. Where the kernel does not tell
    what is free there is none.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


def lacks_memory(error: BaseException) -> bool:
    """Return whether a library says by an exception that memory was not to be had."""
    signs = "bad_alloc", "Failed to allocate memory"
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


class _DataLimit:
    """The soft limit of the kernel for memory that the process can write to, while somebody is within it."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: tuple[int, int] | None = None

    def enter(self) -> None:
        """Set the limit, if this is the first."""
        with self._lock:
            self._inside += 1
            if self._inside == 1 and (limit := _most_data()) is not None:
                self._before = resource.getrlimit(resource.RLIMIT_DATA)
                soft, hard = self._before
                known = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
                resource.setrlimit(resource.RLIMIT_DATA, (min(known), hard))

    def leave(self) -> None:
        """Lift the limit, if this is the last."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._before is not None:
                resource.setrlimit(resource.RLIMIT_DATA, self._before)
                self._before = None


_LIMIT = _DataLimit()
_LEFT_FREE = 8
_RESERVED = 256 << 20
_PLENTY = 4 << 30


def _allowed(free: int) -> int:
    """Bytes that may be taken where so many are free.

    Where there is plenty an eighth stays free: for other programs, and for what is counted by no limit. Where there is
    little, what is reserved and not used (stacks of threads, the ends of pools) would count for more than the model,
    and other threads, which receive images, would meet the limit: rclpy ends by SIGSEGV where it gets no memory. So
    the limit lies above what is free then, and stops only what asks for much more.
    """
    return max(free - free // _LEFT_FREE, min(free + _RESERVED, _PLENTY))


def _most_data() -> int | None:
    """Bytes that the process may have in memory that it can write to; None where the kernel does not tell."""
    free = free_memory()
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        used = next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024
    except (OSError, StopIteration, ValueError):
        return None
    return None if free is None else used + _allowed(free)


def _libc_with(function: str) -> ctypes.CDLL | None:
    """The C library of this process, where it has a function of glibc's."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, function) else None
