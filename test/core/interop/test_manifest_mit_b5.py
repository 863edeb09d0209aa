"""The full key manifest of official checkpoints (MiT-B5): every name of the three schemes lands where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import build_empty, constants, manifest, uda_state

from hrda_core.errors import CheckpointError
from hrda_core.interop import Checkpoint, guess_network, load_backbone, load_mmseg, read_checkpoint, take_network
from hrda_core.models import create_model
from hrda_core.models.mix_transformer import MixTransformer

NETWORKS = [("hrda_segmentor", "hrda_mitb5", 85_685_990), ("daformer_segmentor", "daformer_mitb5", 85_155_283)]


def _shapes(scheme: str) -> dict[str, list[int]]:
    return {name: shape for name, (shape, _) in manifest("manifest_mit_b5")[scheme].items()}


def test_the_committed_manifest_is_the_shared_one(shared_dir: Path) -> None:
    full = json.loads((shared_dir / "golden" / "manifest_mit_b5.json").read_text())
    committed = manifest("manifest_mit_b5")
    for scheme in ("mit_b5_backbone_file", "hrda_segmentor", "daformer_segmentor"):
        assert committed[scheme] == full[scheme]["entries"]
    assert committed["prefixes_in_uda_checkpoint"] == full["hrda_segmentor"]["prefixes_in_uda_checkpoint"]
    assert committed["checkpoint_container"] == full["checkpoint_container"]


@pytest.mark.parametrize(("scheme", "preset", "parameters"), NETWORKS)
def test_every_tensor_of_student_and_teacher_lands_under_its_name(scheme: str, preset: str, parameters: int) -> None:
    shapes = _shapes(scheme)
    states = [constants(shapes, seed) for seed in range(3)]
    checkpoint = Checkpoint("iter_40000.pth", uda_state(*states))
    model = build_empty(lambda: create_model(preset))
    assert sum(p.numel() for p in model.parameters()) == parameters
    for which, expected in zip(("student", "teacher"), states, strict=False):
        report = load_mmseg(model, checkpoint, which)
        assert sorted(report.used) == sorted(shapes)
        assert sum(map(len, report.ignored.values())) == 2 * len(shapes)
        assert not report.kept
        assert not report.random
        for name, value in model.state_dict().items():
            assert value.flatten()[0] == value.flatten()[-1] == expected[name].flatten()[0], name


@pytest.mark.parametrize(("scheme", "preset"), [row[:2] for row in NETWORKS])
def test_the_preset_is_told_from_names_and_shapes(scheme: str, preset: str) -> None:
    state = constants(_shapes(scheme))
    tensors, _, _ = take_network(Checkpoint("x", uda_state(state, state, state)), "teacher")
    guess = guess_network(tensors, "x")
    assert (guess.preset, guess.num_classes, dict(guess.overrides)) == (preset, 19, {})


def test_the_imagenet_file_fills_the_encoder_and_its_classifier_is_ignored() -> None:
    state = constants(_shapes("mit_b5_backbone_file"))
    classifier = {"head.weight": torch.zeros(1000, 512), "head.bias": torch.zeros(1000)}
    encoder = build_empty(lambda: MixTransformer("b5"))
    report = load_backbone(encoder, {**state, **classifier})
    assert len(report.used) == len(state) == 1052
    assert report.ignored == {"ImageNet classifier": ("head.weight", "head.bias")}
    for name, value in encoder.state_dict().items():
        assert value.flatten()[0] == value.flatten()[-1] == state[name].flatten()[0], name


def test_the_encoder_of_a_whole_checkpoint_fills_an_encoder() -> None:
    state = constants(_shapes("hrda_segmentor"))
    encoder = build_empty(lambda: MixTransformer("b5"))
    assert len(load_backbone(encoder, state).used) == 1052


def test_f3_a_checkpoint_of_the_other_network_is_refused_and_named() -> None:
    with torch.device("meta"):
        model = create_model("hrda_mitb5")
    with pytest.raises(CheckpointError, match=r"missing .*unknown .*nothing was loaded.*DAFormer on MiT-B5 with 19 cl"):
        load_mmseg(model, constants(_shapes("daformer_segmentor")))


def test_the_golden_weights_of_the_reference_load(shared_dir: Path) -> None:
    checkpoint = read_checkpoint(shared_dir / "golden" / "hrda_mitb0_weights.safetensors")
    assert len(load_mmseg(build_empty(lambda: create_model("hrda_mitb0")), checkpoint).used) == 250
    assert len(load_backbone(build_empty(lambda: MixTransformer("b0")), checkpoint).used) == 176
    renamed = {name.replace("decode_head.head.", "decode_head."): v for name, v in checkpoint.tensors.items()}
    daformer = {name: v for name, v in renamed.items() if ".scale_attention." not in name}
    assert len(load_mmseg(build_empty(lambda: create_model("daformer_mitb0")), daformer).used) == len(daformer)
