"""A comparison in a folder: questions with their pictures, the answers so far, the result. A later call goes on.

questions.json      models, drive, disagreement and questions; written once, and whole together with the pictures
pictures/           a crop around each pixel, and the whole frame
answers.json        written whole after each answer
result.json         the figures, as soon as nothing is left to ask
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrda_core.comparison.disagreement import Disagreement, Question, examine
from hrda_core.comparison.drive import Drive
from hrda_core.comparison.pictures import View, draw_questions, picture_name
from hrda_core.comparison.result import ANSWERS, Comparison, judge, mean_answer
from hrda_core.errors import DataError, RecipeError, TextError
from hrda_core.folder_locks import locked
from hrda_core.inference import Bundle, Predictor
from hrda_core.labels import LabelSpace
from hrda_core.plain_files import read_file
from hrda_core.untrusted_text import read_json_file
from hrda_core.whole_files import read_json, replaced_folder, write_json

__all__ = [
    "QUESTIONS_NAME",
    "RESULT_NAME",
    "Session",
    "Settings",
    "View",
    "check_models",
    "open_session",
    "same_network",
]

QUESTIONS_NAME, ANSWERS_NAME, RESULT_NAME = "questions.json", "answers.json", "result.json"


@dataclass(frozen=True)
class Settings:
    """How closely it is looked.

    Attributes:
        frames: largest number of frames on which the models are run.
        questions: number of questions at which it ends at the latest.
        backend: inference back end.
        threads: CPU threads; 0 = all cores but one.
    """

    frames: int = 100
    questions: int = 120
    backend: str = "auto"
    threads: int = 0


@dataclass
class Session:
    """An open comparison. Open it with `open_session`.

    Attributes:
        folder: where it is kept.
        names: names of the models A and B.
        drive: names of what was looked at.
        disagreement: how often the models disagree.
        questions: all questions, in their order.
        views: where each is in its pictures.
        most: number of questions at which it ends at the latest.
        space: classes of the models.
        answers: answers so far, some of `ANSWERS`.
    """

    folder: Path
    names: tuple[str, str]
    drive: tuple[str, ...]
    disagreement: Disagreement
    questions: tuple[Question, ...]
    views: tuple[View, ...]
    most: int
    space: LabelSpace
    answers: list[str]

    def comparison(self) -> Comparison:
        """Return the figures of the answers so far."""
        return judge(self.disagreement, self.questions, self.answers, self.most, self.space)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask."""
        if len(self.answers) >= len(self.questions):
            return True
        return mean_answer(self.disagreement, self.questions, self.answers, self.most).sign != 0

    def answer(self, number: int, answer: str) -> None:
        """Keep the answer to a question; nothing happens if it is not the next one, as after a second click.

        Raises:
            ValueError: the answer is none of `ANSWERS`.
            DataError: it cannot be written.
        """
        if answer not in ANSWERS:
            raise ValueError(answer)
        if number == len(self.answers) and not self.finished:
            self._keep([*self.answers, answer])

    def undo(self, number: int) -> None:
        """Take the last answer back, if `number` is the next question and it has not ended.

        Raises:
            DataError: it cannot be written.
        """
        if number == len(self.answers) > 0 and not self.finished:
            self._keep(self.answers[:-1])

    def picture(self, number: int, kind: str) -> bytes:
        """Return the JPEG of a question: `crop` or `frame`.

        Raises:
            DataError: it is not there any more.
        """
        path = self.folder / picture_name(number, kind)
        try:
            return read_file(path)
        except OSError as error:
            raise DataError(f"'{path}' cannot be read ({error}); remove '{self.folder}' and start again") from error

    def result(self) -> dict[str, Any]:
        """Return the figures as plain values, with the names of models and drive."""
        a, b = self.names
        found = self.comparison()
        about = {"a": a, "b": b, "drive": list(self.drive), "sentence": found.sentence(a, b)}
        return {**about, **found.to_dict(), "folder": str(self.folder)}

    def _keep(self, answers: list[str]) -> None:
        values = {"questions": _hash_of(self.folder / QUESTIONS_NAME), "answers": answers}
        write_json(self.folder / ANSWERS_NAME, values)
        self.answers = answers
        if self.finished:
            write_json(self.folder / RESULT_NAME, self.result())


@contextmanager
def open_session(
    folder: Path,
    a: Bundle,
    b: Bundle,
    drive: Drive,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Session]:
    """Begin a comparison, or go on with it; it belongs to this process as long as the block runs.

    Raises:
        RecipeError: the models cannot be compared, or the folder belongs to another comparison.
        DataError: the drive cannot be read, the folder holds something else or damaged answers, another process asks
            the same questions, or the disk refuses.
        BackendError: a model does not run here.
    """
    check_models(a, b)
    identity = {
        "model A": _identity(a),
        "model B": _identity(b),
        "drive": drive.identity,
        "--frames": settings.frames,
        "--questions": settings.questions,
    }
    if not (folder / QUESTIONS_NAME).is_file():
        with replaced_folder(folder, QUESTIONS_NAME) as part:
            _prepare(part, a, b, drive, settings, identity, progress)
    with locked(folder, f"asking the questions of '{folder}'"):
        yield _opened(folder, identity)


