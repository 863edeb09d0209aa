"""The signals of a thread that has opened OpenVINO, also after another thread has closed it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrda_core.inference.backends.openvino_backend import OpenVinoBackend
from hrda_core.inference.bundle import Bundle
from hrda_core.inference.openvino import signal_stack

FREED_ELSEWHERE = """
import gc, signal, sys, threading
from hrda_core.inference.backends.openvino_backend import OpenVinoBackend
from hrda_core.inference.bundle import Bundle
bundle = Bundle.open(sys.argv[1])
kept = [OpenVinoBackend(bundle, bundle.graphs["tiles"])]
def free():
    kept.clear()
    gc.collect()
thread = threading.Thread(target=free)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def signal_stack_now() -> tuple[int | None, int, int]:
    now = signal_stack._SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
    return now.address, now.flags, now.size


def test_opening_and_compiling_leave_the_signal_stack_of_the_thread(tiny_bundle: Path) -> None:
    pytest.importorskip("openvino")
    bundle, before = Bundle.open(tiny_bundle), signal_stack_now()
    backend = OpenVinoBackend(bundle, bundle.graphs["tiles"])
    assert signal_stack_now() == before
    backend.layer_seconds(1)
    assert signal_stack_now() == before
    backend.close()
    assert signal_stack_now() == before


def test_c2_a_signal_after_another_thread_has_freed_the_model_is_handled(repository: Path, tiny_bundle: Path) -> None:
    pytest.importorskip("openvino")
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", FREED_ELSEWHERE, str(tiny_bundle)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_stack_that_the_system_does_not_take_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int | None] = []

    class Libc:
        def sigaltstack(self, new: object, old: object) -> int:
            calls.append(None if new is None else new._obj.flags)  # type: ignore[attr-defined]
            return -1 if len(calls) == 2 else 0

    monkeypatch.setattr(signal_stack.ctypes, "CDLL", lambda name: Libc())
    with signal_stack.kept_signal_stack():
        assert calls == [None]
    assert calls == [None, 0, signal_stack._SS_DISABLE]
