"""ClassMix: the reference's draws and pictures."""

from __future__ import annotations

import numpy as np
import torch
from golden import golden_fixture, relative_error
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.uda.class_mix import class_mask, draw_classes, mix

load = golden_fixture()


def test_draws_masks_and_mixes_equal_the_reference(load) -> None:  # type: ignore[no-untyped-def]
    expected = load("classmix")
    labels = torch.from_numpy(expected["src_label"][:, 0].astype(np.int64))
    candidates = np.unique(labels.numpy())
    np.testing.assert_array_equal(candidates, expected["batch_unique"])
    rng = np.random.RandomState(int(expected["np_seed"]))
    chosen = [draw_classes(candidates, rng) for _ in range(2)]
    for index in range(2):
        np.testing.assert_array_equal(chosen[index], expected[f"chosen_cls_img{index}"])
    mask = torch.stack([class_mask(image, classes) for image, classes in zip(labels, chosen, strict=True)])
    np.testing.assert_array_equal(mask.numpy(), expected["mask"][:, 0])
    images = mix(mask, *(torch.from_numpy(expected[name].astype(np.float32)) for name in ("src_img", "trg_img")))
    assert relative_error(expected.sample("mixed_img", images), expected["mixed_img"]) <= 1e-3  # stored as float16
    mixed = mix(mask, labels, torch.from_numpy(expected["trg_label"].astype(np.int64)))
    np.testing.assert_array_equal(mixed.numpy(), expected["mixed_label"][:, 0])
    weight = torch.from_numpy(expected["in_weight"])
    mixed_weight = mix(mask, torch.ones_like(weight), weight)
    np.testing.assert_array_equal(mixed_weight.numpy(), expected["mixed_weight"][:, 0])


@given(st.sets(st.integers(0, 255), min_size=1, max_size=20), st.integers(0, 2**31))
def test_half_of_the_classes_rounded_up_is_drawn_once_each(classes: set[int], seed: int) -> None:
    candidates = np.array(sorted(classes))
    drawn = draw_classes(candidates, np.random.RandomState(seed))
    assert len(drawn) == len(set(drawn.tolist())) == -(-len(candidates) // 2)
    assert set(drawn.tolist()) <= classes
