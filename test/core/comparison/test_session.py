"""A comparison in a folder: it goes on where it stopped, belongs to its models and drive, and keeps every answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from compared import write_compared
from tiny_bundle import expected_labels, write_tiny_bundle

from hrda_core.comparison.drive import Drive, open_drive
from hrda_core.comparison.session import Session, Settings, check_models, open_session
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference import Bundle
from hrda_core.labels import CITYSCAPES19

SETTINGS = Settings(frames=5, questions=40, backend="onnx", threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that read another channel each, and images on whose right half they disagree; A is right there."""
    return write_compared(tmp_path_factory.mktemp("made"))


@pytest.fixture
def pair(made: Path) -> tuple[Bundle, Bundle, Drive]:
    return Bundle.open(made / "a"), Bundle.open(made / "b"), open_drive([made / "drive"])


def truth(session: Session, drive: Drive, number: int) -> str:
    """What a person who knows that A is right says."""
    question = session.questions[number]
    labels = expected_labels(drive.load(question.frame))
    return "a" if labels[question.y, question.x] == question.a else "b"


def test_a_session_asks_until_it_is_decided_and_writes_the_result(
    tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]
) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        assert session.names == ("red", "blue")
        assert 0.4 < session.disagreement.share < 0.5
        while not session.finished:
            number = len(session.answers)
            session.answer(number, truth(session, pair[2], number))
        found = session.comparison()
        assert found.better == "a"
        assert found.asked < 20
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["better"] == "a"
    assert result["low"] <= result["difference"] <= result["high"] < 0
    assert result["sentence"].startswith("red is more accurate than blue after")
    assert result["answers"]["a"] == result["questions"]
    assert {one["name"] for one in result["classes"]} <= set(CITYSCAPES19.classes)


def test_the_same_call_goes_on_with_the_next_question(tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        session.answer(0, "a")
        session.answer(1, "unsure")
        questions = session.questions
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        assert (session.answers, session.questions) == (["a", "unsure"], questions)


def test_a_second_click_and_a_late_undo_change_nothing(tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        session.undo(0)
        session.answer(0, "a")
        session.answer(0, "b")
        session.answer(5, "b")
        assert session.answers == ["a"]
        session.answer(1, "b")
        session.undo(1)
        assert session.answers == ["a", "b"]
        session.undo(2)
        assert session.answers == ["a"]
        with pytest.raises(ValueError, match="both"):
            session.answer(1, "both")


def test_answers_belong_to_their_models_drive_and_number_of_questions(
    tmp_path: Path, made: Path, pair: tuple[Bundle, Bundle, Drive]
) -> None:
    a, b, drive = pair
    with open_session(tmp_path / "out", a, b, drive, SETTINGS) as session:
        session.answer(0, "a")
    other = open_drive([made / "drive" / "1.png"])
    for changed, words in (
        ((b, a, drive, SETTINGS), "model A, model B"),
        ((a, b, other, SETTINGS), "drive"),
        ((a, b, drive, Settings(frames=5, questions=50)), "--questions"),
    ):
        with pytest.raises(RecipeError, match=rf"another comparison \(differs in {words}\)"):  # noqa: SIM117
            with open_session(tmp_path / "out", *changed):
                pass


def test_two_at_once_are_told(tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]) -> None:
    with (
        open_session(tmp_path / "out", *pair, SETTINGS),
        pytest.raises(DataError, match=r"process .* is asking the questions of"),
        open_session(tmp_path / "out", *pair, SETTINGS),
    ):
        pass


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"questions": "x", "answers": ["a"]}', '{"answers": 3}', None], ids=str
)
def test_damaged_answers_are_one_sentence_and_the_questions_stay(
    tmp_path: Path, pair: tuple[Bundle, Bundle, Drive], damage: str | None
) -> None:
    out = tmp_path / "out"
    with open_session(out, *pair, SETTINGS) as session:
        session.answer(0, "a")
    answers = out / "answers.json"
    if damage is None:  # an answer that there is not
        damage = answers.read_text().replace('"a"', '"c"')
    answers.write_text(damage)
    with pytest.raises(DataError, match=r"answers\.json' cannot be used .* remove this file"):  # noqa: SIM117
        with open_session(out, *pair, SETTINGS):
            pass
    answers.unlink()
    with open_session(out, *pair, SETTINGS) as session:
        assert session.answers == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("disagreement", {"frames": 5, "unreadable": 0, "pairs": []}),
        ("disagreement", {"frames": float("inf"), "unreadable": 0, "pixels": 9, "pairs": []}),
        ("disagreement", {"frames": 5, "unreadable": 0, "pixels": 0, "pairs": []}),
        ("disagreement", {"frames": 5, "unreadable": 0, "pixels": 9, "pairs": []}),
        ("disagreement", {"frames": 5, "unreadable": 0, "pixels": 9, "pairs": [[0, 99, 1]]}),
        ("views", []),
    ],
    ids=str,
)
def test_f5_damaged_questions_are_one_sentence(
    tmp_path: Path, pair: tuple[Bundle, Bundle, Drive], key: str, value: object
) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS):
        pass
    path = tmp_path / "out" / "questions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=r"questions\.json' is damaged"):  # noqa: SIM117
        with open_session(tmp_path / "out", *pair, SETTINGS):
            pass


