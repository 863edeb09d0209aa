"""Colour jitter and blur: the reference's values, and what each operation leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden_fixture, relative_error

from hrda_core.uda.augment import JitterDraw, blur_kernel_size, color_jitter, draw_jitter, gaussian_blur

load = golden_fixture()

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.mark.parametrize("case", range(4))
def test_jitter_equals_the_reference(load, case: int) -> None:  # type: ignore[no-untyped-def]
    expected = load("augment")
    order = tuple(expected[f"jit{case}_order"].tolist())
    brightness, contrast, hue, saturation = expected[f"jit{case}_factors_b_c_h_s"].tolist()
    draw = JitterDraw(order, brightness, contrast, saturation, hue)
    jittered = color_jitter(torch.from_numpy(expected["x"]), [draw], MEAN, STD)
    assert relative_error(expected.sample(f"jit{case}_out", jittered), expected[f"jit{case}_out"]) <= 1e-5


@pytest.mark.parametrize("sigma", [0.15, 0.6, 1.15])
def test_blur_equals_the_reference(load, sigma: float) -> None:  # type: ignore[no-untyped-def]
    expected = load("augment")
    blurred = gaussian_blur(torch.from_numpy(expected["x"]), [sigma])
    assert relative_error(expected.sample(f"blur_sigma{sigma}", blurred), expected[f"blur_sigma{sigma}"]) <= 1e-5


def test_kernel_sizes_equal_the_reference(load) -> None:  # type: ignore[no-untyped-def]
    for side, size in load("augment")["blur_kernel_size_for_dim"].tolist():
        assert blur_kernel_size(side) == size


def test_neutral_factors_change_nothing() -> None:
    images = (torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0)) - 0.45) * 3
    neutral = JitterDraw((0, 1, 2, 3), 1.0, 1.0, 1.0, 0.0)
    inside = color_jitter(images, [neutral] * 2, (0.45 * 255,) * 3, (255 / 3,) * 3)
    torch.testing.assert_close(inside, images, atol=1e-5, rtol=0)


def test_hue_and_saturation_keep_the_value_of_a_pixel() -> None:
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    for draw in (JitterDraw((3,), 1, 1, 1, 0.17), JitterDraw((2,), 1, 1, 1.4, 0)):
        changed = color_jitter(image, [draw], (0,) * 3, (255,) * 3)
        torch.testing.assert_close(changed.amax(1), image.amax(1))
        assert not torch.allclose(changed, image, atol=1e-2)


def test_draws_cover_the_range_and_every_order() -> None:
    rng = np.random.RandomState(0)
    draws = [draw_jitter(rng, 0.2) for _ in range(2000)]
    assert len({draw.order for draw in draws}) == 24
    for values, low, high in (([d.contrast for d in draws], 0.8, 1.2), ([d.hue for d in draws], -0.2, 0.2)):
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high
