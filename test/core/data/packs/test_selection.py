"""Which images a source pack takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hrda_core.data.packs.selection import choose_images, shown_classes
from hrda_core.errors import DataError
from hrda_core.uda.rare_class_sampling import class_probabilities

CLASSES = 6


def _weights(shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """P(c) where the first classes also cover more of an image than the last ones."""
    pixels = shown.sum(axis=0) * np.geomspace(10_000, 100, shown.shape[1]).astype(np.int64)
    classes, probabilities = class_probabilities(pixels, 0.01)
    weights = np.zeros(shown.shape[1])
    weights[classes] = probabilities
    return weights


def _street(images: int, shares: tuple[float, ...], seed: int = 0) -> npt.NDArray[np.bool_]:
    return np.random.RandomState(seed).random_sample((images, len(shares))) < np.array(shares)


def test_an_image_shows_a_class_with_the_share_that_the_paper_asks_for() -> None:
    counts = np.array([[3000, 1_000_000], [3001, 0]], np.int64)
    shown = shown_classes(counts, np.array([[1052, 1914]] * 2))
    assert shown.tolist() == [[False, True], [True, False]]


def test_of_a_class_that_is_small_everywhere_the_larger_ones_count() -> None:
    counts = np.array([[9000, 40], [9000, 21], [9000, 19], [9000, 0]], np.int64)
    shown = shown_classes(counts, np.array([[1052, 1914]] * 4))
    assert shown[:, 1].tolist() == [True, True, False, False]


def test_rare_classes_are_in_more_images_than_chance_would_give() -> None:
    shown = _street(2000, (1.0, 0.9, 0.5, 0.1, 0.05, 0.02))
    choice = choose_images(shown, _weights(shown), 200, held_out=0)
    chance = 200 * shown.mean(axis=0)
    taken = shown[list(choice.train)].sum(axis=0)
    assert (taken[3:] > 3 * chance[3:]).all()
    assert taken[5] == shown[:, 5].sum()  # every image with the rarest class


def test_the_held_out_part_has_rare_classes_too_and_leaves_most_of_them_to_training() -> None:
    shown = _street(1000, (1.0, 0.5, 0.05, 0.02, 0.02, 0.01), seed=3)
    choice = choose_images(shown, _weights(shown), 100, held_out=0.2)
    train, held_out = (shown[list(rows)].sum(axis=0) for rows in (choice.train, choice.held_out))
    assert len(choice.held_out) == 20
    assert (held_out > 0).all()
    assert (train[2:] > held_out[2:]).all()


def test_neighbours_of_held_out_images_are_not_trained_on_where_there_is_choice() -> None:
    shown = _street(3000, (1.0, 0.6, 0.3, 0.2, 0.1, 0.1))
    choice = choose_images(shown, _weights(shown), 100)
    distances = np.abs(np.subtract.outer(choice.train, choice.held_out))
    assert len(choice.held_out) == 10
    assert distances.min() > 4


def test_the_seed_decides_among_equals() -> None:
    shown = np.ones((50, 2), np.bool_)
    first, again, other = (choose_images(shown, np.ones(2), 10, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_images_without_any_class_are_left_out_even_if_fewer_remain_than_asked() -> None:
    shown = _street(20, (1.0, 0.5))
    shown[::2] = False
    choice = choose_images(shown, np.ones(2), 20, held_out=0.1)
    assert len(choice.train) + len(choice.held_out) == 10
    assert all(row % 2 for row in (*choice.train, *choice.held_out))


def test_data_without_any_class_is_refused() -> None:
    with pytest.raises(DataError, match="no image of the data set shows any class"):
        choose_images(np.zeros((3, 2), np.bool_), np.ones(2), 2)


def test_images_that_are_named_to_be_held_out_are_and_all_others_may_be_trained_on() -> None:
    shown = _street(40, (1.0, 0.6, 0.3))
    choice = choose_images(shown, _weights(shown), 40, held_out=0.1, hold=[7, 3, 30, 7])
    assert choice.held_out == (3, 7, 30)
    assert set(choice.train) == {row for row in range(40) if shown[row].any()} - {3, 7, 30}


def test_holding_out_every_image_is_refused() -> None:
    with pytest.raises(DataError, match="3 of 3 images are held out and 3 wanted, which leaves none to train on"):
        choose_images(np.ones((3, 2), np.bool_), np.ones(2), 3, hold=[0, 1, 2])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=30),
    st.integers(1, 40),
    st.floats(0, 0.5),
    st.integers(0, 3),
)
def test_any_choice_keeps_its_promises(rows: list[list[bool]], images: int, held_out: float, seed: int) -> None:
    shown = np.array(rows, np.bool_)
    useful = int(shown.any(axis=1).sum())
    assume(useful > 0)
    weights = _weights(shown)
    choice = choose_images(shown, weights, images, held_out=held_out, seed=seed)
    assert choice == choose_images(shown, weights, images, held_out=held_out, seed=seed)
    assert not set(choice.train) & set(choice.held_out)
    assert len(choice.train) + len(choice.held_out) == min(images, useful)
    assert shown[[*choice.train, *choice.held_out]].any(axis=1).all()
    if len(choice.train) >= CLASSES:
        assert (shown[list(choice.train)].any(axis=0) == shown.any(axis=0)).all()
