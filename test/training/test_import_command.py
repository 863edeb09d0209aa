"""`hrda import`, as a user runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_checkpoints import container, same, uda_state
from safetensors.torch import load_file
from tiny_bundle import write_tiny_bundle
from torch import Tensor

from hrda_core.deploy import export
from hrda_core.inference import Bundle, Predictor
from hrda_core.interop import load_mmseg
from hrda_core.models import create_model
from hrda_training.__main__ import main

NARROW: dict[str, Any] = {"decoder_channels": 8, "embed_channels": 8}
NARROW_HRDA: dict[str, Any] = {**NARROW, "attention_channels": 8}


def _state(preset: str, seed: int, classes: int = 19) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return create_model(preset, classes, **(NARROW_HRDA if preset.startswith("hrda") else NARROW)).state_dict()


def _uda_file(path: Path, preset: str = "hrda_mitb0", **meta: object) -> Path:
    torch.save(container(uda_state(*(_state(preset, seed) for seed in (1, 2, 3))), **meta), path)
    return path


def _run(*arguments: object) -> int:
    try:
        return main(["import", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_a_checkpoint_becomes_a_bundle_with_its_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "measure_parity", lambda *_: export.ParityReport(1.0, 0))  # slow, and tested elsewhere
    file, bundle, facts = _uda_file(tmp_path / "iter_40000.pth"), tmp_path / "bundle", tmp_path / "facts.json"
    assert _run(file, "--which", "teacher", "--out", bundle, "--json", facts) == 0
    said = capsys.readouterr().out
    assert "network: hrda_mitb0" in said
    assert "(teacher): 250 tensors used, 250 ignored (student, not asked for)" in said
    assert "licence" in said
    manifest = Bundle.open(bundle).manifest
    assert manifest["preset"] == "hrda_mitb0"
    assert manifest["overrides"] == NARROW_HRDA
    origin = manifest["provenance"]["imported_from"]
    assert origin == json.loads(facts.read_text())
    assert (origin["checkpoint"], origin["network"], origin["used"]) == ("iter_40000.pth", "teacher", 250)
    assert origin["ignored"] == {"student, not asked for": 250, "ImageNet encoder of the training, not asked for": 250}
    assert len(origin["sha256"]) == 64
    assert "checking that is up to you" in manifest["provenance"]["licence"]
    assert "iter_40000.pth" in (bundle / "MODEL_CARD.md").read_text()
    model, teacher = create_model("hrda_mitb0", **NARROW_HRDA), _state("hrda_mitb0", 2)
    load_mmseg(model, bundle / "model.safetensors")  # our own weights load as well, from half precision
    assert all(torch.allclose(model.state_dict()[name], teacher[name], atol=1e-3) for name in teacher)


def test_a_single_scale_network_becomes_a_bundle_with_the_plan_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "measure_parity", lambda *_: export.ParityReport(1.0, 0))  # slow, and tested elsewhere
    file = _uda_file(tmp_path / "a.pth", "daformer_mitb0")
    assert _run(file, "--out", tmp_path / "bundle") == 0
    predictor = Predictor(tmp_path / "bundle")
    assert predictor.plan == "whole"
    assert predictor(np.zeros((50, 70, 3), np.uint8)).labels.shape == (50, 70)


@pytest.mark.parametrize("named", [True, False])
def test_a_network_of_other_classes_gets_their_names_from_a_file_or_made_up_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    monkeypatch.setattr(export, "measure_parity", lambda *_: export.ParityReport(1.0, 0))  # slow, and tested elsewhere
    torch.save(_state("daformer_mitb0", 1, classes=3), tmp_path / "yard.pth")
    file, bundle = tmp_path / "yard.yaml", tmp_path / "bundle"
    file.write_text("classes: [floor, robot]")
    options = [tmp_path / "yard.pth", "--preset", "daformer_mitb0", "--out", bundle]
    assert _run(*options, "--label_space", file) == 2
    assert "yard.yaml' has 2 classes, but the network of the checkpoint gives 3" in capsys.readouterr().err
    assert not bundle.exists()
    file.write_text("classes: [floor, robot, crate]\nthings: [robot]")
    assert _run(*options, *(["--label_space", file] if named else [])) == 0
    space = Bundle.open(bundle).label_space
    names = ("floor", "robot", "crate") if named else ("class 0", "class 1", "class 2")
    assert (space.name, space.classes, space.things) == ("yard" if named else "imported", names, (1,) if named else ())


def test_weights_alone_are_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = _uda_file(tmp_path / "a.pth", "daformer_mitb0"), tmp_path / "new" / "a.safetensors"
    assert _run(file, "--weights-only", out) == 0
    assert same(load_file(out), _state("daformer_mitb0", 1))
    assert _run(file, "--weights-only", out) == 2
    assert "exists; choose another name" in capsys.readouterr().err


def test_a_file_with_foreign_metadata_is_converted_in_the_open_by_the_command_of_the_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _uda_file(tmp_path / "iter_40000.pth", "daformer_mitb0", mIoU=np.float64(0.68))
    assert _run(file, "--weights-only", tmp_path / "a.safetensors") == 2
    command = capsys.readouterr().err.strip().partition("with: ")[2].split()
    assert command[:2] == ["hrda", "import"]
    assert main(command[1:]) == 0
    assert "replaced by inert stand-ins" in capsys.readouterr().out
    assert _run(tmp_path / "iter_40000.safetensors", "--weights-only", tmp_path / "a.safetensors") == 0
    assert same(load_file(tmp_path / "a.safetensors"), _state("daformer_mitb0", 1))


def test_a_decoder_without_encoder_is_taken_only_if_asked_for(tmp_path: Path) -> None:
    full = create_model("daformer_mitb0").state_dict()
    torch.save({name: v for name, v in full.items() if not name.startswith("backbone.")}, tmp_path / "a.pth")
    command = [tmp_path / "a.pth", "--preset", "daformer_mitb0", "--weights-only", tmp_path / "a.safetensors"]
    assert _run(*command) == 2
    assert _run(*command, "--allow-random-backbone") == 0
    assert load_file(tmp_path / "a.safetensors").keys() == full.keys()


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch the_code_ran",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name the checkpoint"),
        (["a.pth"], "--out BUNDLE"),
        (["a.pth", "--out", "b", "--weights-only", "c.safetensors"], "either --out"),
        (["a.pth", "--out", "b", "--which", "ema"], "which"),
        (["a.pth", "--out", "b", "--preset", "hrda_mitb9"], "hrda_mitb"),
        (["a.pth", "--out", "b", "--preset", "hrda_mitb1"], "HRDA on MiT-B0 with 19 classes"),
        (["a.pth", "--out", "mine"], "no earlier result"),
        (["a.pth", "--weights-only", "c.pth"], "does not end in .safetensors"),
        (["a.pth", "--weights-only", "c.safetensors", "--label_space", "x.yaml"], "give --out BUNDLE"),
        (["a.pth", "--out", "b", "--label_space", "x.yaml"], "label space file 'x.yaml' cannot be read"),
        (["absent.pth", "--out", "b"], "absent.pth"),
        (["text.pth", "--out", "b"], "text file"),
        (["empty.pth", "--out", "b"], "is empty"),
        (["cut.pth", "--out", "b"], "cut off"),
        (["code.pth", "--out", "b"], "asks to run 'posix.system'"),
        (["single.pth", "--which", "teacher", "--out", "b"], "no teacher"),
        (["nan.pth", "--out", "b"], "NaN"),
        (["integers.pth", "--out", "b"], "another type"),
        (["encoder.pth", "--out", "b"], "an encoder alone (MiT-B0)"),
        (["--convert-trusted", "a.pth"], "needs --out"),
        (["--convert-trusted", "absent.pth", "--out", "c.safetensors"], "absent.pth"),
    ],
)
def test_a_users_mistake_gives_exit_code_2_and_one_sentence(
    tmp_path: Path,
    bad_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(bad_files)
    before = sorted(path.name for path in bad_files.iterdir())
    assert _run(*arguments) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert "Traceback" not in message
    assert sorted(path.name for path in bad_files.iterdir()) == before
    assert (bad_files / "mine" / "note.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "mine").mkdir()
    (folder / "mine" / "note.txt").write_text("mine")
    _uda_file(folder / "a.pth")
    state = _state("hrda_mitb0", 1)
    weight = "decode_head.head.conv_seg.weight"
    torch.save(state, folder / "single.pth")
    torch.save({**state, weight: torch.full_like(state[weight], float("nan"))}, folder / "nan.pth")
    torch.save({**state, weight: state[weight].int()}, folder / "integers.pth")
    encoder = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    torch.save(encoder, folder / "encoder.pth")
    torch.save({"state_dict": state, "hook": _Trap()}, folder / "code.pth")
    (folder / "cut.pth").write_bytes((folder / "single.pth").read_bytes()[:-1000])
    (folder / "text.pth").write_text("<html>not found</html>")
    (folder / "empty.pth").touch()
    return folder


def test_a_bundle_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path, bad_files: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    assert _run(bad_files / "nan.pth", "--out", bundle) == 2
    assert Bundle.open(bundle).name == "tiny"
