"""A process that builds an engine; run by test_engine_cache_processes.py.

python cache_process.py FOLDER LOG

It says "ready", waits for a line on stdin, then builds until the next line comes. It notes in LOG that it builds, or
that it waits for another process, with its own number. JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hrda_core.inference.tensorrt.engine_cache import EngineCache

FACTS = {"bundle": "b", "graph": "g", "gpu": "none"}
PLAN, GOLDEN = b"plan" * 1000, b"golden" * 1000


def build(folder: Path, log: Path) -> None:
    said: list[str] = []

    def note(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word} {os.getpid()}\n")

    def slow() -> bytes:
        note("builds")
        sys.stdin.readline()
        return PLAN

    def say(line: str) -> None:
        said.append(line)
        note("waits")

    print("ready", flush=True)
    sys.stdin.readline()
    engine = EngineCache(folder).get_or_build(FACTS, slow, lambda plan: GOLDEN, say=say)
    print(json.dumps({"whole": engine.plan == PLAN, "said": said}))


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:]))
