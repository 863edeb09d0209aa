"""The recipe of an adaptation: scaled to the frames at hand, started from the given model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY

from hrda_core.adaptation.efforts import EFFORTS, Labels, effort_named
from hrda_core.adaptation.recipe import SourceFolder, adaptation_recipe
from hrda_core.adaptation.stages.train import smallest_size
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference.bundle import Bundle
from hrda_core.input_scale import InputScale
from hrda_core.label_files import label_space_values, read_label_space
from hrda_core.labels import CITYSCAPES19, IdTable, LabelSpace
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.spaces import recipe_space, with_space

SOURCE = SourceFolder("made up", "CC0", Path("i"), Path("l"), Path("n"), height=480, width=640, rcs_min_pixels=458)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = write_tiny_bundle(tmp_path_factory.mktemp("given"), preset="hrda_lite", long_side=640)
    return Bundle.open(folder)


def _recipe(
    bundle: Bundle,
    size: tuple[int, int] = (360, 480),
    effort: str = "quick",
    *,
    labels: Labels = "teacher",
    mic: bool = False,
    imagenet: Path | None = None,
    source_is_pseudo: bool = False,
    sources: Sequence[SourceFolder] = (SOURCE,),
) -> Recipe:
    return adaptation_recipe(
        bundle,
        sources,
        Path("frames"),
        size,
        EFFORTS[effort],
        name="adapted",
        labels=labels,
        mic=mic,
        imagenet=imagenet,
        source_is_pseudo=source_is_pseudo,
    )


def test_quick_is_the_size_of_the_published_comparison(bundle: Bundle) -> None:
    recipe = _recipe(bundle)
    assert (recipe.crop.height, recipe.crop.width) == (192, 256)
    assert recipe.model.overrides["detail_crop"] == [96, 128]
    assert recipe.iterations == 160
    assert recipe.feature_distance.weight > 0
    assert recipe.model.weights == bundle.path / "model.safetensors"


def test_mic_is_an_option_and_hides_larger_patches_on_larger_crops(bundle: Bundle) -> None:
    assert _recipe(bundle).self_training.mic is None
    small = _recipe(bundle, mic=True).self_training.mic
    large = _recipe(bundle, (1080, 1920), "full", mic=True).self_training.mic
    assert small is not None
    assert large is not None
    assert (small.block, large.block) == (32, 64)


def test_frames_are_trained_on_as_the_node_shrinks_them(bundle: Bundle) -> None:
    recipe = _recipe(bundle)
    assert recipe.target is not None
    assert (recipe.target.long_side, recipe.target.resize) == (640, None)
    assert recipe.crop.interpolation == "area"


def test_the_smallest_frame_is_the_smallest_after_shrinking(tmp_path: Path) -> None:
    for name, size in (("small.png", (480, 640)), ("wide.png", (1080, 1920))):
        cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    frames = open_unlabelled(tmp_path)
    assert smallest_size(frames, InputScale(640)) == (360, 640)
    assert smallest_size(frames, InputScale()) == (480, 640)


def test_source_and_target_are_seen_at_about_one_size(bundle: Bundle) -> None:
    large, small = replace(SOURCE, name="large", height=960, width=1280), replace(SOURCE, height=360, width=480)
    parts = _recipe(bundle, (360, 480), labels="once", sources=(large, small)).sources
    assert [part.name for part in parts] == ["large", "made up"]
    ranges = [(part.scale_min, part.scale_max) for part in parts]
    assert ranges == [pytest.approx((0.67 * ratio, 1.33 * ratio)) for ratio in (480 / 1280, 1)]


def test_labels_that_are_given_once_are_one_of_the_sources_and_a_teacher_has_the_frames_alone(bundle: Bundle) -> None:
    own = replace(SOURCE, name="own labels")
    once = _recipe(bundle, labels="once", sources=(SOURCE, own))
    assert (once.method, once.target, once.average) == ("supervised", None, EFFORTS["quick"].alpha)
    assert [part.share for part in once.sources] == [1, 1]
    assert once.model == _recipe(bundle).model
    beside = _recipe(bundle)
    assert (beside.method, beside.self_training.alpha) == ("self_training", EFFORTS["quick"].alpha)
    assert beside.target is not None
    assert beside.target.path == Path("frames")
    assert [EFFORTS[name].labels for name in ("quick", "normal", "full")] == ["once", "once", "teacher"]


def test_an_encoder_without_imagenet_weights_goes_without_feature_distance_and_says_so(bundle: Bundle) -> None:
    other = replace(bundle, manifest={**bundle.manifest, "overrides": TINY})
    recipe = _recipe(other)
    assert recipe.feature_distance.weight == 0
    assert any("no feature distance" in note for note in recipe.paper)
    assert _recipe(other, imagenet=Path("weights.pth")).feature_distance.weight > 0


def test_pseudo_labels_as_source_are_not_augmented_photometrically(bundle: Bundle) -> None:
    assert _recipe(bundle).appearance.photometric
    assert not _recipe(bundle, source_is_pseudo=True).appearance.photometric


def test_tiny_frames_are_refused_with_the_size_that_would_do(bundle: Bundle) -> None:
    with pytest.raises(DataError, match=r"96x96 pixels are too small .* at least 117 pixels"):
        _recipe(bundle, (96, 96))


@given(st.integers(130, 2200), st.integers(130, 4000), st.sampled_from(["quick", "normal", "full"]))
def test_every_crop_fits_its_frames_at_the_smallest_scale(height: int, width: int, effort: str) -> None:
    recipe = _recipe(_made_up(), (height, width), effort)
    assert recipe.target is not None
    assert int(height * recipe.target.scale_min + 0.5) >= recipe.crop.height
    assert int(width * recipe.target.scale_min + 0.5) >= recipe.crop.width
    assert recipe.crop.height % 64 == recipe.crop.width % 64 == 0


def test_the_network_learns_the_classes_of_the_given_model_from_the_ids_of_the_source(bundle: Bundle) -> None:
    yard = LabelSpace("yard", ("floor", "robot", "crate"), things=(1, 2))
    ids = IdTable.from_ids("streets", {0: 0, 1: 0, 13: 1})
    source = replace(SOURCE, label_space=label_space_values(yard, ids))
    recipe = with_space(_recipe(replace(bundle, label_space=yard), sources=(source,)))
    assert recipe_space(recipe) == yard
    assert recipe.sources[0].label_space is not None
    found = read_label_space(recipe.sources[0].label_space, yard)[1]
    assert found is not None
    np.testing.assert_array_equal(found.table, ids.table)


def test_an_unknown_effort_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="instant, quick, normal, full"):
        effort_named("fast")


def _made_up() -> Bundle:
    return Bundle(
        Path("given"),
        "given",
        "hrda_lite",
        CITYSCAPES19,
        (127.5,) * 3,
        (127.5,) * 3,
        64,
        InputScale(),
        0.5,
        "tiles",
        {},
        (),
        {},
    )
