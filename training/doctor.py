"""`hrda doctor`: what of this machine fits hrda_ros, line by line, and what to do where it does not.

    hrda doctor                                  # this machine, the default model and the models of the user
    hrda doctor --model models/night             # that model alone
    hrda doctor --node /segment_node             # also what a running node says of itself
    hrda doctor --json doctor.json               # for a bug report

Exit code: 0 = nothing fails, 1 = something does, 2 = a mistake in the options. It needs the standard library alone and
changes nothing. What looks at ROS is a process of its own: a library that does not fit can end the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from hrda_core import __version__
from hrda_core.errors import RecipeError
from hrda_core.findings import STATES, Finding, fail
from hrda_core.whole_files import write_whole

__all__ = ["main", "ros_findings"]

_ROS = [sys.executable, "-m", "hrda_ros.doctor"]
_TIMEOUT_S = 60.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message}; --help lists the options")


def main(argv: list[str]) -> int:
    """Examine, print, write JSON. Return the exit code."""
    arguments = _options().parse_args(argv)
    from hrda_core.doctor.examine import examine

    found: list[tuple[str, Finding]] = []
    models = [_model(word) for word in arguments.model]
    print(f"hrda_ros {__version__}")
    for heading, findings in _parts(examine(models), arguments.node):
        _print(heading, findings)
        found += [(heading, finding) for finding in findings]
    counts = Counter(finding.state for _, finding in found)
    print("\n" + ", ".join(f"{counts[state]} {state}" for state in STATES))
    if arguments.json:
        rows = [{"part": heading, **finding.to_dict()} for heading, finding in found]
        text = {"hrda_ros": __version__, "counts": {state: counts[state] for state in STATES}, "findings": rows}
        advice = "give another place by --json"
        write_whole(arguments.json, json.dumps(text, indent=1) + "\n", error=RecipeError, advice=advice)
    return 1 if counts["fail"] else 0


def _options() -> argparse.ArgumentParser:
    about = (__doc__ or "").partition("\n")[0]  # python -OO leaves docstrings out
    parser = _Parser(prog="hrda doctor", description=about, allow_abbrev=False)
    parser.add_argument("--model", nargs="+", default=[], help="bundles to look at; default: the shipped one and yours")
    parser.add_argument("--node", default="", help="full name of a running node to ask, such as /segment_node")
    parser.add_argument("--json", type=Path, default=None, help="write the findings to this file")
    return parser


def _model(word: str) -> Path:
    """A model by its path, or by its name where what reads names imports."""
    try:
        from .arguments import model_folder

        return model_folder(word)
    except ImportError:
        return Path(word)


def _parts(here: Iterator[tuple[str, list[Finding]]], node: str) -> Iterator[tuple[str, list[Finding]]]:
    """The parts of this machine, with ROS behind Python."""
    yield next(here)
    yield "ROS", ros_findings(_ROS + (["--node", node] if node else []))
    yield from here


def ros_findings(command: list[str]) -> list[Finding]:
    """Return what the process that looks at ROS finds; if it dies on the way, that is the last finding.

    Args:
        command: the process; it prints a finding a line.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        out, errors, end = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as slow:
        out = (slow.stdout or b"").decode(errors="replace") if isinstance(slow.stdout, bytes) else (slow.stdout or "")
        errors, end = "", None
    found = []
    for line in out.splitlines():
        with suppress(ValueError, KeyError, TypeError):  # something else that a library prints
            found.append(Finding.from_dict(json.loads(line)))
    if end != 0:
        said = [line.strip() for line in errors.splitlines() if line.strip()]
        how = f"gave no answer within {_TIMEOUT_S:.0f} s" if end is None else f"ended with exit code {end}"
        why = f" ({said[-1]})" if said else ""
        advice = (
            "look into docs/robot/troubleshooting.md, 'At start'; RMW_IMPLEMENTATION may name what is not installed"
        )
        found.append(fail("ROS", f"the process that looks at ROS {how}{why}", advice))
    return found


def _print(heading: str, findings: list[Finding]) -> None:
    if not findings:
        return
    print(f"\n{heading}", flush=True)
    width = max(len(finding.subject) for finding in findings)
    colours = {"ok": "\033[32m", "warn": "\033[33m", "fail": "\033[31m"} if _coloured() else {}
    for finding in findings:
        state = f"{colours.get(finding.state, '')}{finding.state:<4}{chr(27) + '[0m' if colours else ''}"
        print(f"  {state}  {finding.subject:<{width}}  {finding.text}", flush=True)
        if finding.advice:
            print(f"        {'':<{width}}  -> {finding.advice}", flush=True)


def _coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
