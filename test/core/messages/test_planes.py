"""Images of one channel as numbers: masks and depth."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from image_messages import image, refusal

from hrda_core.messages import decode_plane

KINDS = {"mono8": "u1", "16UC1": "u2", "32FC1": "f4"}


@pytest.mark.parametrize("encoding", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_numbers_come_out_as_they_were_in_either_byte_order_and_with_padded_rows(
    encoding: str, order: str, padding: int
) -> None:
    kind = np.dtype(KINDS[encoding]).newbyteorder(order)
    numbers = np.random.default_rng(1).uniform(0, 250, (5, 7)).astype(kind)
    message = image(numbers, encoding, padding, is_bigendian=int(order == ">"))
    plane = decode_plane(message, KINDS)
    assert plane.dtype.itemsize == kind.itemsize
    np.testing.assert_array_equal(plane, numbers)


def test_not_a_number_stays_what_it_is() -> None:
    plane = decode_plane(image(np.array([[np.nan, np.inf, 1.5]], np.float32), "32FC1"), KINDS)
    assert np.isnan(plane[0, 0])
    assert plane[0, 1:].tolist() == [np.inf, 1.5]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"encoding": "rgb8"}, "encoding"),
        ({"height": 0}, "empty"),
        ({"step": 13}, "step"),
        ({"height": 6}, "short"),
        ({"width": 2**31, "height": 2**31}, "step"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], cause: str) -> None:
    message = image(np.zeros((5, 7), np.uint16), "16UC1")
    message.__dict__.update(fields)
    assert refusal(message, partial(decode_plane, kinds=KINDS)) == cause
