"""The bounds that end the questions: right at every moment, and soon where two models differ."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hrda_core.comparison.sequential import Bounds, mean_with_bounds

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
PAIRS, WRONG, TWO_POINTS_OF = 100, 0.05, 0.04


@pytest.fixture(scope="module")
def people() -> ModuleType:
    """The simulated people of the benchmark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("comparison")


def ask(people: ModuleType, mean: float, seed: int) -> list[Bounds]:
    rng = np.random.default_rng(seed)
    return [people.simulate(people.draw_pair(rng, mean), rng, wrong=WRONG) for _ in range(PAIRS)]


@pytest.fixture(scope="module")
def differing(people: ModuleType) -> list[Bounds]:
    """Pairs of which the second is two points more accurate, and 5 % of the answers are wrong."""
    return ask(people, 0.02 / TWO_POINTS_OF, 0)


@pytest.fixture(scope="module")
def equal(people: ModuleType) -> list[Bounds]:
    return ask(people, 0.0, 1)


def test_people_who_err_name_the_better_model_of_nearly_all_pairs_that_differ_by_two_points(
    differing: list[Bounds],
) -> None:
    assert sum(found.sign == 1 for found in differing) >= 95
    assert not any(found.sign == -1 for found in differing)


def test_it_mostly_takes_about_forty_questions(differing: list[Bounds]) -> None:
    assert np.median([found.decided_after or 120 for found in differing]) <= 42


def test_pairs_that_do_not_differ_stay_undecided(equal: list[Bounds]) -> None:
    assert sum(found.sign != 0 for found in equal) <= 5


def test_bounds_hold_the_mean_of_the_answers(differing: list[Bounds], equal: list[Bounds]) -> None:
    wrongly = 1 - 2 * WRONG
    for found, mean in ((differing, wrongly * 0.02 / TWO_POINTS_OF), (equal, 0.0)):
        assert sum(one.low <= mean <= one.high for one in found) >= 95


def test_the_estimate_is_not_biased(differing: list[Bounds], equal: list[Bounds]) -> None:
    for found, mean in ((differing, (1 - 2 * WRONG) * 0.02 / TWO_POINTS_OF), (equal, 0.0)):
        values = [one.value for one in found]
        assert abs(np.mean(values) - mean) < 3 * np.std(values) / np.sqrt(PAIRS)


def test_nothing_is_known_before_the_first_answer() -> None:
    assert mean_with_bounds([], [], [1.0], 120) == Bounds(0.0, -1.0, 1.0, None)


def test_the_same_answer_again_and_again_decides_soon_and_to_both_sides_alike() -> None:
    up, down = (mean_with_bounds([answer] * 30, [0, 1] * 15, [0.5, 0.5], 120) for answer in (1, -1))
    assert up.sign == 1
    assert up.decided_after is not None
    assert up.decided_after <= 12
    assert (down.low, down.high, down.sign) == (-up.high, -up.low, -1)


def test_a_few_answers_decide_nothing_and_more_answers_never_widen_the_bounds() -> None:
    rng = np.random.default_rng(0)
    answers = rng.choice([-1, 0, 1, 1], 60).tolist()
    before = (-1.0, 1.0)
    for count in range(1, 61, 7):
        found = mean_with_bounds(answers[:count], [0] * count, [1.0], 60)
        assert found.low >= before[0]
        assert found.high <= before[1]
        assert found.low <= found.value <= found.high
        assert found.decided_after is None or count > 4
        before = found.low, found.high


def test_strata_in_which_one_model_is_always_right_make_the_bounds_narrower() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(10):
        strata = rng.choice(2, 100, p=[0.65, 0.35])
        answers = np.where(strata == 0, 1, -1).tolist()
        together = mean_with_bounds(answers, [0] * 100, [1.0], 100)
        apart = mean_with_bounds(answers, strata.tolist(), [0.65, 0.35], 100)
        widths.append((apart.high - apart.low) / (together.high - together.low))
    assert np.mean(widths) < 0.75
