"""The feature distance: the reference's cells, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden_fixture, relative_error

from hrda_core.labels import CITYSCAPES19
from hrda_core.uda.feature_distance import downscale_labels, thing_feature_distance
from hrda_core.uda.step import StepContext

load = golden_fixture()


@pytest.mark.parametrize("cell", [4, 8, 16, 32])
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_cells_equal_the_reference(load, cell: int, share: float) -> None:  # type: ignore[no-untyped-def]
    expected = load("feature_distance")
    labels = torch.from_numpy(expected["label"][:, 0].astype(np.int64))
    cells = downscale_labels(labels, cell, share, 19)
    np.testing.assert_array_equal(cells.numpy(), expected[f"down_s{cell}_r{share}"][:, 0])


def test_distance_and_gradient_equal_the_reference(load) -> None:  # type: ignore[no-untyped-def]
    expected = load("feature_distance")
    labels = torch.from_numpy(expected["label"][:, 0].astype(np.int64))
    student = torch.from_numpy(expected["feat"]).requires_grad_()
    imagenet = torch.from_numpy(expected["feat_imnet"])
    assert CITYSCAPES19.things == tuple(expected["thing_classes"].tolist())
    distance = thing_feature_distance(student, imagenet, labels, CITYSCAPES19.things, num_classes=19)
    assert float(distance.detach()) == pytest.approx(float(expected["dist_masked"]), rel=1e-6)
    (0.005 * distance).backward()
    assert student.grad is not None
    assert relative_error(student.grad, expected["grad_feat"]) <= 1e-6
    everywhere = thing_feature_distance(student, imagenet, labels, (), num_classes=19)
    assert float(everywhere.detach()) == pytest.approx(float(expected["dist_unmasked"]), rel=1e-6)


def test_without_a_thing_the_loss_and_its_gradient_are_zero() -> None:
    student = torch.rand(1, 4, 2, 2, requires_grad=True)
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    distance = thing_feature_distance(student, torch.rand(1, 4, 2, 2), labels, (13,), num_classes=19)
    distance.backward()
    assert float(distance.detach()) == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_equal_features_give_finite_gradients() -> None:
    student, labels = torch.ones(1, 4, 2, 2, requires_grad=True), torch.zeros(1, 64, 64, dtype=torch.int64)
    thing_feature_distance(student, torch.ones(1, 4, 2, 2), labels, (), num_classes=19).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("height", "width"), [(96, 160), (160, 96), (96, 96), (32, 96), (128, 192), (64, 64)])
def test_t3_cells_are_those_of_the_stride_where_it_does_not_divide_the_image(height: int, width: int) -> None:
    rows, columns = -(-height // 64), -(-width // 64)  # an encoder of stride 32 that sees the image at half size
    labels = torch.zeros(1, height, width, dtype=torch.int64)
    labels[:, :, 64:] = 13
    imagenet = torch.zeros(1, 4, rows, columns)
    imagenet[..., 0, 1:2] = 3.0  # the second cell of the first row
    distance = thing_feature_distance(
        torch.zeros(1, 4, rows, columns), imagenet, labels, (13,), num_classes=19, scale=0.5
    )
    whole = [(row, column) for row in range(height // 64) for column in range(1, width // 64)]
    assert float(distance) == pytest.approx(6.0 / len(whole) if (0, 1) in whole else 0.0)


def test_several_processes_share_one_mean() -> None:
    student, imagenet, labels = (
        torch.rand(1, 4, 2, 2),
        torch.rand(1, 4, 2, 2),
        torch.zeros(1, 64, 64, dtype=torch.int64),
    )
    here = thing_feature_distance(student, imagenet, labels, (), num_classes=19)
    # The other process has 12 more cells: this one's 4 cells weigh 4/16, and averaging over two processes halves it.
    shared = thing_feature_distance(
        student, imagenet, labels, (), num_classes=19, context=StepContext(reduce=lambda count: count + 12, processes=2)
    )
    assert float(shared) == pytest.approx(float(here) * 4 / 16 * 2, rel=1e-6)
