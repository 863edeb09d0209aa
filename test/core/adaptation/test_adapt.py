"""The whole way on a made-up drive: a bag without labels, a source, a given model; a better one, or the old one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from made_bag import write_made_bag
from tiny_network import TINY
from two_domains import draw_street, write_domain

from hrda_core.adaptation.adapt import Outcome, adapt
from hrda_core.adaptation.efforts import EFFORTS, Effort
from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.adopt import export_candidate
from hrda_core.adaptation.stages.frames import choose_frames
from hrda_core.adaptation.stages.instant import INSTANT_FRAMES, adapt_instantly
from hrda_core.adaptation.stages.judge import judge_bundles
from hrda_core.adaptation.stages.train import StoppedError
from hrda_core.comparison.session import Session
from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.data.image_files import read_image
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.deploy.network import load_network as load_bundle_network
from hrda_core.errors import BundleError, DataError, RecipeError
from hrda_core.inference import Bundle, Predictor
from hrda_core.input_scale import InputScale
from hrda_core.labels import CITYSCAPES19
from hrda_core.models.class_bias import bias_in
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.class_shares import run_bias
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import SourceConfig
from hrda_core.uda.adabn import reestimate_batchnorm

SIZE = (144, 192)
SMALL = Effort("small", "for tests", frames=40, iterations=12, alpha=0.9, warmup=2)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source/ (labelled), drive/ (a bag of another look), given/ (a model of the source)."""
    folder = tmp_path_factory.mktemp("adapt")
    source = write_domain(folder / "source", 30, target=False, seed=0, size=SIZE)
    rng = np.random.default_rng(5)
    write_made_bag(folder / "drive", (draw_street(rng, SIZE, target=True)[0] for _ in range(44)), hz=1.0)
    overrides = TINY | {"detail_crop": [32, 48]}
    recipe = Recipe(
        name="given",
        source=SourceConfig("made", images=source / "images", labels=source / "labels", rcs_min_pixels=60),
        model=ModelConfig(overrides=overrides, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 96),
        appearance=AppearanceConfig(photometric=False),
        optim=OptimConfig(lr=2e-3, head_lr_factor=2, warmup=10),
        runtime=RuntimeConfig(threads=1),
        iterations=300,
        batch_size=4,
        average=0.0,
        checkpoint_every=0,
        logit_adjustment=0.2,
    )
    fit(recipe, folder / "run")
    spec = ExportSpec(
        name="given",
        preset="hrda_lite",
        overrides=overrides,
        scale=InputScale(640),
        provenance={"licence": "made up", "settings": recipe.to_dict()},
        label_space=CITYSCAPES19,
        bias=run_bias(folder / "run", recipe),
    )
    network = load_network(folder / "run")
    # Crops of training leave the deepest layers a few values a batch: their running statistics are a matter of luck,
    # and with them the given model's score (20 to 52 % for six seeds; 38 to 61 % so).
    reestimate_batchnorm(network, [_normalised(source)], plan="tiles")
    export_bundle(network, spec, folder / "given", draw_street(rng, (192, 256), target=False)[0])
    return folder