def test_a_picture_in_whose_place_a_pipe_lies_is_one_sentence(
    tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]
) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        picture = tmp_path / "out" / "pictures" / "000_crop.jpg"
        picture.unlink()
        os.mkfifo(picture)
        with pytest.raises(DataError, match="it is not a file"):
            session.picture(0, "crop")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds no earlier result"):  # noqa: SIM117
        with open_session(tmp_path / "out", *pair, SETTINGS):
            pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_models_that_no_answer_can_tell_apart_are_refused(tmp_path: Path, made: Path) -> None:
    a = Bundle.open(made / "a")
    space = {**CITYSCAPES19.to_dict(), "name": "mine", "classes": [f"class {i}" for i in range(19)]}
    other = Bundle.open(write_tiny_bundle(tmp_path / "other", label_space=space))
    with pytest.raises(RecipeError, match="only models with the same classes"):
        check_models(a, other)
    with pytest.raises(RecipeError, match="are the same network"):
        check_models(a, Bundle.open(write_tiny_bundle(tmp_path / "copy", name="another name")))


def test_models_that_agree_everywhere_are_finished_at_once(tmp_path: Path, made: Path) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    cv2.imwrite(str(grey / "0.png"), np.full((64, 64, 3), 90, np.uint8))
    bundles = Bundle.open(made / "a"), Bundle.open(made / "b")
    with open_session(tmp_path / "out", *bundles, open_drive([grey]), SETTINGS) as session:
        assert session.finished
        result = session.result()
    assert result["sentence"] == "red and blue give every pixel of 1 frame the same class"
    assert (result["better"], result["difference"], result["low"], result["high"]) == (None, 0, 0, 0)


def test_the_crop_shows_the_pixel_also_at_a_border(tmp_path: Path, pair: tuple[Bundle, Bundle, Drive]) -> None:
    with open_session(tmp_path / "out", *pair, SETTINGS) as session:
        for number, (question, view) in enumerate(zip(session.questions, session.views, strict=True)):
            frame = pair[2].load(question.frame)
            crop = cv2.imdecode(np.frombuffer(session.picture(number, "crop"), np.uint8), cv2.IMREAD_COLOR)
            height, width = frame.shape[:2]
            assert crop.shape[:2] == (round(view.height * height), round(view.width * width))
            assert int(view.left * width + view.x * crop.shape[1]) == question.x
            assert int(view.top * height + view.y * crop.shape[0]) == question.y
