"""The pixels that a person is asked about: each on which the models disagree has the same chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hrda_core.comparison.disagreement import Disagreement, examine
from hrda_core.comparison.drive import Drive
from hrda_core.data.frames import ImageFrames
from hrda_core.errors import DataError
from hrda_core.inference import Prediction


class MadeFrames(ImageFrames):
    """Frames of which the red channel is what A says and the green one what B says; a negative number is damaged."""

    def load(self, index: int) -> np.ndarray:
        if self.files[index] == "damaged":
            raise DataError(f"image {index} cannot be read")
        rgb = np.zeros((20, 20, 3), np.uint8)
        rgb[: int(self.files[index]), :, 1] = index + 1
        return rgb


def a(rgb: np.ndarray) -> Prediction:
    return Prediction(rgb[..., 0], rgb[..., 2])


def b(rgb: np.ndarray) -> Prediction:
    return Prediction(rgb[..., 1], rgb[..., 2])


def drive(*rows: str) -> Drive:
    return Drive((MadeFrames("made", Path(), rows),), ("made",), "")


def test_pixels_of_all_frames_have_the_same_chance() -> None:
    found, questions = examine(drive("15", "0", "5"), range(3), a, b, 4000, 0)
    assert found == Disagreement(3, 0, 1200, {(0, 1): 300, (0, 3): 100})
    assert found.share == pytest.approx(1 / 3)
    frames = Counter(question.frame for question in questions)
    assert abs(frames[0] - 3000) < 110
    assert frames[1] == 0
    rows = Counter(question.y for question in questions if question.frame == 0)
    assert set(rows) == set(range(15))
    assert min(rows.values()) > 130
    assert abs(sum(question.a_first for question in questions) - 2000) < 130
    assert all((question.a, question.b) == (0, question.frame + 1) for question in questions)


def test_other_draws_are_other_questions_and_the_same_draws_the_same() -> None:
    draws = [examine(drive("15", "5"), range(2), a, b, 20, seed)[1] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_frames_that_cannot_be_read_are_left_out_and_counted() -> None:
    seen: list[tuple[int, int]] = []
    found, questions = examine(drive("15", "damaged", "5"), range(3), a, b, 10, 0, lambda *step: seen.append(step))
    assert (found.frames, found.unreadable, found.pixels) == (2, 1, 800)
    assert {question.frame for question in questions} <= {0, 2}
    assert seen[-1] == (3, 3)
    with pytest.raises(DataError, match="none of 2 frames can be read; the first: image 0"):
        examine(drive("damaged", "damaged"), range(2), a, b, 10, 0)


def test_models_that_agree_leave_nothing_to_ask() -> None:
    found, questions = examine(drive("15"), range(1), a, a, 10, 0)
    assert (found.share, questions) == (0.0, [])


def test_counts_survive_a_file() -> None:
    found = replace(examine(drive("15", "5"), range(2), a, b, 1, 0)[0], unreadable=3)
    assert Disagreement.from_dict(found.to_dict()) == found
