"""The moving average."""

from __future__ import annotations

import pytest
import torch
from golden import golden_scalars
from torch import nn

from hrda_core.uda.teacher import ema_decay, update_teacher


def test_decay_equals_the_reference() -> None:
    for alpha, values in golden_scalars()["ema_alpha"].items():
        for iteration, expected in values.items():
            assert ema_decay(int(iteration), float(alpha)) == pytest.approx(expected, rel=1e-12)


def test_the_first_update_copies_the_student() -> None:
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    update_teacher(teacher, student, 0, 0.99)
    torch.testing.assert_close(teacher.weight, student.weight)


def test_later_updates_move_parameters_but_not_batchnorm_statistics() -> None:
    teacher, student = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        student.weight.fill_(3)
    student.running_mean.fill_(7)  # type: ignore[union-attr]
    update_teacher(teacher, student, 1, 0.99)
    assert teacher.weight.tolist() == [2, 2]
    assert teacher.running_mean.tolist() == [0, 0]  # type: ignore[union-attr]
