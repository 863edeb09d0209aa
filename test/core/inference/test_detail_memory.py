"""Which tiles run in turn, and how long their detail is used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.inference.detail_memory import DetailMemory


def _frames(memory: DetailMemory, count: int) -> list[tuple[list[int], list[float]]]:
    """Tiles that run and tiles that are known, for each frame; each tile remembers the number of its frame."""
    seen = []
    for frame in range(count):
        feeds = memory.feeds()
        seen.append((feeds["tiles"].tolist(), feeds["present"].tolist()))
        memory.store(feeds["tiles"], np.full((memory.keep, 1, 1, 1), frame, np.float32))
    return seen


def test_tiles_take_turns_and_are_known_from_the_frame_after() -> None:
    seen = _frames(DetailMemory(4, 1, (1, 1, 1), stale_after=10), 5)
    assert [tiles for tiles, _ in seen] == [[0], [1], [2], [3], [0]]
    assert [present for _, present in seen] == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 1, 1, 1],
    ]


def test_detail_beyond_the_cap_is_not_used() -> None:
    seen = _frames(DetailMemory(4, 1, (1, 1, 1), stale_after=2), 6)
    assert seen[5][1] == [1, 0, 0, 1]  # tile 0 of frame 4 and tile 3 of frame 3; tile 2 of frame 2 is too old
    assert all(not any(present) for _, present in _frames(DetailMemory(3, 1, (1, 1, 1), stale_after=0), 4))


@given(count=st.integers(1, 9), data=st.data(), stale=st.integers(0, 12))
def test_what_is_used_is_never_older_than_the_cap_and_every_tile_gets_its_turn(
    count: int, data: st.DataObject, stale: int
) -> None:
    keep = data.draw(st.integers(1, count))
    memory = DetailMemory(count, keep, (1, 1, 1), stale)
    ran_at = dict.fromkeys(range(count), -1000)
    for frame in range(3 * count):
        feeds = memory.feeds()
        tiles = feeds["tiles"].tolist()
        assert len(set(tiles)) == keep
        for tile, known in enumerate(feeds["present"]):
            assert bool(known) == (0 < frame - ran_at[tile] <= stale)
            if known:
                assert feeds["memory"][tile, 0, 0, 0] == ran_at[tile]
        memory.store(feeds["tiles"], np.full((keep, 1, 1, 1), frame, np.float32))
        ran_at.update(dict.fromkeys(tiles, frame))
    assert min(ran_at.values()) >= 3 * count - -(-count // keep)


def test_after_a_gap_nothing_of_earlier_frames_is_used() -> None:
    memory = DetailMemory(2, 1, (1, 1, 1), stale_after=5)
    _frames(memory, 3)
    memory.forget()
    assert memory.feeds()["present"].tolist() == [0, 0]


def test_age_counts_frames_not_calls_of_feeds() -> None:
    memory = DetailMemory(2, 1, (1, 1, 1), stale_after=1)
    _frames(memory, 1)
    assert memory.feeds()["present"].tolist() == memory.feeds()["present"].tolist() == pytest.approx([1, 0])
