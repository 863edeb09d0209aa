"""Coverage: how well a few points stand for all."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.data.frame_selection.k_centre import k_centre

POINTS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=9)


def _radius(points: list[tuple[int, int]], chosen: list[int]) -> float:
    """Largest distance of a point to its nearest chosen one."""
    values = np.array(points, np.float64)
    return float(np.linalg.norm(values[:, None] - values[chosen], axis=2).min(axis=1).max())


@settings(max_examples=60, deadline=None)
@given(POINTS, st.integers(1, 4))
def test_the_radius_is_at_most_twice_the_best_possible(points: list[tuple[int, int]], budget: int) -> None:
    best = min(
        _radius(points, list(chosen)) for chosen in itertools.combinations(range(len(points)), min(budget, len(points)))
    )

    assert _radius(points, k_centre(points, budget)) <= 2 * best + 1e-4


@settings(max_examples=60, deadline=None)
@given(POINTS, st.integers(0, 12))
def test_the_budget_is_used_up_and_no_point_chosen_twice(points: list[tuple[int, int]], budget: int) -> None:
    chosen = k_centre(points, budget)

    assert len(chosen) == len(set(chosen)) == min(budget, len(points))
    assert chosen == k_centre(points, budget)


def test_the_first_is_nearest_to_the_mean_then_the_farthest_follow() -> None:
    assert k_centre([[0.0], [4.0], [5.0], [10.0]], 3) == [2, 0, 3]


def test_equal_points_come_last() -> None:
    points = np.array([[1.0, 1.0]] * 5 + [[9.0, 9.0]])

    assert 5 in k_centre(points, 2)
    assert sorted(k_centre(points, 6)) == list(range(6))


def test_nothing_is_chosen_from_nothing() -> None:
    assert k_centre(np.zeros((0, 3)), 4) == []
