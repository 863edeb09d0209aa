"""`hrda adapt` as a user meets it: mistakes are one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from made_bag import write_made_bag

from hrda_training.__main__ import main


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["adapt", *arguments]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("hrda adapt: error: ")
    return sentence


def _options(folder: Path, tiny_bundle: Path, **changes: str) -> list[str]:
    values = {"--bag": str(folder / "drive"), "--model": str(tiny_bundle), "--out": str(folder / "out")} | changes
    return [text for pair in values.items() for text in pair]


def test_a_model_without_weights_is_refused_before_the_drive_is_read(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no model.safetensors" in _refused(capsys, *_options(tmp_path, tiny_bundle))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_effort_lists_those_there_are(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _options(tmp_path, tiny_bundle, **{"--effort": "fast"})
    assert "instant, quick, normal, full" in _refused(capsys, *options)


def test_half_of_the_labelled_images_is_a_mistake(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Dashes do as well as underscores.
    options = _options(tmp_path, tiny_bundle, **{"--eval-labels": str(tmp_path)})
    assert "both --eval_images and --eval_labels" in _refused(capsys, *options)


def test_the_given_model_is_not_a_place_for_the_result(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is the given model" in _refused(capsys, *_options(tmp_path, tiny_bundle, **{"--out": str(tiny_bundle)}))


def test_an_option_that_does_not_exist_is_corrected(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _options(tmp_path, tiny_bundle, **{"--sorce": "x"})
    assert "did you mean --source?" in _refused(capsys, *options)


def test_help_needs_no_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as ended:
        main(["adapt", "--help"])
    assert ended.value.code == 0
    assert "--effort" in capsys.readouterr().out


def test_a_made_up_drive_can_be_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    write_made_bag(tmp_path / "drive", (rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(4)))
    assert main(["bag", "info", str(tmp_path / "drive")]) == 0
    assert "/camera/image_raw" in capsys.readouterr().out
