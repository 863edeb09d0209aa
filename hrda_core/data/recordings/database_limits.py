"""Limits for .db3 files: a database can be a program, and one of 80 kB can keep SQLite busy for ever.

A table may be a query without an end, its columns may be computed (900 MB for each row), rows that lack a column all
have the one value that the schema gives, and a tree whose pages name each other has more rows than there are atoms. No
recorder writes any of that. What is refused here is read page by page (`salvage/sqlite_walk.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hrda_core.errors import require

__all__ = ["check_tables", "limit_opening", "opened"]

_TABLES = ("messages", "topics", "schema", "message_definitions")  # those that rosbags reads
_STEPS = 1_000_000
_FREE_STEPS, _STEPS_PER_BYTE = 20 * _STEPS, 20
"""Steps that SQLite may take to open a file: to count a message, which has 20 bytes or more, takes a few dozen."""


def check_tables(path: Path) -> None:
    """Refuse a database whose tables hold more than the rows that lie in the file.

    Raises:
        ValueError: a table is computed, in part or as a whole.
        sqlite3.Error: the file is no database, or damaged.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        database.set_progress_handler(_budget(path), _STEPS)
        listed = database.execute("SELECT lower(name), rootpage FROM sqlite_master WHERE type != 'index'").fetchall()
        for name in (name for name, root in listed if name in _TABLES and not root):
            raise ValueError(f"its table '{name}' is computed and holds no rows")
        for name in _TABLES:
            for *_, default, _, hidden in database.execute(f"PRAGMA table_xinfo({name})"):
                if hidden or default is not None:
                    raise ValueError(f"values of its table '{name}' are computed")


def limit_opening() -> None:
    """Let rosbags' next connections to databases stop where opening one takes too many steps; see `opened`."""
    hooks = require("apsw", "bag").connection_hooks
    if _limit not in hooks:
        hooks.append(_limit)


def opened(storage: Any) -> None:
    """Lift the limit of rosbags' storage, if it is a database: reading may take as long as it takes."""
    if (connection := getattr(storage, "dbconn", None)) is not None:
        connection.set_progress_handler(None)


def _limit(connection: Any) -> None:
    connection.set_progress_handler(_budget(Path(connection.filename)), _STEPS)


def _budget(path: Path) -> Callable[[], bool]:
    """What SQLite asks after each million steps whether it shall stop; signals are handled meanwhile."""
    left = (_FREE_STEPS + _STEPS_PER_BYTE * path.stat().st_size) // _STEPS

    def is_spent() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    return is_spent
