"""`hrda adapt` as a user meets it: mistakes are one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_bag import write_made_bag

from hrda_core.folder_locks import held_folder
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


def test_t9_two_at_once_the_second_call_for_a_result_is_one_sentence(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "out.work"
    with held_folder(work, f"adapting in '{work}'"):
        options = _options(tmp_path, repository / "models" / "hrda_lite")
        refusal = f"process {os.getpid()} is adapting in '{work}'; wait until it has ended, or give another place"
        assert refusal in _refused(capsys, *options)
        assert [path.name for path in tmp_path.rglob("*")] == ["out.work", ".lock"]


def _options_of_a_network(folder: Path, repository: Path, source: str) -> list[str]:
    model = str(repository / "models" / "hrda_lite")
    return _options(folder, Path(model), **{"--source": source})


@pytest.mark.parametrize("broken", ["version", "missing", "changed", "emptied"])
def test_a_source_pack_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    package = tmp_path / "share" / "hrda_ros"
    pack = Path(shutil.copytree(repository / "packs" / "streets", package / "packs" / "streets"))
    (package / "package.xml").write_text("<package><name>hrda_ros</name></package>")
    image = next((pack / "images").iterdir())
    if broken == "version":
        text = (pack / "pack.yaml").read_text(encoding="utf-8")
        (pack / "pack.yaml").write_text(text.replace("format_version: 1", "format_version: 2"), encoding="utf-8")
    elif broken == "missing":
        image.unlink()
    elif broken == "changed":
        image.write_bytes(image.read_bytes()[:-1] + b"?")
    else:
        shutil.rmtree(pack)
        pack.mkdir()
    found = {
        "version": "has format version 2, this release reads 1",
        "missing": f"{image.name}' is missing from its source pack",
        "changed": f"{image.name}' is not the file that pack.yaml describes",
        "emptied": "has no pack.yaml, its pack was taken away",
    }
    sentence = _refused(capsys, *_options_of_a_network(tmp_path, repository, str(pack)))
    assert found[broken] in sentence
    assert "'git checkout -- packs/streets' brings it back" in sentence
    assert sentence.endswith("--source none")
    assert [path.name for path in tmp_path.iterdir()] == ["share"]


def test_a_package_without_its_source_pack_says_where_to_get_it(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrda_core.data.packs.pack_folders.shipped_folders", lambda name: (tmp_path / name,))
    options = ["--bag", "drive", "--model", str(repository / "models" / "hrda_lite"), "--out", str(tmp_path / "out")]
    sentence = _refused(capsys, *options)
    assert f"'{tmp_path / 'packs'}' lacks the source pack 'streets'" in sentence
    assert sentence.endswith("--source none")
    # Whoever wants none gets as far as the drive.
    assert "drive" in _refused(capsys, *options, "--source", "none")


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


@pytest.mark.parametrize(
    ("choice", "chosen_by", "reasons", "reloads"),
    [("given", "verdict", 0, 0), ("given", "option", 0, 1), ("instant", "verdict", 1, 1)],
)
def test_a_kept_model_is_said_once_with_what_spoke_against_the_others_and_is_reloaded_where_a_person_wants_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], choice: str, chosen_by: str, reasons: int, reloads: int
) -> None:
    from hrda_core.adaptation.verdict.verdict import Verdict
    from hrda_training.adapt import _print

    refusals = {"adapted": ("its estimated mIoU rose too little",)}
    verdict = Verdict(choice, ("a reason for it",), refusals)
    _print(
        SimpleNamespace(
            choice=choice, chosen_by=chosen_by, asked=None, verdict=verdict, bundle=tmp_path, report=tmp_path / "report"
        )
    )
    lines = capsys.readouterr().out.splitlines()
    assert sum("ros2 service call" in line for line in lines) == reloads
    assert sum("a reason for it" in line for line in lines) == reasons
    assert "  - not adapted: its estimated mIoU rose too little" in lines
    assert lines[1].endswith(f"It is in {tmp_path}" if choice != "given" else f"A copy of it is in {tmp_path}")