def check_models(a: Bundle, b: Bundle) -> None:
    """Refuse two models that no answer can tell apart.

    Raises:
        RecipeError: they have other classes, or are the same.
    """
    if a.label_space.classes != b.label_space.classes:
        first, second = a.label_space, b.label_space
        raise RecipeError(
            f"model '{a.path}' has the {len(first)} classes of '{first.name}' and model '{b.path}' the {len(second)} "
            f"of '{second.name}'; only models with the same classes can be compared"
        )
    if same_network(a, b):
        raise RecipeError(f"'{a.path}' and '{b.path}' are the same network; give two that differ")


def same_network(a: Bundle, b: Bundle) -> bool:
    """Return whether two bundles give the same masks, since graph, window plan and input size are the same."""
    return _identity(a) == _identity(b)


def _identity(bundle: Bundle) -> str:
    """Of what decides on the masks; a bundle stays the same model when a report or a score is added."""
    graph = bundle.graphs[bundle.default_plan]
    values = [bundle.manifest["files"][graph.file]["sha256"], graph.to_dict(), bundle.scale.to_dict()]
    return _hash(json.dumps(values))


def _prepare(
    folder: Path,
    a: Bundle,
    b: Bundle,
    drive: Drive,
    settings: Settings,
    identity: Mapping[str, Any],
    progress: Callable[[int, int], None],
) -> None:
    seed = int(_hash(json.dumps(identity))[:8], 16)
    numbers = drive.sample(settings.frames, seed)
    predict = [Predictor(bundle, settings.backend, threads=settings.threads) for bundle in (a, b)]
    disagreement, questions = examine(drive, numbers, predict[0], predict[1], settings.questions, seed, progress)
    for one in predict:
        one.close()
    values = {
        "identity": identity,
        "names": [a.name, b.name] if a.name != b.name else [str(a.path), str(b.path)],
        "drive": list(drive.names),
        "disagreement": disagreement.to_dict(),
        "questions": [asdict(question) for question in questions],
        "views": [asdict(view) for view in draw_questions(folder, drive, questions)],
        "label_space": a.label_space.to_dict(),
    }
    write_json(folder / QUESTIONS_NAME, values)


def _opened(folder: Path, identity: Mapping[str, Any]) -> Session:
    path = folder / QUESTIONS_NAME
    values = read_json(path)
    try:
        other = [name for name in identity if values["identity"][name] != identity[name]]
        if other:
            raise RecipeError(
                f"'{folder}' holds the answers of another comparison (differs in {', '.join(other)}); give another "
                f"--out, or remove it"
            )
        session = Session(
            folder,
            (str(values["names"][0]), str(values["names"][1])),
            tuple(str(name) for name in values["drive"]),
            Disagreement.from_dict(values["disagreement"]),
            tuple(Question(**question) for question in values["questions"]),
            tuple(View(**view) for view in values["views"]),
            int(identity["--questions"]),
            LabelSpace.from_dict(values["label_space"]),
            [],
        )
        _check(session)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"'{path}' is damaged ({error!r}); remove '{folder}' and start again") from error
    session.answers = _answers(folder, session)
    return session


def _check(session: Session) -> None:
    """Refuse what no comparison writes: the page and the figures would fail in the middle of the answers."""
    found, classes = session.disagreement, range(len(session.space))
    if min(found.frames, found.pixels, *found.pairs.values()) < 1:
        raise ValueError("a count is below 1")
    if any(a not in classes or b not in classes for a, b in found.pairs):
        raise ValueError(f"a class is none of '{session.space.name}'")
    if any((question.a, question.b) not in found.pairs for question in session.questions):
        raise ValueError("a question is about classes on which the models agree")
    if len(session.views) != len(session.questions):
        raise ValueError(f"{len(session.views)} views of {len(session.questions)} questions")


def _answers(folder: Path, session: Session) -> list[str]:
    path = folder / ANSWERS_NAME
    if not path.is_file():
        return []
    try:
        values = read_json_file(path)
        answers = [str(answer) for answer in values["answers"]]
        if values["questions"] != _hash_of(folder / QUESTIONS_NAME):
            raise ValueError("they belong to other questions")
        if len(answers) > len(session.questions) or set(answers) - set(ANSWERS):
            raise ValueError(f"{len(answers)} answers to {len(session.questions)} questions")
    except (OSError, TextError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the answers in '{path}' cannot be used ({error}); remove this file to answer the same questions anew"
        ) from error
    return answers


def _hash_of(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
