"""Runs the steps of a day one after the other, each within its time, and keeps what became of each in one file.

A step is commands, each a process of its own. What fails or takes too long is recorded with its last lines, and the day
goes on. The state is replaced whole before and after every step, so that a second call goes on where the first ended,
however it ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.errors import HrdaError
from hrda_core.whole_files import read_json

__all__ = ["FINISHED", "Step", "run_day"]

FINISHED = ("done", "failed", "timed out")
"""What a second call does not do again; it does what was skipped, interrupted, or stopped and can go on."""

GRACE_S = 20.0
"""From the request to end to the end by force: a training writes its checkpoint meanwhile."""

_LAST_LINES, _LAST_CHARACTERS = 12, 2000

State = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One part of the day.

    Attributes:
        name: key in the record.
        about: what it shows, for the page.
        budget_s: time that it may take, all commands together, seconds.
        commands: program and arguments of each; the next one runs if the last one ended well.
        result: JSON file that the commands write; its content, or the figures of a record, becomes the step's
            `result`, also after a failure.
        why_not: the reason to skip it here, or an empty text.
        leaves: folder that the commands write and want absent; what an earlier call left is removed.
        goes_on: the commands keep their own state: ended by the time, they go on at the next call.
    """

    name: str
    about: str
    budget_s: float
    commands: Sequence[Sequence[str]] = ()
    result: Path | None = None
    why_not: Callable[[], str] = lambda: ""
    leaves: Path | None = None
    goes_on: bool = False


@dataclass(frozen=True)
class _Surroundings:
    """What the commands run in; None = as this process."""

    cwd: Path | None
    environment: Mapping[str, str] | None


def run_day(
    steps: Sequence[Step],
    state: State,
    keep: Callable[[State], None],
    *,
    seconds: float,
    folder: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> State:
    """Run what is not finished, in order.

    Args:
        state: name of a step to its entry, from an earlier call; it is changed.
        keep: writes the state; called before and after every step.
        seconds: time for this call; a step gets its budget or what is left of this, and none below a second.
        folder: existing folder for what the commands print, one file a step.
        cwd: folder that the commands run in; None = that of this process.
        environment: of the commands; None = that of this process.

    Returns:
        `state`.

    Raises:
        KeyboardInterrupt: as it came; the running command was ended, and its step is marked `interrupted`.
    """
    end = time.monotonic() + seconds
    for step in steps:
        if state.get(step.name, {}).get("status") in FINISHED:
            say(f"{step.name}: {state[step.name]['status']} in an earlier call")
            continue
        limit = min(step.budget_s, end - time.monotonic())
        reason = step.why_not() or ("" if limit >= 1 else "no time is left; call again to go on")
        if reason:
            entry: dict[str, Any] = {"status": "skipped", "why": reason}
        else:
            say(f"{step.name}: {step.about}; at most {limit:.0f} s")
            # What a killed call leaves is this entry, which is not finished.
            state[step.name] = {"status": "interrupted", "why": "the call ended during this step"}
            keep(state)
            entry = _run(step, limit, folder / f"{step.name}.log", _Surroundings(cwd, environment))
        state[step.name] = entry
        keep(state)
        say(f"{step.name}: {entry['status']}" + (f", {entry['why']}" if "why" in entry else ""))
    return state


def _run(step: Step, limit_s: float, log: Path, around: _Surroundings) -> dict[str, Any]:
    begin = time.monotonic()
    if step.result is not None and not step.goes_on:
        step.result.unlink(missing_ok=True)  # of an earlier call
    if step.leaves is not None:
        shutil.rmtree(step.leaves, ignore_errors=True)
    entry: dict[str, Any] = {"status": "done"}
    with log.open("wb") as output:
        for command in step.commands:
            try:
                code = _call(command, begin + limit_s, output, around)
            except OSError as error:
                entry = {"status": "failed", "why": f"it does not start: {error}"}
            else:
                entry = _outcome(code, limit_s, goes_on=step.goes_on)
            if entry["status"] != "done":
                break
    entry["seconds"] = round(time.monotonic() - begin, 1)
    if entry["status"] != "done":
        entry["last_lines"] = _last_lines(log)
    if step.result is not None and step.result.exists():
        with suppress(HrdaError):  # half a file of a command that was ended
            found = read_json(step.result)
            entry["result"] = found.get("figures", found)  # of a whole record, whose machine is that of the day
    return entry


def _outcome(code: int | None, limit_s: float, *, goes_on: bool) -> dict[str, Any]:
    if code == 0:
        return {"status": "done"}
    if code is not None:
        return {"status": "failed", "why": f"exit code {code}"}
    if goes_on:
        return {"status": "stopped", "why": f"its {limit_s:.0f} s are over; the next call goes on"}
    return {"status": "timed out", "why": f"not ready after {limit_s:.0f} s"}


def _call(command: Sequence[str], end: float, output: Any, around: _Surroundings) -> int | None:
    """Return the exit code, or None if the command was ended at `end`, of `time.monotonic`."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=around.cwd,
        env=None if around.environment is None else dict(around.environment),
        start_new_session=True,  # so that what it starts ends with it
    )
    try:
        return process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started; first politely."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(log: Path) -> list[str]:
    text = log.read_bytes()[-_LAST_CHARACTERS:].decode("utf-8", "replace")
    return text.splitlines()[-_LAST_LINES:]
