"""Adaptation in the classes of the given model: seven of an orchard, or 150; sources of other classes are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from made_bag import write_made_bag
from tiny_network import TINY
from two_domains import CLASSES, draw_street, write_domain

from hrda_core.adaptation.adapt import adapt
from hrda_core.adaptation.efforts import EFFORTS, Effort
from hrda_core.adaptation.request import Request
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.deploy import export
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.errors import DataError, HrdaError, LabelSpaceError, RecipeError
from hrda_core.inference import Bundle, Predictor
from hrda_core.input_scale import InputScale
from hrda_core.labels import LabelSpace
from hrda_core.models import create_model
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Watch

SIZE = (128, 160)
SHORT = Effort("short", "for tests", frames=40, iterations=1, crop_share=0.9, alpha=0.9, warmup=1)
ORCHARD = LabelSpace("orchard", ("soil", "trunk", "wire", "leaf", "sky", "picker", "tractor"), things=(5, 6))
MANY = LabelSpace("many", tuple(f"thing {number}" for number in range(150)))
NATIVE = dict(zip(CLASSES.values(), ORCHARD.classes, strict=True))
"""Ids of the drawn labels -> classes of the orchard."""


@pytest.fixture(scope="module", autouse=True)
def without_comparing_graphs() -> Iterator[None]:
    """The comparison of graphs with PyTorch is slow, and tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "measure_parity", lambda *_: export.ParityReport(1.0, 0))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """drive/ (a bag), source/ (labelled, ids of `NATIVE`), orchard/ and many/ (models of 7 and 150 classes)."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(5)
    write_made_bag(folder / "drive", (draw_street(rng, SIZE, target=True)[0] for _ in range(18)), hz=1.0)
    write_domain(folder / "source", 12, target=False, seed=0, size=SIZE)
    (folder / "ids.yaml").write_text(yaml.safe_dump({"ids": NATIVE}))
    for space in (ORCHARD, MANY):
        torch.manual_seed(0)
        overrides = TINY | {"hrda": False}
        network = create_model("hrda_lite", len(space), **overrides)
        spec = ExportSpec(
            name=space.name,
            preset="hrda_lite",
            overrides=overrides,
            scale=InputScale(640),
            provenance={"licence": "made up"},
            label_space=space,
        )
        export_bundle(network, spec, folder / space.name, draw_street(rng, SIZE, target=False)[0])  # type: ignore[arg-type]
    return folder


def _request(made: Path, folder: Path, **changes: Any) -> Request:
    values: dict[str, Any] = {"bag": (made / "drive",), "model": made / "orchard", "out": folder / "out", "threads": 1}
    return Request(**values | {"effort": EFFORTS["instant"]} | changes)


def test_instant_needs_no_classes_and_says_why_it_takes_no_labelled_images(made: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = adapt(_request(made, tmp_path, model=made / "many"), Watch(say=said.append))
    assert said[0].startswith("no labelled images: unlike the model, the pack 'streets' has 'road', 'sidewalk', ")
    assert "lacks 'thing 0', 'thing 1', 'thing 2', 'thing 3' and 146 more" in said[0]
    assert Bundle.open(found.bundle).label_space == MANY
    assert len(found.to_dict()["measures"]["candidates"]["instant"]["histogram"]) == 150
    page = found.report.read_text(encoding="utf-8")
    assert any(name in page for name in MANY.classes)
    assert "sidewalk" not in page


def test_seven_own_classes_are_trained_on_labels_of_other_ids_and_judged_by_name(made: Path, tmp_path: Path) -> None:
    source = {"source": str(made / "source"), "label_space": made / "ids.yaml"}
    found = adapt(_request(made, tmp_path, effort=SHORT, choose="adapted", **source))
    work = tmp_path / "out.work"
    options = json.loads((work / "options.json").read_text())
    assert options["classes"] == list(ORCHARD.classes)
    assert SourcePack.open(work / "source").space == ORCHARD
    judged = json.loads((work / "judgement.json").read_text())
    assert judged["classes"] == judged["groups"] == list(ORCHARD.classes)
    assert set(found.to_dict()["measures"]["candidates"]["adapted"]["source_iou"]) == set(ORCHARD.classes)
    assert Bundle.open(found.bundle).label_space == ORCHARD
    labels = Predictor(found.bundle)(draw_street(np.random.default_rng(1), SIZE, target=True)[0]).labels
    assert labels.max() < 7


@pytest.mark.heavy
def test_150_classes_are_trained_on_the_own_predictions_of_the_model(made: Path, tmp_path: Path) -> None:
    found = adapt(_request(made, tmp_path, model=made / "many", effort=SHORT, choose="adapted"))
    assert Bundle.open(found.bundle).label_space == MANY
    network = load_network(tmp_path / "out.work" / "run", "teacher")
    assert network.decode_head.conv_seg.weight.shape[0] == 150  # type: ignore[union-attr]
    assert len(found.to_dict()["measures"]["candidates"]["adapted"]["histogram"]) == 150


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"source": "streets"}, DataError, r"other classes .* the 7 of 'orchard': it has 'road', .* lacks 'soil'"),
        ({"source": "source"}, DataError, r"hold ids 8, 10, 11, 13, expected classes of 'orchard' \(0..6\)"),
        ({"source": "source", "label_space": {"classes": ["soil", "sky"]}}, DataError, "lacks 'trunk', 'wire', 'leaf'"),
        ({"source": "source", "label_space": {"ids": {8: "leef"}}}, LabelSpaceError, "did you mean 'leaf'"),
        ({"label_space": {"ids": {"rod": "soil"}}}, LabelSpaceError, "did you mean 'road'"),
        ({"source": "none", "label_space": {"ids": {"road": "soil"}}}, RecipeError, "leave one out"),
        ({"eval_images": "source/images", "eval_labels": "source/labels"}, DataError, r"'orchard' \(0..6\) nor 255"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_a_recording_is_opened(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    error: type[HrdaError],
    words: str,
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("hrda_core.adaptation.adapt.choose_frames", lambda *arguments: opened.append(arguments))
    changes = dict(wrong)
    if changes.get("source") == "source":
        changes["source"] = str(made / "source")
    if "label_space" in changes:
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(changes["label_space"]))
        changes["label_space"] = tmp_path / "space.yaml"
    changes |= {key: made / changes[key] for key in ("eval_images", "eval_labels") if key in changes}
    with pytest.raises(error, match=words) as caught:
        adapt(_request(made, tmp_path, effort=SHORT, **changes))
    assert "\n" not in str(caught.value)
    assert opened == []
    assert not (tmp_path / "out.work").exists()
