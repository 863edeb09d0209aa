"""Limits for the index of a ROS 1 recording: by one of 1 MB rosbags would make gigabytes, or unpack for days.

What is refused here is read in the order of the file (`salvage/ros1_walk.py`), and nothing of it is lost.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

__all__ = ["check_entries", "limit_index"]

_MOST_READ = 4
"""Times that chunks are unpacked, by their bytes. In order of time a recorder's chunks come once, or a few times where
its clock was set back; where two take turns, 1 MB is unpacked for days."""


def limit_index(reader: Any) -> None:
    """Let rosbags' reader of a recording that is not open yet stop where it reads a part of the index twice.

    Hundreds of chunks can share one index: 1 MB would become 40 GB of entries.
    """
    read, left = reader.read_index_data, reader.path.stat().st_size

    def limited(position: int, indexes: Any) -> None:
        nonlocal left
        before = reader.bio.tell()
        read(position, indexes)
        left -= reader.bio.tell() - before
        if left < 0:
            raise ValueError("its chunks share their index")

    reader.read_index_data = limited


def check_entries(reader: Any) -> None:
    """Refuse an index by which an open reader would give or unpack the same again and again.

    Raises:
        ValueError: it names a message twice, or leads from chunk to chunk and back.
    """
    entries = list(chain.from_iterable(reader.indexes.values()))
    if len({(entry.chunk_pos, entry.offset) for entry in entries}) < len(entries):
        raise ValueError("its index names a message twice")
    chunks = np.array([entry.chunk_pos for entry in entries], np.int64)
    in_time = chunks[np.argsort([entry.time for entry in entries], kind="stable")]
    unpacked = in_time[np.flatnonzero(np.diff(in_time, prepend=-1))]
    if (
        sum(reader.chunks[position].datasize for position in unpacked.tolist())
        > _MOST_READ * reader.path.stat().st_size
    ):
        raise ValueError("its chunks take turns in time")
