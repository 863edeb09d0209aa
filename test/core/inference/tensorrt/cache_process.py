"""Processes that build engines and are killed, or build at once; run by test_engine_cache_processes.py.

python cache_process.py kills FOLDER COUNT SEED     COUNT builds, each killed at a random moment; JSON on stdout
python cache_process.py build FOLDER LOG SECONDS    says "ready", waits for a line on stdin, then builds for SECONDS
                                                    and notes itself in LOG; JSON on stdout
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt.engine_cache import EngineCache

FACTS = {"bundle": "b", "graph": "g", "gpu": "none"}
PLAN = random.Random(0).randbytes(3 << 20)
GOLDEN = random.Random(1).randbytes(1 << 20)


def _build_in_child(cache: EngineCache) -> int:
    """Fork a child that builds; returns its process id."""
    if child := os.fork():
        return child
    try:
        parts = bytearray()
        for begin in range(0, len(PLAN), 1 << 18):
            parts += PLAN[begin : begin + (1 << 18)]
            time.sleep(0.0002)
        cache.get_or_build(FACTS, lambda: bytes(parts), lambda plan: GOLDEN)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _state(folder: Path) -> str:
    suffixes = {path.suffix for path in folder.iterdir()}
    if ".json" in suffixes:
        return "whole"
    if ".plan" in suffixes:
        return "plan without manifest"
    return "half a plan" if ".part" in suffixes else "nothing"


def kills(folder: Path, count: int, seed: int) -> None:
    cache, chance = EngineCache(folder), random.Random(seed)
    durations = []
    for _ in range(5):
        begin = time.monotonic()
        assert os.waitpid(_build_in_child(cache), 0)[1] == 0
        durations.append(time.monotonic() - begin)
        cache.discard(FACTS)
    states, broken = Counter(), []
    for _ in range(count):
        child = _build_in_child(cache)
        time.sleep(chance.uniform(0, 1.1 * sorted(durations)[2]))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        states[_state(folder)] += 1
        try:
            found = cache.find(FACTS)
        except BackendError as error:
            broken.append(str(error))
            continue
        if found is not None:
            if (found.plan, found.golden) != (PLAN, GOLDEN):
                broken.append("an engine with other bytes")
            (folder / f"{found.path.stem}.json").unlink()  # the next build begins from what this one has left
    assert os.waitpid(_build_in_child(cache), 0)[1] == 0
    left = sorted(path.suffix or path.name for path in folder.iterdir())
    print(json.dumps({"states": states, "broken": broken, "left": left, "seconds": sorted(durations)[2]}))


def build(folder: Path, log: Path, seconds: float) -> None:
    def slow() -> bytes:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return PLAN

    print("ready", flush=True)
    sys.stdin.readline()
    said: list[str] = []
    engine = EngineCache(folder).get_or_build(FACTS, slow, lambda plan: GOLDEN, say=said.append)
    print(json.dumps({"whole": engine.plan == PLAN, "said": said}))


if __name__ == "__main__":
    verb, where, first, second = sys.argv[1:]
    if verb == "kills":
        kills(Path(where), int(first), int(second))
    else:
        build(Path(where), Path(first), float(second))
