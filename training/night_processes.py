"""The two processes that `hrda night` starts: `hrda adapt` for a recording, and the call of a node's `~/reload`.

An adaptation in a process of its own gives its memory back, and a recording that ends it ends nothing else.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError
from hrda_core.folder_locks import locked
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.night.turn import BrokenError, Decision, Reloaded
from hrda_core.plain_files import read_file
from hrda_core.whole_files import read_json

__all__ = ["adapt_by_process", "reload_by_process"]

_PDEATHSIG = 1  # prctl(2)
_INTERRUPTED = (130, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
_ERROR = "hrda adapt: error: "
_REFUSED = (
    *("cannot be written", "the disk is full", "than this process may write", "no more files can be opened"),
    *("no folder for temporary files", "does not import"),
)
"""Words of the sentences by which `hrda adapt` says that the system refuses to write, to open files or to load a
package."""


def adapt_by_process(
    options: Sequence[str],
    check: Callable[[], None],
    recording: Path,
    given: Path,
    out: Path,
    work: Path,
    *,
    program: Sequence[str] = (sys.executable, "-m", "hrda_training", "adapt"),
) -> Decision:
    """Run `hrda adapt` on a recording, or let it go on.

    Args:
        options: further options of `hrda adapt`.
        check: raises where something else than the recording stands in the way; asked after a failure, too.
        recording, given, out, work: see `hrda_core.night.turn.Adapt`.
        program: what is run; a test gives another one.

    Raises:
        BrokenError: it cannot be adapted on.
        DataError: the system refuses to write or to load a package, for which it does not answer.
        KeyboardInterrupt: this process or that one was told to end.
    """
    folder, result = work / "adapt", work / "result.json"
    interrupted = folder.is_dir() and any(folder.iterdir())
    if interrupted:  # by a kill of this process, and the adaptation that it had started takes a moment to end
        with locked(folder, f"adapting in '{folder}'", lambda line: print(line, file=sys.stderr)):
            pass
    before = _state(given)
    places = ["--bag", recording, "--model", given, "--out", out, "--work", folder, "--json", result]
    code, lines = _run([*program, *map(str, places), *options])
    if code in _INTERRUPTED:
        raise KeyboardInterrupt
    if code == 0:
        return _decision(read_json(result))
    check()
    sentence = _sentence(code, lines)
    if any(words in sentence for words in _REFUSED):  # what is done stays there to be gone on with
        raise DataError(f"'{recording}' cannot be adapted on now: {sentence}")
    # It may be begun with other options, or by another release; or the given bundle was replaced meanwhile.
    if interrupted or _state(given) != before:
        shutil.rmtree(folder, ignore_errors=True)
        return adapt_by_process(options, check, recording, given, out, work, program=program)
    raise BrokenError(sentence)


def _state(bundle: Path) -> bytes:
    """What tells one state of a bundle from another."""
    try:
        return read_file(bundle / MANIFEST_NAME)
    except OSError:  # in the moment between two
        return b""


def reload_by_process(node: str, link: Path) -> Reloaded:
    """Let a node load what the link leads to, by `python -m hrda_ros.start.reload_call`."""
    command = [sys.executable, "-m", "hrda_ros.start.reload_call", node, str(link)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    with suppress(ValueError, KeyError, TypeError, IndexError):
        answer = json.loads(done.stdout.splitlines()[-1])
        return Reloaded(bool(answer["refused"]), str(answer["message"]))
    return Reloaded(False, f"not reloaded, the process that calls ROS ended with exit code {done.returncode}")


def _run(command: Sequence[str]) -> tuple[int, list[str]]:
    """Run a program, which ends when this process does: its exit code, and the last lines of its stderr.

    These are passed on. What it tells of its result, on stdout, is for a person who has called it, and names files that
    do not stay here.
    """
    libc = ctypes.CDLL(None)  # not after the fork
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        preexec_fn=lambda: libc.prctl(_PDEATHSIG, signal.SIGTERM),
    )
    assert child.stderr is not None
    lines: deque[str] = deque(maxlen=40)
    try:
        for line in child.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            lines.append(line.strip())
        return child.wait(), list(lines)
    except BaseException:
        child.terminate()  # it ends its step and keeps what it has
        child.wait()
        raise
    finally:
        child.stderr.close()


def _sentence(code: int, lines: Sequence[str]) -> str:
    said = [line for line in lines if line]
    if code == 2 and (own := [line for line in said if line.startswith(_ERROR)]):
        return own[-1].removeprefix(_ERROR)
    if code == -signal.SIGKILL:
        return "hrda adapt was killed, as a machine does that runs out of memory; choose a smaller --effort"
    last = f" ({said[-1]})" if said else ""
    return f"hrda adapt ended with exit code {code}{last}"


def _decision(result: dict[str, Any]) -> Decision:
    reasons = tuple(map(str, result["reasons"]))
    refusals = [f"not {name}: {text}" for name, texts in result["refusals"].items() for text in texts]
    words = {
        "given": "the given model stays",
        "instant": "the model with statistics of the recording is better",
        "adapted": "the adapted model is better",
    }
    why = (*reasons, *refusals)
    return Decision(result["choice"], f"{words[result['choice']]}{': ' + why[0] if why else ''}", why)
