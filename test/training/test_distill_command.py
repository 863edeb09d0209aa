"""`hrda distill` as a user meets it: a bundle close to the larger model, resumed exactly; mistakes in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import BundleError, DataError, RecipeError
from hrda_core.folder_locks import held_folder
from hrda_core.inference import Bundle
from hrda_core.models import create_model
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.distill import Larger, Schedule, Slim, distillation_recipe, open_larger
from hrda_core.trainer.guide import inherit, load_guide
from hrda_core.trainer.journal import Progress
from hrda_core.trainer.loading import load_recipe
from hrda_core.trainer.loop import fit
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig
from hrda_training import distill

LARGE = {**TINY, "decoder_channels": 16, "embed_channels": 12}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and labels."""
    folder = tmp_path_factory.mktemp("street")
    write_street_images(folder, count=6)
    return folder


@pytest.fixture(scope="module")
def large(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a larger network that knows the street."""
    run = tmp_path_factory.mktemp("runs") / "large"
    recipe = Recipe(
        name="large",
        source=SourceConfig("street", images=street / "images", labels=street / "labels", rcs_min_pixels=100),
        model=ModelConfig(overrides=LARGE, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
        optim=OptimConfig(lr=3e-3, warmup=2),
        iterations=25,
        average=0.8,
    )
    fit(recipe, run)
    return run


def _options(large: Path, street: Path, out: Path, **changes: str) -> list[str]:
    values = {
        "--out": str(out),
        "--images": str(street / "images"),
        "--decoder_channels": "8",
        "--iterations": "6",
        "--threads": "1",
    } | changes
    return [str(large), *(text for pair in values.items() for text in pair if text)]


class _StopSoon:
    """Asks to stop after the second step."""

    def __init__(self) -> None:
        self._steps = 0

    def __call__(self) -> bool:
        return self._steps == 2

    def seen(self, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        def call(step: Progress) -> None:
            self._steps += 1
            progress(step)

        return call


def test_interrupted_and_resumed_it_leaves_a_bundle_with_its_origin(
    large: Path, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, figures = tmp_path / "slim", tmp_path / "figures.json"
    scored = {"--eval_images": str(street / "images"), "--eval_labels": str(street / "labels")}
    options = _options(large, street, out, **scored, **{"--groups": "camvid11", "--json": str(figures)})
    with monkeypatch.context() as stopping:
        stopping.setattr(distill, "StopRequest", _StopSoon)
        assert distill.main(options) == 130
    assert "--resume" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(RecipeError, match="give --resume"):
        distill.main(options)
    with pytest.raises(RecipeError, match="differs in distillation"):
        distill.main([*options, "--resume", "--temperature", "3"])
    with pytest.raises(RecipeError, match=r"other options \(differs in held_out\)"):
        distill.main([*options, "--resume", "--held_out", "0.4"])
    assert distill.main([*options, "--resume"]) == 0

    run = tmp_path / "slim.work" / "run"
    fit(load_recipe(run), tmp_path / "whole")
    one, two = (load_checkpoint(folder / CHECKPOINT_NAME).tensors for folder in (run, tmp_path / "whole"))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert not any(name.startswith("guide") for name in one)

    bundle = Bundle.open(out)
    origin = bundle.manifest["provenance"]["distillation"]
    assert origin["larger"] == "large"
    assert origin["larger_sha256"] == open_larger(large).guide.sha256
    measured = json.loads(figures.read_text())
    assert origin["measured"] == measured
    assert measured["slim"]["gflop"] < measured["larger"]["gflop"]
    assert measured["slim"]["parameters"] < measured["larger"]["parameters"]
    assert measured["frames"] == 1  # a tenth of six images
    assert measured["larger"]["mean_iou"] > 0.15
    assert "agreement" in capsys.readouterr().out
    assert (run / "report.html").is_file()
    assert len((tmp_path / "slim.work" / "images.txt").read_text().split()) == 5


def test_the_slim_network_comes_to_agree_with_the_larger_one(large: Path, street: Path, tmp_path: Path) -> None:
    schedule = Schedule(iterations=30, lr=1e-2, plan="tiles", start="encoder")
    agreements = [line["metrics"]["agreement"] for line in _log(large, street, schedule, tmp_path) if line["metrics"]]
    assert agreements[-1] > agreements[0] + 0.3, agreements
    weights = json.loads((tmp_path / "environment.json").read_text())["weights"]
    assert weights["source"] == "encoder of the larger network"
    assert weights["loaded"] == weights["of"]


def test_channels_of_the_larger_decoders_are_a_nearer_start_than_random_ones(
    large: Path, street: Path, tmp_path: Path
) -> None:
    first = {
        start: _log(large, street, Schedule(iterations=1, start=start), tmp_path / start)[0]["losses"]  # type: ignore[arg-type]
        for start in ("slices", "encoder")
    }
    assert first["slices"]["distilled.fused"] < 0.7 * first["encoder"]["distilled.fused"]
    weights = json.loads((tmp_path / "slices" / "environment.json").read_text())["weights"]
    assert weights["source"].endswith("channels of 2 of its decoders")
    assert weights["loaded"] == weights["of"]


def _log(large: Path, street: Path, schedule: Schedule, run: Path) -> list[Any]:
    fit(_recipe(large, street, schedule), run)
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _recipe(large: Path, street: Path, schedule: Schedule, slim: Slim | None = None, **changes: object) -> Recipe:
    return distillation_recipe(
        open_larger(large),
        slim or Slim(8),
        schedule,
        name="slim",
        target=TargetConfig("street", path=street / "images"),
        image_size=(96, 128),
        **changes,  # type: ignore[arg-type]
    )


def test_the_recipe_fits_the_images_and_the_larger_network(large: Path, street: Path) -> None:
    recipe = _recipe(large, street, Schedule())
    assert (recipe.crop.height, recipe.crop.width) == (64, 64)
    assert recipe.model.overrides["detail_crop"] == [32, 32]
    assert recipe.target is not None
    assert (recipe.target.scale_min, recipe.target.scale_max) == (0.75, 1.0)
    assert {recipe.model.overrides[f"{part}_channels"] for part in ("decoder", "embed", "attention")} == {8}
    assert recipe.model.overrides["encoder"] == LARGE["encoder"]
    assert recipe.model.freeze_encoder_norm
    wide = _recipe(large, street, Schedule(), Slim(8, 4, 2)).model.overrides
    assert (wide["embed_channels"], wide["attention_channels"]) == (4, 2)


def test_another_encoder_brings_its_own_normalisation_and_start(large: Path, street: Path) -> None:
    recipe = _recipe(large, street, Schedule(), Slim(8, encoder="resnet18", allow_random_backbone=True))
    assert recipe.model.overrides["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert not recipe.model.freeze_encoder_norm
    assert not recipe.model.imagenet
    packaged = _recipe(large, street, Schedule(), Slim(8, encoder="tf_efficientnet_lite0"))
    assert packaged.model.imagenet
    assert packaged.model.overrides["mean"] == [127.5] * 3


def test_images_too_small_for_a_crop_are_named(large: Path) -> None:
    with pytest.raises(DataError, match="80x60"):
        distillation_recipe(
            open_larger(large), Slim(8), Schedule(), name="x", target=TargetConfig("small"), image_size=(60, 80)
        )


def test_an_encoder_of_another_kind_is_not_inherited() -> None:
    one, other = create_model("hrda_lite", **TINY), create_model("hrda_lite", **{**TINY, "encoder": "resnet18"})
    assert inherit(other, one) is None
    same = create_model("hrda_lite", **TINY)
    report = inherit(same, one)
    assert report is not None
    assert report["loaded"] == report["of"]
    theirs = one.backbone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in same.backbone.state_dict().items())


def test_a_larger_network_that_changed_since_is_refused(large: Path, tmp_path: Path) -> None:
    guide = open_larger(large).guide
    weights = {name: value.clone() for name, value in load_file(guide.weights).items()}
    weights["decode_head.head.conv_seg.bias"] += 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RecipeError, match="have changed"):
        load_guide(replace(guide, weights=tmp_path / "model.safetensors"), 19)
    with pytest.raises(DataError, match="not those of the larger network"):
        load_guide(replace(guide, overrides=TINY), 19)
    with pytest.raises(RecipeError, match="'large' has 19 classes, the recipe 7"):
        load_guide(guide, 7)


def test_a_crop_off_the_grid_of_the_encoder_is_refused(large: Path, street: Path) -> None:
    with pytest.raises(RecipeError, match="multiples of 64 pixels, not 96 64"):
        _recipe(large, street, Schedule(crop=(96, 64)))


def test_a_recipe_without_guide_or_labels_is_refused(large: Path, street: Path) -> None:
    recipe = _recipe(large, street, Schedule())
    with pytest.raises(RecipeError, match=r"give distillation\.guide"):
        replace(recipe, distillation=None)
    with pytest.raises(RecipeError, match="learns from labelled images"):
        replace(recipe, method="supervised")


def test_the_scale_of_labelled_images_follows_their_size(large: Path, street: Path) -> None:
    source = SourceConfig("street", images=street / "images", labels=street / "labels")
    recipe = _recipe(large, street, Schedule(), source=source, source_size=(192, 256))
    assert recipe.crop.scale_max == pytest.approx(1.33 / 2)
    assert recipe.source is source


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--images": ""}, "either --images FOLDER or --bag"),
        ({"--images": "absent"}, "'absent' is not a folder"),
        ({"--eval_images": "x"}, "both --eval_images and --eval_labels"),
        ({"--start": "zero"}, "--start: expected slices or encoder"),
        ({"--groups": "camvid12"}, "groups 'camvid12' are not known"),
        ({"--held_out": "0.9"}, "--held_out is a share"),
        ({"--temperature": "-1"}, "temperature"),
        ({"--decoder_channels": "0"}, "decoder_channels must be a whole number"),
        ({"--encoder": "resnet1000"}, "there is no encoder 'resnet1000'"),
        ({"--encoder": "resnet18"}, "random weights"),
        ({"--crop": "48"}, "crop"),
        ({"--plan": "nestedd"}, "window plan 'nestedd'"),
        ({"--source": "absent"}, "'absent' is no folder"),
        ({"--lr": "fast"}, "lr"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_bundle(
    large: Path, street: Path, tmp_path: Path, changes: dict[str, str], sentence: str
) -> None:
    options = _options(large, street, tmp_path / "slim", **changes)
    if changes.get("--images") == "":
        options.remove("--images")
    with pytest.raises(Exception, match=sentence) as refused:
        distill.main(options)
    assert type(refused.value).__module__ == "hrda_core.errors"
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "slim").exists()


def test_a_mistake_that_is_mended_can_be_called_again(large: Path, street: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="resnet1000"):
        distill.main(_options(large, street, tmp_path / "slim", **{"--encoder": "resnet1000"}))
    with pytest.raises(RecipeError, match="temperature"):  # reaches as far as the first call: no word of other options
        distill.main(_options(large, street, tmp_path / "slim", **{"--temperature": "-1"}))


def test_t9_two_at_once_the_second_call_for_a_result_is_one_sentence(large: Path, street: Path, tmp_path: Path) -> None:
    work = tmp_path / "slim.work"
    with held_folder(work, "distilling"):
        with pytest.raises(RecipeError, match=r"process \d+ is distilling in '.*slim.work'; wait until it has ended"):
            distill.main(_options(large, street, tmp_path / "slim"))
        assert [path.name for path in tmp_path.rglob("*")] == ["slim.work", ".lock"]


def test_neither_a_foreign_folder_nor_the_larger_model_is_overwritten(
    large: Path, street: Path, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(BundleError, match="no earlier result"):
        distill.main(_options(large, street, tmp_path))
    with pytest.raises(RecipeError, match="is the larger model"):
        distill.main(_options(large, street, large))


def test_a_recipe_that_names_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    with pytest.raises(DataError, match=r"names no model\.preset"):
        open_larger(tmp_path)


def test_a_model_without_weights_is_refused(street: Path, tiny_bundle: Path) -> None:
    with pytest.raises(Exception, match=r"has no model\.safetensors"):
        open_larger(tiny_bundle)


def test_a_run_that_is_not_finished_is_refused(large: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text((large / "recipe.yaml").read_text())
    with pytest.raises(DataError, match="is not finished"):
        open_larger(tmp_path)


def test_help_needs_no_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as ended:
        distill.main(["--help"])
    assert ended.value.code == 0
    assert "--decoder_channels" in capsys.readouterr().out


def test_what_a_larger_model_says_of_its_tiles_is_kept(large: Path) -> None:
    found = open_larger(large)
    assert isinstance(found, Larger)
    assert (found.grid, found.scale.trained) == ((2, 2), (128, 128))
