"""Palette lookup and blending."""

from __future__ import annotations

import numpy as np

from hrda_core.inference.overlay import blend, colorize
from hrda_core.labels import CITYSCAPES19

GENERATOR = np.random.default_rng(5)
TABLE = CITYSCAPES19.color_table()


def test_every_id_gets_exactly_its_colour() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(colorize(labels, TABLE), TABLE[labels])


def test_colours_are_written_into_the_given_memory() -> None:
    labels = GENERATOR.integers(0, 256, (9, 13), np.uint8)
    out = np.zeros((9, 13, 3), np.uint8)
    assert colorize(labels, TABLE, out) is out
    np.testing.assert_array_equal(out, TABLE[labels])


def test_strided_labels_are_coloured() -> None:
    labels = GENERATOR.integers(0, 19, (20, 30), np.uint8)[3:15, 2:21]
    np.testing.assert_array_equal(colorize(labels, TABLE), TABLE[labels])


def test_blend_is_the_rounded_weighted_mean() -> None:
    rgb, color = GENERATOR.integers(0, 256, (2, 11, 7, 3), np.uint8)
    for alpha in (0.0, 0.25, 0.5, 1.0):
        expected = (1 - alpha) * rgb + alpha * color
        assert np.abs(blend(rgb, color, alpha) - expected).max() <= 0.5
    np.testing.assert_array_equal(blend(rgb, color, 0.0), rgb)
    np.testing.assert_array_equal(blend(rgb, color, 1.0), color)


def test_blend_may_overwrite_the_colours_but_leaves_the_picture() -> None:
    rgb, color = GENERATOR.integers(0, 256, (2, 11, 7, 3), np.uint8)
    before, expected = rgb.copy(), blend(rgb, color, 0.3)
    assert blend(rgb, color, 0.3, out=color) is color
    np.testing.assert_array_equal(color, expected)
    np.testing.assert_array_equal(rgb, before)
