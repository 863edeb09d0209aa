"""A process-wide memory setting for frames of several megabytes, for the node and for commands that read recordings."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_big_buffers"]

# glibc's mallopt parameter numbers, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3


def keep_big_buffers() -> bool:
    """Stop glibc from giving frame-sized buffers back to the kernel after every message.

    A returned buffer has to be paged in again for the next frame, which on virtual machines costs more than all
    copies of the frame together. The price is that the resident memory does not shrink. Call it before the first big
    allocation.

    Returns:
        True if the setting took effect, False if the C library has no such setting (is not glibc).
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    accepted = [
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30),
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1),
        libc.mallopt(_M_TOP_PAD, 64 << 20),
    ]
    return all(accepted)
