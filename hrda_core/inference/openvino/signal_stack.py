"""Each thread keeps the stack on which its signals are handled, whatever OpenVINO does to it.

OpenVINO's plugin for processors gives the thread that loads it a larger alternate signal stack (sigaltstack(2)), which
the kernel asks for before it grants AMX. The thread that frees the plugin takes it back and frees its memory. Where
that is another thread, signals of the first one would be handled on memory that is gone, and Ctrl-C would end the
process with SIGSEGV. Seen with OpenVINO 2026.4; the code came with openvinotoolkit/openvino#11894.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_signal_stack"]

_SS_DISABLE = 2


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give this thread the alternate signal stack back that it has now, or none, after the block."""
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if libc.sigaltstack(ctypes.byref(before), None):  # too small, since the process may use AMX
            libc.sigaltstack(ctypes.byref(_SignalStack(None, _SS_DISABLE, 0)), None)
