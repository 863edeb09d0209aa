"""The random generators of a step: the same draws however many processes share the batch, and no two alike."""

from __future__ import annotations

from itertools import combinations

from hrda_core.uda.step import StepRandom


def _draw(random: StepRandom, place: int | None = None, purpose: str = "crop") -> list[float]:
    rng = random.shared(purpose) if place is None else random.image(place, purpose)
    return rng.uniform(size=4).tolist()


def test_an_image_draws_by_its_place_in_the_global_batch_and_the_batch_alike_on_all_processes() -> None:
    whole, parts = StepRandom(7, 3), [StepRandom(7, 3, first) for first in (0, 2)]
    assert [_draw(whole, place) for place in range(4)] == [_draw(part, place) for part in parts for place in range(2)]
    assert _draw(whole) == _draw(parts[0]) == _draw(parts[1])


def test_seed_iteration_place_and_purpose_all_count() -> None:
    draws = [
        _draw(StepRandom(7, 3)),
        _draw(StepRandom(7, 3), 0),
        _draw(StepRandom(7, 3), 1),
        _draw(StepRandom(7, 3), 0, "blur"),
        _draw(StepRandom(7, 4), 0),
        _draw(StepRandom(8, 3), 0),
    ]
    assert all(one != other for one, other in combinations(draws, 2))
