"""The scale at which a network sees images: sizes, sentences, and what is kept in a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hrda_core.input_scale import InputScale, trained_sides


@pytest.mark.parametrize(
    ("scale", "image", "seen"),
    [
        (InputScale(), (480, 640), (480, 640)),
        (InputScale(640), (1080, 1920), (360, 640)),
        (InputScale(640), (240, 320), (240, 320)),
        (InputScale(resize=(1024, 512)), (1024, 2048), (512, 1024)),
        (InputScale(resize=(1024, 512)), (256, 512), (512, 1024)),  # smaller images are enlarged
        (InputScale(resize=(1280, 720)), (1052, 1914), (704, 1280)),
        (InputScale(320, resize=(1280, 720)), (1052, 1914), (176, 320)),
    ],
)
def test_an_image_reaches_the_network_at_the_declared_size(
    scale: InputScale, image: tuple[int, int], seen: tuple[int, int]
) -> None:
    assert scale.size(*image) == seen
    assert scale.apply(np.zeros((*image, 3), np.uint8)).shape == (*seen, 3)


def test_it_is_the_same_after_it_was_kept() -> None:
    for scale in (InputScale(), InputScale(640, (1024, 512), "bilinear", (480, 640))):
        assert InputScale.from_dict(scale.to_dict()) == scale


def test_a_bundle_of_an_earlier_release_is_shrunk_by_area_and_knows_no_training() -> None:
    assert InputScale.from_dict({"multiple_of": 64, "long_side": 640}) == InputScale(640)


@pytest.mark.parametrize(
    "values",
    [{"long_side": -1}, {"long_side": 0, "interpolation": "cubic"}, {"long_side": 0, "resize": [0, 5]}],
)
def test_values_without_a_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"interpolation|sizes"):
        InputScale.from_dict(values)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ((360, 480), ""),
        ((540, 960), ""),  # 1.5 times the largest
        ((541, 962), "1.5 times larger than those that it was trained on (longer side 480 to 640)"),
        ((1080, 1920), "images of 1920x1080 pixels reach the network with 1920x1080, 3.0 times larger"),
        ((240, 320), ""),  # two thirds of the smallest
        ((120, 160), "3.0 times smaller"),
    ],
)
def test_images_far_from_those_of_the_training_get_a_sentence(image: tuple[int, int], said: str) -> None:
    warning = InputScale(trained=(480, 640)).warning(*image)
    assert said in warning
    assert bool(said) == bool(warning)


def test_what_counts_is_the_size_that_the_network_sees() -> None:
    assert not InputScale(640, trained=(480, 640)).warning(1080, 1920)
    assert "long_side of 640" in InputScale(1920, trained=(480, 640)).warning(1080, 1920)
    assert not InputScale().warning(9000, 9000)  # nothing is known of the training


def test_what_a_user_asks_for_replaces_the_resizing() -> None:
    scale = InputScale(0, (1024, 512), "bilinear", (900, 1024)).only(300)
    assert (scale.size(600, 1200), scale.trained, scale.interpolation) == ((150, 300), (900, 1024), "bilinear")


def test_the_sides_of_a_training_leave_odd_images_out_and_count_the_random_scale() -> None:
    sizes = [(480, 640)] * 98 + [(100, 4000), (20, 30)]
    assert trained_sides(sizes, 0.5, 2.0) == (320, 1280)
    assert trained_sides([], 1, 1) is None
