"""Events by which player and recorder tell the demo what happened: one JSON object per line on standard output.

They are bookkeeping beside the ROS graph. Nothing flows back, so the player stays a camera that waits for nobody. Times
are `time.monotonic_ns()`: one clock for all processes of a Linux machine.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["emit", "parse"]

Event = dict[str, Any]


def emit(event: str, **fields: Any) -> None:
    """Print one event."""
    print(json.dumps({"event": event, **fields}), flush=True)


def parse(line: str) -> Event | None:
    """Return the event on this line, or None if the line is something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
