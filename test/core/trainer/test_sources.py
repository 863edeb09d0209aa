"""The data sets of a recipe, opened: several sources and several targets as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig
from hrda_core.errors import RecipeError
from hrda_core.trainer.loading import load_recipe
from hrda_core.trainer.loop import fit
from hrda_core.trainer.recipe import ModelConfig, Recipe, check_keys
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, TargetPartConfig
from hrda_core.trainer.samples import MixedSamples, SourceSample
from hrda_core.trainer.sources import open_sources, open_target
from hrda_core.trainer.spaces import with_space


def _source(root: Path, name: str, count: int, **options: object) -> dict[str, object]:
    images, labels = write_street_images(root / name, count=count)
    return {"name": name, "images": images, "labels": labels, **options}


SPACE = "classes: [rest, car]\nids: {0: rest, 2: rest, 10: rest, 13: car}\n"
OTHER = "classes: [rest, car]\nids: {0: car, 2: car, 10: car, 13: rest}\n"


def _recipe(*sources: SourceConfig, **changes: Any) -> Recipe:
    crop = CropConfig(64, 64, max_class_share=1.0)
    model = ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True)
    plain = AppearanceConfig(photometric=False)
    return Recipe("several", list(sources), crop=crop, appearance=plain, model=model, iterations=2, **changes)


def _drawn(recipe: Recipe, count: int) -> list[SourceSample]:
    source = open_sources(recipe, 0, 1, lambda text: None).samples.source
    return [source.draw(np.random.RandomState(seed)) for seed in range(count)]


def test_a_source_is_drawn_by_its_share_and_not_by_its_number_of_images(tmp_path: Path) -> None:
    large = SourceConfig(**_source(tmp_path, "large", 5), share=1, rcs_temperature=0)
    small = SourceConfig(**_source(tmp_path, "small", 1), share=3, rcs_temperature=0)
    for file in small.images.rglob("frame*"):  # type: ignore[union-attr]
        cv2.imwrite(str(file), np.full((96, 128, 3), 255, np.uint8))
    said: list[str] = []
    samples = open_sources(_recipe(large, small), 0, 1, said.append).samples.source
    white = [samples.draw(np.random.RandomState(seed)).image.min() > 0.9 for seed in range(400)]
    assert 0.69 < np.mean(white) < 0.81
    line = next(text for text in said if text.startswith("source: "))
    assert line == ("source: large, 5 labelled images, 25 % of the draws + small, 1 labelled images, 75 % of the draws")
    assert len(samples) == 6
    assert samples.draw_from(5, np.random.RandomState(0)).image.min() > 0.9
    assert samples.draw_from(4, np.random.RandomState(0)).image.min() < 0.9


def test_rare_classes_are_drawn_within_the_source_that_the_share_has_chosen(tmp_path: Path) -> None:
    plain = SourceConfig(**_source(tmp_path, "plain", 3), share=1, rcs_min_pixels=10)
    rare = SourceConfig(**_source(tmp_path, "rare", 4), share=1, rcs_min_pixels=10)
    labels = sorted(Path(str(rare.labels)).rglob("*.png"))
    shown = cv2.imread(str(labels[2]), cv2.IMREAD_UNCHANGED)
    assert shown is not None
    shown[20:60, 20:60] = 5  # poles, in one image of seven
    cv2.imwrite(str(labels[2]), shown)
    with_pole = [bool((sample.labels == 5).any()) for sample in _drawn(_recipe(plain, rare), 300)]
    # Half of the draws are of the source with the pole, and there it is the rarest of four classes.
    assert 0.1 < np.mean(with_pole) <= 0.5


def test_one_source_in_a_list_draws_what_it_draws_alone(tmp_path: Path) -> None:
    one = SourceConfig(**_source(tmp_path, "one", 3), share=0.2, rcs_min_pixels=100)
    alone = replace(_recipe(one), source=one)
    for a, b in zip(_drawn(_recipe(one), 5), _drawn(alone, 5), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_each_source_has_its_own_ids_size_and_audit(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "other.yaml").write_text(OTHER)
    one = SourceConfig(**_source(tmp_path, "one", 2, label_space=tmp_path / "space.yaml"), rcs_temperature=0)
    other = SourceConfig(
        **_source(tmp_path, "other", 2, label_space=tmp_path / "other.yaml"), rcs_temperature=0, resize=(256, 192)
    )
    recipe = with_space(_recipe(one, other))
    assert isinstance(recipe.source, list)
    sources = open_sources(recipe, 0, 1, lambda text: None)
    assert sources.audit.count("2 labelled images") == 2
    assert sources.sizes.trained == (128, 256)
    assert isinstance(sources.samples.source, MixedSamples)
    first, second = sources.samples.source.parts
    # The same streets: a car of the one is what the other calls the rest, and the other is seen at twice the size.
    np.testing.assert_array_equal(first.pairs.load(0)[1] == 1, second.pairs.load(0)[1] == 0)
    assert (first.crop.size(96, 128), second.crop.size(96, 128)) == ((96, 128), (192, 256))


def test_several_sources_train_and_the_run_says_it(tmp_path: Path) -> None:
    sources = [SourceConfig(**_source(tmp_path, name, 2), licence=f"of {name}") for name in ("one", "other")]
    fit(_recipe(*sources), tmp_path / "run")
    found = load_recipe(tmp_path / "run")
    assert [part.name for part in found.sources] == ["one", "other"]
    assert found.provenance("student")["source_licence"] == "of one + of other"


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "an empty list"),
        ([SourceConfig("a"), SourceConfig("b"), SourceConfig("a")], "two sources have the name 'a'"),
        ([SourceConfig("a"), SourceConfig("b", layout="none")], "there are 2 sources"),
    ],
)
def test_a_list_that_makes_no_sense_is_one_sentence(sources: list[SourceConfig], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Recipe("bad", sources)


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan"), float("inf")])
def test_a_share_is_a_number_above_zero(share: float) -> None:
    with pytest.raises(RecipeError, match="source 'x': share is"):
        SourceConfig("x", share=share)


def test_the_recipe_of_a_run_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    source = {"name": "a", "repeat": 3, "rcs_min_pixels": 7, "more": [{"name": "b", "repeat": 1}]}
    values = {"name": "old", "model": {"preset": "hrda_lite"}, "source": source}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    found = load_recipe(tmp_path).sources
    assert [(part.name, part.share, part.rcs_min_pixels) for part in found] == [("a", 3, 7), ("b", 1, 7)]
    source["more"] = []
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert isinstance(load_recipe(tmp_path).source, SourceConfig)


def test_several_targets_are_one_and_every_image_is_reached_by_index(tmp_path: Path) -> None:
    first, _ = write_street_images(tmp_path / "first", count=2)
    second, _ = write_street_images(tmp_path / "second", count=3)
    config = TargetConfig("first", first, repeat=2, more=[TargetPartConfig("second", second)])
    frames = open_target(config)
    assert len(frames) == 7
    loaded = [frames.load(index) for index in range(7)]
    np.testing.assert_array_equal(loaded[0], loaded[2])
    alone = open_target(TargetConfig("second", second))
    for index in range(3):
        np.testing.assert_array_equal(loaded[4 + index], alone.load(index))
    assert len(list(frames.sizes())) == 5
    assert frames.describe().count("images of") == 2
    with pytest.raises(IndexError):
        frames.load(7)


def test_a_target_that_is_listed_less_than_once_is_refused() -> None:
    with pytest.raises(RecipeError, match="'x': repeat is 0; give 1 or more"):
        TargetPartConfig("x", repeat=0)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([{"name": "a", "imges": "b"}], r"recipe key 'source\.imges' is not known; did you mean 'source\.images'"),
        ({5: "b"}, r"recipe key 'source\.5' is not known; known: name"),
        ({"name": "a", "more": []}, r"'source\.more' is not known; write several sources as a list"),
        ([{"name": "a", "repeat": 2}], r"'source\.repeat' is not known; .*a share of the draws"),
    ],
)
def test_a_key_of_a_source_that_there_is_not_is_refused_with_the_cure(source: Any, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        check_keys({"source": source})


def test_the_model_card_names_every_data_set_and_each_licence_once() -> None:
    recipe = Recipe(
        "two",
        [
            SourceConfig("a", licence="CC0"),
            SourceConfig("b", licence="MIT"),
            SourceConfig("c", licence="CC0"),
        ],
        method="self_training",
        target=TargetConfig(
            "d", Path("d"), licence="MIT", more=[TargetPartConfig("e", Path("e"), licence="CC BY 4.0")]
        ),
    )
    facts = recipe.provenance("teacher")
    assert (facts["source_data"], facts["source_licence"]) == ("a + b + c", "CC0 + MIT")
    assert facts["target_data"] == "d + e: images alone, no labels"
    assert facts["target_licence"] == "MIT + CC BY 4.0"