def _normalised(source: Path) -> torch.Tensor:
    images = np.stack([read_image(path) for path in sorted((source / "images").iterdir())])
    return torch.from_numpy((images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5)


def _request(made: Path, folder: Path, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "bag": (made / "drive",),
        "model": made / "given",
        "source": str(made / "source"),
        "out": folder / "out",
        "work": folder / "work",
        "effort": SMALL,
        "threads": 1,
    }
    return Request(**values | changes)


@pytest.fixture(scope="module")
def outcome(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return adapt(_request(made, tmp_path_factory.mktemp("whole"), choose="adapted"))


def test_the_chosen_bundle_is_whole_and_says_where_it_comes_from(outcome: Outcome) -> None:
    bundle = Bundle.open(outcome.bundle)
    facts = bundle.manifest["provenance"]["adaptation"]
    assert facts["choice"] == "adapted"
    assert facts["chosen_by"] == "option"
    assert facts["recordings"] == ["drive"]
    assert "report.html" in bundle.manifest["files"]
    assert list((bundle.path / "samples").glob("*.jpg"))
    assert "no labels" in bundle.manifest["provenance"]["target_data"]
    labels = Predictor(bundle)(draw_street(np.random.default_rng(1), SIZE, target=True)[0]).labels
    assert labels.shape == SIZE


def test_the_report_stands_alone(outcome: Outcome) -> None:
    page = outcome.report.read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert page.count("data:image/") >= 4


def test_every_candidate_was_measured(outcome: Outcome) -> None:
    measures = outcome.to_dict()["measures"]["candidates"]
    assert set(measures) == {"given", "instant", "adapted"}
    assert measures["adapted"]["network_agreement"] is not None
    assert all(found["source_miou"] is not None for found in measures.values())
    assert outcome.selection["kept"] >= 20
    assert outcome.selection["held_out"] >= 4
    json.dumps(outcome.to_dict())


def test_training_starts_from_the_instant_candidate(outcome: Outcome) -> None:
    work = outcome.bundle.parent / "work"
    assert load_recipe(work / "run").model.weights == Bundle.open(work / "instant").file("model.safetensors")


def test_all_candidates_have_the_logit_adjustment_of_the_given_model(made: Path, outcome: Outcome) -> None:
    work = outcome.bundle.parent / "work"
    given, instant, adapted = (
        bias_in(Bundle.open(folder).file("model.safetensors"))
        for folder in (made / "given", work / "instant", work / "adapted")
    )
    recipe = load_recipe(work / "run")
    assert recipe.logit_adjustment == 0.2
    assert given == instant != ()
    # The adapted network is half way from the start, which has its own, to one that was trained without.
    own = run_bias(work / "run", recipe)
    assert own not in ((), given)
    assert adapted == pytest.approx([(one + two) / 2 for one, two in zip(own, given, strict=True)])
    name = "decode_head.head.conv_seg.bias"
    trained = load_checkpoint(work / "run" / CHECKPOINT_NAME).below("teacher")[name]
    start, shipped = (load_bundle_network(Bundle.open(work / n)).state_dict()[name] for n in ("instant", "adapted"))
    untouched = (trained + start - torch.tensor(given)) / 2
    torch.testing.assert_close(shipped - untouched, torch.tensor(adapted), atol=2e-3, rtol=2e-3)


def test_labels_of_its_own_leave_the_model_half_way_to_where_it_started(outcome: Outcome) -> None:
    work = outcome.bundle.parent / "work"
    trained = load_network(work / "run", "teacher").state_dict()
    start, adapted = (load_bundle_network(Bundle.open(work / name)).state_dict() for name in ("instant", "adapted"))
    weights = [name for name in trained if name.endswith("weight") and trained[name].ndim == 4]
    assert any(not torch.allclose(trained[name], start[name], atol=1e-3) for name in weights)
    for name in weights:
        torch.testing.assert_close(adapted[name], (trained[name] + start[name]) / 2, rtol=5e-3, atol=1e-3)
    assert Bundle.open(work / "adapted").manifest["provenance"]["exported_network"] == "mean of teacher and start"


def test_the_adapted_model_has_statistics_of_the_whole_drive_and_not_of_the_last_batches(
    made: Path, outcome: Outcome
) -> None:
    work = outcome.bundle.parent / "work"
    measured = load_bundle_network(Bundle.open(work / "adapted"))
    measured.load_state_dict({**measured.state_dict(), **_statistics(load_network(work / "run", "teacher"))})
    before = {name: value.clone() for name, value in measured.named_buffers()}
    frames = choose_frames((), (), work / "frames", SelectionConfig(), print, lambda *_: None)
    adapt_instantly(measured, Bundle.open(made / "given"), frames.adapt, INSTANT_FRAMES)
    adapted = dict(load_bundle_network(Bundle.open(work / "adapted")).named_buffers())
    half = {"rtol": 5e-3, "atol": 1e-3}  # a bundle's weights are of half precision
    assert any(not torch.allclose(value, before[name], **half) for name, value in measured.named_buffers())
    for name, value in measured.named_buffers():
        torch.testing.assert_close(adapted[name], value, **half)


def _statistics(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.named_buffers())


def test_another_choice_needs_no_second_training(made: Path, outcome: Outcome, tmp_path: Path) -> None:
    work = outcome.bundle.parent / "work"
    shutil.copytree(work, tmp_path / "work")
    request = _request(made, tmp_path, choose="given", out=tmp_path / "kept")
    steps: list[Any] = []
    second = adapt(request, Watch(progress=steps.append))
    assert steps == []
    assert second.choice == "given"
    given = Bundle.open(made / "given")
    assert Bundle.open(second.bundle).manifest["files"]["model.onnx"] == given.manifest["files"]["model.onnx"]


def always(answer: str) -> Any:
    """A person who says the same of every question."""

    def ask(session: Session) -> None:
        while not session.finished:
            session.answer(len(session.answers), answer)

    return ask


@pytest.mark.parametrize(("answer", "chosen_by"), [("a", "person"), ("b", "person"), ("unsure", "verdict")])
def test_a_person_decides_after_the_verdict_and_bundle_and_report_say_so(
    made: Path, outcome: Outcome, tmp_path: Path, answer: str, chosen_by: str
) -> None:
    shutil.copytree(outcome.bundle.parent / "work", tmp_path / "work")
    request = _request(made, tmp_path, ask=True)
    found = adapt(request, ask=always(answer))
    assert found.asked is not None
    candidate = found.verdict.choice if found.verdict.choice != "given" else "adapted"
    assert found.asked.candidate == candidate
    assert found.chosen_by == chosen_by
    assert found.choice == {"a": "given", "b": candidate, "unsure": found.verdict.choice}[answer]
    facts = Bundle.open(found.bundle).manifest["provenance"]["adaptation"]
    assert (facts["choice"], facts["chosen_by"]) == (found.choice, chosen_by)
    person = facts["person"]
    assert person["questions"] == person["answers"][answer] > 0
    assert person["low"] <= person["difference"] <= person["high"]
    assert person["choice"] == (found.choice if chosen_by == "person" else "undecided")
    page = found.report.read_text(encoding="utf-8")
    assert "What a person said" in page
    assert ("A person judged" in page) == (chosen_by == "person")
    json.dumps(found.to_dict())

    def nobody(session: Session) -> None:
        raise AssertionError("the answers are there already")

    assert adapt(request, ask=nobody).choice == found.choice


def test_somebody_must_ask(made: Path, outcome: Outcome, tmp_path: Path) -> None:
    shutil.copytree(outcome.bundle.parent / "work", tmp_path / "work")
    with pytest.raises(RecipeError, match="nobody who asks"):
        adapt(_request(made, tmp_path, ask=True))
    with pytest.raises(RecipeError, match="--choose given has chosen already"):
        _request(made, tmp_path, ask=True, choose="given")


def test_t10_an_interrupted_adaptation_goes_on_and_ends_as_if_it_had_not_been(
    made: Path, outcome: Outcome, tmp_path: Path
) -> None:
    calls = iter(range(100))
    request = _request(made, tmp_path, choose="adapted")
    with pytest.raises(StoppedError, match="goes on from the checkpoint"):
        adapt(request, Watch(should_stop=lambda: next(calls) >= 4))
    assert not request.out.exists()
    resumed = adapt(request)
    one, two = Bundle.open(outcome.bundle), Bundle.open(resumed.bundle)
    assert one.manifest["files"]["model.safetensors"] == two.manifest["files"]["model.safetensors"]


def test_instant_without_a_source_trains_nothing_and_takes_no_labels_which_never_decide(
    made: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(9)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for index in range(4):
        rgb, labels = draw_street(rng, SIZE, target=True)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(tmp_path / "labels" / f"{index}.png"), labels)
    request = _request(made, tmp_path, effort=EFFORTS["instant"], source="none")
    blind = adapt(request)
    assert set(blind.to_dict()["measures"]["candidates"]) == {"given", "instant"}
    assert not (tmp_path / "work" / "run").exists()
    assert blind.choice in ("given", "instant")
    told = adapt(replace(request, eval_images=tmp_path / "images", eval_labels=tmp_path / "labels"))
    assert blind.choice == told.choice
    assert blind.judged.labels_agree is None
    assert told.judged.labels_agree in (True, False)
    assert told.to_dict()["measures"]["candidates"]["given"]["eval_miou"] > 0


def test_without_a_source_the_model_learns_from_its_own_sure_predictions(made: Path, tmp_path: Path) -> None:
    found = adapt(_request(made, tmp_path, source="none", effort=replace(SMALL, iterations=3), choose="adapted"))
    page = found.report.read_text(encoding="utf-8")
    assert "forgetting was not measured" in page
    assert found.to_dict()["measures"]["candidates"]["adapted"]["source_miou"] is None
    (own,) = load_recipe(tmp_path / "work" / "run").sources
    assert own.name == "surest labels of given_instant, given once"


def test_the_frames_have_labels_of_the_instant_candidate_beside_those_of_the_source(outcome: Outcome) -> None:
    recipe = load_recipe(outcome.bundle.parent / "work" / "run")
    assert recipe.method == "supervised"
    assert [part.name for part in recipe.sources] == ["source", "surest labels of given_instant, given once"]
    frames = SourcePack.open(outcome.bundle.parent / "work" / "own_labels")
    assert len(frames.train_pairs()) == outcome.selection["kept"]
    assert "surest labels" in Bundle.open(outcome.bundle).manifest["provenance"]["source_data"]


@pytest.mark.parametrize("source", ["source", "none"])
def test_a_teacher_labels_the_frames_where_it_is_asked_for(made: Path, tmp_path: Path, source: str) -> None:
    effort = replace(SMALL, iterations=3)
    spec = "none" if source == "none" else str(made / "source")
    adapt(_request(made, tmp_path, source=spec, effort=effort, labels="teacher", mic=True, choose="adapted"))
    recipe = load_recipe(tmp_path / "work" / "run")
    assert recipe.method == "self_training"
    assert recipe.self_training.mic is not None
    assert recipe.target is not None
    assert recipe.target.path == tmp_path / "work" / "frames" / "adapt"
    # Only without a source its own labels stand in for one.
    assert (tmp_path / "work" / "own_labels").exists() == (source == "none")


@pytest.mark.parametrize("option", [{"labels": "teacher"}, {"mic": True}, {"imagenet": Path("weights.pth")}])
def test_what_belongs_to_training_is_refused_where_nothing_is_trained(
    made: Path, tmp_path: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match=rf"--{next(iter(option))} belongs to an effort that trains; effort instant"):
        _request(made, tmp_path, effort=EFFORTS["instant"], **option)


@pytest.mark.parametrize("option", [{"mic": True}, {"imagenet": Path("weights.pth")}])
def test_what_belongs_to_a_teacher_is_refused_without_one(made: Path, tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"--(mic|imagenet) belongs to training beside a teacher; add --labels teach"):
        _request(made, tmp_path, effort=EFFORTS["normal"], **option)
    assert _request(made, tmp_path, effort=EFFORTS["full"], **option).labelled_by == "teacher"
    assert not _request(made, tmp_path, effort=EFFORTS["normal"]).with_mic
    assert _request(made, tmp_path, effort=EFFORTS["normal"], labels="teacher").with_mic


def test_the_pack_that_comes_with_the_package_is_the_source_in_any_folder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    values = {"bag": (made / "drive",), "model": made / "given", "out": tmp_path / "out", "threads": 1}
    found = adapt(Request(**values, effort=EFFORTS["instant"]), Watch(say=said.append))
    assert any(line.startswith("source 'streets' is '") for line in said)
    assert found.to_dict()["measures"]["candidates"]["given"]["source_miou"] is not None
    assert "path-traced streets" in Bundle.open(found.bundle).manifest["provenance"]["adaptation"]["source"]
    page = found.report.read_text(encoding="utf-8")
    assert "forgetting was not measured" not in page
    assert "Nathan Koenig" in page


def test_a_drive_of_noise_is_refused_with_what_was_found(made: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_made_bag(tmp_path / "noise", (rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(30)), hz=1.0)
    with pytest.raises(DataError, match=r"0 are left to adapt on \(.*noise"):
        adapt(_request(made, tmp_path, bag=(tmp_path / "noise",)))
    assert not (tmp_path / "out").exists()


def _spoilt(made: Path, folder: Path, name: str, spoil: Any) -> Bundle:
    given = Bundle.open(made / "given")
    network = load_bundle_network(given)
    spoil(network)
    sample = draw_street(np.random.default_rng(2), (192, 256), target=True)[0]
    overrides = given.manifest["overrides"]
    return export_candidate(
        network,
        given,
        folder / name,
        sample,
        name=name,
        overrides=overrides,
        provenance={},
        bias=(),
        say=lambda _: None,
    )


def test_statistics_of_darkness_and_a_single_class_are_refused(made: Path, outcome: Outcome, tmp_path: Path) -> None:
    """Statistics of a covered camera spoil every network.

    20 toy networks by seed, on three sets of processor instructions: each lost 31 points or more on the source and
    broke a limit of the verdict by a factor of 5.2 or more with a source, 3.1 without. Statistics of bright noise are
    no such case: seven networks scored better with them on the source, and the verdict took three, two that had
    forgotten 7 points, with a source, and one that had forgotten 15, without.
    """

    def adapt_to_darkness(network: Any) -> None:
        dark = torch.from_numpy(np.random.default_rng(0).uniform(-1, -0.9, (8, 3, *SIZE)).astype(np.float32))
        reestimate_batchnorm(network, [dark], plan="tiles")

    def answer_building(network: Any) -> None:
        with torch.no_grad():
            network.decode_head.head.conv_seg.weight.zero_()
            network.decode_head.head.conv_seg.bias.zero_()[2] = 20.0

    work = outcome.bundle.parent / "work"
    frames = choose_frames((), (), work / "frames", SelectionConfig(), print, lambda *_: None)
    bundles = {
        "given": Bundle.open(made / "given"),
        "instant": _spoilt(made, tmp_path, "dark", adapt_to_darkness),
        "adapted": _spoilt(made, tmp_path, "constant", answer_building),
    }
    source = SourcePack.open(work / "source").held_out_pairs()
    for known in (source, None):
        folder = tmp_path / ("with" if known else "without")
        judged = judge_bundles(bundles, None, frames, known, None, folder, 1, lambda *_: None)
        assert judged.verdict.choice == "given"
        assert set(judged.verdict.refusals) == {"instant", "adapted"}
        assert any("it tells fewer classes apart" in reason for reason in judged.verdict.refusals["adapted"])
        assert any(reason.startswith("it forgot") for reason in judged.verdict.refusals["instant"]) == bool(known)


def test_a_mistyped_path_leaves_nothing_that_stands_in_the_way(made: Path, tmp_path: Path) -> None:
    for wrong in ({"bag": (made / "drvie",)}, {"source": str(made / "surce")}, {"topic": ("/rear",)}):
        with pytest.raises(DataError):
            adapt(_request(made, tmp_path, **wrong))
        assert not (tmp_path / "work").exists()


def test_the_given_model_is_never_overwritten(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is the given model"):
        _request(made, tmp_path, out=made / "given")


def test_something_else_in_the_place_of_the_result_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="no earlier result"):
        adapt(_request(made, tmp_path))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years"
    assert not (tmp_path / "work").exists()
