"""`hrda compare` as a user meets it in a terminal: mistakes, where the answers lie, and how it goes on after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("jsonargparse")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from compared import answer, write_compared
from tiny_bundle import write_tiny_bundle

from hrda_training import compare_server
from hrda_training.__main__ import main

WATCHED = Path(__file__).resolve().parents[1] / "support" / "watched_command.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compared(tmp_path_factory.mktemp("made"), (120, 160))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("hrda compare: error: ")
    return sentence


def options(made: Path, out: Path, *more: str) -> list[str]:
    return [str(made / "a"), str(made / "b"), "--bag", str(made / "drive"), "--out", str(out), "--threads", "1", *more]


def test_mistakes_are_one_sentence_and_leave_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "does not exist" in refused(capsys, str(made / "a"), str(made / "b"), "--bag", str(tmp_path / "no"))
    assert "are the same network" in refused(capsys, str(made / "a"), str(made / "a"), "--bag", str(made / "drive"))
    assert "--questions is a number from 1" in refused(capsys, *options(made, out, "--questions", "0"))
    assert "--port is a number from 0" in refused(capsys, *options(made, out, "--port", "70000"))
    assert "topic" in refused(capsys, *options(made, out, "--topic", "/camera"))
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} of 127.0.0.1 cannot be used" in refused(capsys, *options(made, out, "--port", port))
    assert list(tmp_path.iterdir()) == []


def test_no_disagreement_is_a_result(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 90, np.uint8))
    arguments = [str(made / "a"), str(made / "b"), "--bag", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]
    assert main(["compare", *arguments, "--json", str(tmp_path / "found.json")]) == 0
    assert "give every pixel of 1 frame the same class" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["better"], found["questions"], found["disagreement"]) == (None, 0, 0)


def test_models_with_other_classes_are_refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"name": "two", "classes": ["road", "rest"], "palette": [[0, 0, 0], [255, 255, 255]], "things": []}
    other = write_tiny_bundle(tmp_path / "other", label_space=space)
    sentence = refused(capsys, str(made / "a"), str(other), "--bag", str(made / "drive"))
    assert "only models with the same classes can be compared" in sentence


def test_answers_lie_beside_the_second_model_unless_told_otherwise(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.setattr(compare_server, "ask", lambda session, say, **options: None)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "b.compare" / "questions.json").is_file()
    # Nothing is written beside a model that came with the package.
    monkeypatch.setattr("hrda_core.inference.model_folders.is_shipped", lambda folder: folder.name == "b")
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "c").symlink_to(made / "a")
    assert main(["compare", str(tmp_path / "mine" / "c"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "mine" / "b.compare" / "questions.json").is_file()
    monkeypatch.setattr("hrda_core.inference.model_folders.is_shipped", lambda folder: True)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "home" / "b.compare" / "questions.json").is_file()


def started(made: Path, out: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "hrda_training", "compare", *options(made, out, "--frames", "3")]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_ctrl_c_keeps_the_answers_and_says_how_to_go_on(made: Path, tmp_path: Path) -> None:
    out, token = tmp_path / "out", ""
    for answered in (0, 1):
        with started(made, out) as process:
            try:
                assert process.stderr is not None
                lines = [process.stderr.readline() for _ in range(3)]
                found = re.match(r"questions: http://127\.0\.0\.1:(\d+)(/.*/)", lines[0])
                assert found
                assert "open this address in a browser" in lines[1]
                assert f"{answered} answered so far" in lines[2]
                assert found[2] != token
                token = found[2]
                answer(int(found[1]), token, answered, "unsure")
                process.send_signal(signal.SIGINT)
                rest = process.stderr.read()
                assert process.wait(60) == 130
            finally:
                process.kill()
        assert f"{answered + 1} answers are kept in" in rest
        assert "the same command goes on: hrda compare " in rest
    assert json.loads((out / "answers.json").read_text())["answers"] == ["unsure", "unsure"]


def test_it_needs_no_torch_and_no_page_maker(made: Path, tmp_path: Path) -> None:
    """As docs/robot/commands.md says."""
    blocked = "torch,torchvision,timm,matplotlib,jinja2,safetensors,onnx,rosbags,mcap,PIL,tqdm,docstring_parser"
    program = [sys.executable, str(WATCHED), str(tmp_path / "imported.json"), blocked, "compare"]
    with subprocess.Popen(
        [*program, *options(made, tmp_path / "out", "--no-open", "--frames", "2", "--questions", "1")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            found = re.match(r"questions: http://127\.0\.0\.1:(\d+)(/.*/)", process.stderr.readline())
            assert found
            assert answer(int(found[1]), found[2], 0, "first")["kind"] == "end"
            assert "undecided after 1 question" in process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    imported = set(json.loads((tmp_path / "imported.json").read_text()))
    assert imported - {"cv2", "numpy", "yaml"} == {"jsonargparse", "onnxruntime"}
