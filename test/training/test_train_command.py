"""`hrda train` as a user runs it: signals, resuming, trying out, and mistakes in a recipe."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.folder_locks import held_folder
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_training.__main__ import main


def _recipe(folder: Path, **changes: Any) -> Path:
    images, labels = write_street_images(folder / "data", count=4)
    recipe = {
        "name": "tiny",
        "method": "self_training",
        "source": {"name": "made up", "images": str(images), "labels": str(labels), "rcs_min_pixels": 100},
        "target": {"name": "made up", "path": str(images)},
        "validation": [{"name": "made up", "images": str(images), "labels": str(labels), "split": ""}],
        "model": {"overrides": TINY, "imagenet": False, "allow_random_backbone": True},
        "crop": {"height": 64, "width": 64},
        "iterations": 3,
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_run_leaves_weights_scores_pictures_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", str(_recipe(tmp_path)), "--run", str(run)]) == 0
    names = {entry.name for entry in run.iterdir()}
    assert {"recipe.yaml", "environment.json", "log.jsonl", "evaluations.jsonl", "model.safetensors"} <= names
    assert {"panels", "report.html", CHECKPOINT_NAME} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    page = (run / "report.html").read_text()
    scores = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert f"{100 * scores[-1]['mean_iou']:.1f}" in page
    assert "made up" in page
    assert "report.html" in capsys.readouterr().out


def test_t9_two_at_once_the_second_call_for_a_run_ends_with_one_sentence_and_leaves_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with held_folder(run, f"training in '{run}'"):
        (run / "recipe.yaml").write_text("of the other process")
        assert main(["train", str(_recipe(tmp_path)), "--run", str(run), "--resume", "auto"]) == 2
        assert sorted(path.name for path in run.iterdir()) == [".lock", "recipe.yaml"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"process {os.getpid()} is training in '{run}'; wait until it has ended, or give another place" in last


@pytest.mark.parametrize("name", ["manifest.yaml", "pack.yaml", "predict.json"])
def test_t9_a_run_never_lies_in_a_result_that_another_command_may_replace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = tmp_path / "result"
    run.mkdir()
    (run / name).write_text("{}")
    assert main(["train", str(_recipe(tmp_path)), "--run", str(run), "--resume", "auto"]) == 2
    sentence = f"run folder '{run}' holds a result of another command ({name}); give another folder"
    assert capsys.readouterr().err.strip().endswith(sentence)
    assert [path.name for path in run.iterdir()] == [name]


def test_check_tries_everything_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = _recipe(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["train", str(recipe), "--check"]) == 0
    printed = capsys.readouterr()
    assert "all iterations" in printed.out
    assert "peak memory" in printed.out
    assert "24 GB (such as RTX 4090): fits" in printed.err
    assert "road" in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_recipe_may_be_given_behind_an_equals_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"--config={_recipe(tmp_path, itterations=3)}", "--check"]) == 2
    assert "did you mean 'iterations'" in capsys.readouterr().err


def test_check_finds_bad_validation_labels_and_says_where_all_of_them_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = write_street_images(tmp_path / "val", count=6)
    for number in range(5):
        cv2.imwrite(str(labels / "train" / f"frame{number}.png"), np.zeros((96, 128, 3), np.uint8))
    entry = {"name": "scored", "images": str(images), "labels": str(labels)}
    assert main(["train", str(_recipe(tmp_path, validation=[entry])), "--check"]) == 2
    path = Path(capsys.readouterr().err.split("bad files are listed in '")[1].split("'")[0])
    assert yaml.safe_load(path.read_text())["exclude"] == [f"frame{number}.jpg" for number in range(5)]
    excluded = entry | yaml.safe_load(path.read_text())
    assert main(["train", str(_recipe(tmp_path, validation=[excluded])), "--check"]) == 0
    assert main(["train", str(_recipe(tmp_path, validation=[entry | {"on_bad": "skip"}])), "--check"]) == 0
    assert "left out: 5 of 6 pairs" in capsys.readouterr().err


def test_a_run_that_left_bad_files_out_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = write_street_images(tmp_path / "val", count=4)
    next(iter(sorted(labels.rglob("*.png")))).unlink()
    entry = {"name": "scored", "images": str(images), "labels": str(labels), "on_bad": "skip"}
    recipe = _recipe(tmp_path, validation=[entry], method="supervised", target=None, iterations=1)
    assert main(["train", str(recipe), "--run", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    assert len(list((tmp_path / "bundle" / "samples").glob("*.jpg"))) > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_auto_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    recipe, run = _recipe(tmp_path, iterations=100_000, validation=[]), tmp_path / "run"
    command = [sys.executable, "-m", "hrda_training", "train", str(recipe), "--run", str(run), "--resume", "auto"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (run / "log.jsonl").exists() or not (run / "log.jsonl").read_text():
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    child.send_signal(number)
    out, _ = child.communicate(timeout=240)
    assert child.returncode == 130
    assert "--resume auto" in out
    reached = load_checkpoint(run / CHECKPOINT_NAME).values["iteration"]
    assert 1 <= reached < 100_000
    assert len((run / "log.jsonl").read_text().splitlines()) == reached


@pytest.mark.timeout(300)
def test_the_documented_line_for_several_processes_starts_them(tmp_path: Path, repository: Path) -> None:
    files = [repository / "README.md", *(repository / "docs").rglob("*.md"), repository / "training" / "train.py"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"torchrun [^`\n]*", text)
    lines = {re.sub(r"train \S+ --run \S+", "train RECIPE --run RUN", line) for line in found}
    assert lines == {"torchrun --nproc_per_node 2 -m hrda_training -- train RECIPE --run RUN"}

    places = {"RECIPE": str(_recipe(tmp_path, batch_size=2, validation=[])), "RUN": str(tmp_path / "run")}
    _, *arguments = [places.get(word, word) for word in shlex.split(lines.pop())]
    # A free port, and no GPU: the toy's two processes talk by gloo.
    environment = {**os.environ, "PET_STANDALONE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("weights: ") == 1  # one process speaks
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ({}, ["--source.images", "elsewhere"], "but .* has a list of 2; change it there"),
        ({"share": "many"}, [], "source.share: expected a number, not 'many'"),
        ({"share": 0}, [], "source 'second': share is 0.0; give a number above 0"),
        ({"name": "made up"}, [], "two sources have the name 'made up'"),
        ({"repeat": 3}, [], "source.repeat' is not known; write several sources as a list and give each a share"),
    ],
)
def test_a_mistake_in_a_list_of_sources_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    arguments: list[str],
    sentence: str,
) -> None:
    recipe = _recipe(tmp_path)
    values = yaml.safe_load(recipe.read_text())
    first = values["source"]
    values["source"] = [first, {**first, "name": "second", **changes}]
    recipe.write_text(yaml.safe_dump(values))
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said), said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_auto_starts_a_run_that_is_not_there_and_ends_one_that_is(tmp_path: Path) -> None:
    command = ["train", str(_recipe(tmp_path)), "--run", str(tmp_path / "run"), "--resume", "auto"]
    assert main(command) == 0
    assert main(command) == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ({"itterations": 3}, [], "did you mean 'iterations'"),
        ({"optim": {"wramup": 1}}, [], "did you mean 'optim.warmup'"),
        ({"validation": [{"name": "x", "group": "camvid11"}]}, [], "validation.groups"),
        ({"target": None}, [], "target"),
        ({"method": "selftraining"}, [], "method"),
        ({"validation": [{"name": "x", "images": "absent", "labels": "absent"}]}, [], "absent"),
        ({}, ["--resume", "perhaps"], "--resume"),
        ({}, ["--runtime.device", "cuda"], "cuda"),
        ({}, ["--runtime.precision", "fp16", "--runtime.device", "cpu"], "fp16"),
        ({}, ["--self_training.threshold", "2"], "threshold"),
        ({}, ["--batch_size", "0"], "batch_size"),
        ({}, ["--optim.lrr", "3"], "did you mean --optim.lr?"),
        ({}, ["--iterations", "many"], "iterations"),
        ({"validation": [{"name": "x", "limit": -1}]}, [], "limit is -1"),
        ({"validation": [{"name": "x", "resize": [0, 5]}]}, [], "largest width and height"),
        ({"validation": [{"name": "x"}, {"name": "x"}]}, [], "two validation sets have the name 'x'"),
        ({"crop": 512}, [], "recipe key 'crop' has keys of its own (height, width"),
        ({"crop": [{"height": 64}]}, [], "recipe key 'crop' has keys of its own"),
        ({"crop": {"height": 64, "width": None}}, [], "recipe key 'crop.width' has no value"),
        ({"source": "streets"}, [], "recipe key 'source' has keys of its own (name, "),
    ],
)
def test_a_mistake_gives_exit_code_2_one_sentence_and_no_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    arguments: list[str],
    sentence: str,
) -> None:
    recipe = _recipe(tmp_path, **changes)
    try:
        code = main(["train", str(recipe), "--run", str(tmp_path / "run"), *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    message = capsys.readouterr().err
    assert code == 2, message
    assert sentence in message
    assert "Traceback" not in message
    assert len(message.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
