"""A verb's options come from the fields of its request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from hrda_core.data.datasets.layouts import layout_names
from hrda_core.errors import RecipeError
from hrda_core.inference.overlay import OUTPUTS
from hrda_core.labels import EVALUATION_GROUPS
from hrda_training.arguments import pair, parse_request
from hrda_training.evaluate import EvaluateRequest
from hrda_training.pack_source import PackRequest
from hrda_training.predict import PredictRequest


@dataclass(frozen=True)
class Drive:
    """What a made-up verb does.

    Attributes:
        bags: recordings, one or
            several
        out: folder of the result
        topic: image topics
        size: height and width, pixels
        network: which of both
        mic: masked image consistency
        resume: go on
        overrides: values that are replaced
        frames: how many
        hours: from and to
        command: as it was called
    """

    bags: tuple[Path, ...]
    out: Path
    topic: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    network: Literal["student", "teacher"] = "student"
    mic: bool | None = None
    resume: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    frames: int = 5
    hours: range = range(24)
    command: str = ""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise RecipeError(f"--frames is {self.frames}; give 1 or more")


def _hours(word: str) -> range:
    first, _, last = word.partition("-")
    if not first.isdigit() or not last.isdigit():
        raise RecipeError(f"--hours is FROM-TO, for example 6-18, not '{word}'")
    return range(int(first), int(last))


def _parse(line: str) -> tuple[Drive, Path | None]:
    return parse_request(
        Drive, shlex.split(line), verb="drive off", about="Drive.\n\nMore.", positional="bags", read={"hours": _hours}
    )


def test_a_short_line_gives_the_defaults_of_the_dataclass() -> None:
    assert _parse("one --out two") == (Drive((Path("one"),), Path("two"), command="hrda drive off one --out two"), None)


def test_flags_words_choices_and_keys_come_as_their_types() -> None:
    line = "a b --out c --topic /x /y --size 480 640 --network teacher --mic false --resume --hours 6-18 --json 'd e'"
    request, json = _parse(f"{line} --overrides.width 64 --overrides.encoder mit_b0")
    assert (request.bags, request.topic, request.size) == ((Path("a"), Path("b")), ("/x", "/y"), (480, 640))
    assert (request.network, request.mic, request.resume, json) == ("teacher", False, True, Path("d e"))
    assert request.hours == range(6, 18)
    assert request.overrides == {"width": 64, "encoder": "mit_b0"}
    assert shlex.split(request.command)[:2] == ["hrda", "drive"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--out c", "required: bags"),
        ("a", "required: out"),
        ("a --out c --frames many", "--frames: expected a whole number, not 'many'"),
        ("a --out c --frames ''", "--frames: expected a whole number, not ''"),
        ("a --out c --frames 0", "--frames is 0; give 1 or more"),
        ("a --out c --size 480", "--size: expected 2"),
        ("a --out c --network tutor", "--network: expected student or teacher, not 'tutor'"),
        ("a --out c --hours noon", "--hours is FROM-TO, for example 6-18, not 'noon'"),
        ("a --out c --mic perhaps", "--mic: expected true or false or null, not 'perhaps'"),
        ("a --out c --size 3 b:4", "--size: expected a whole number, not 'b:4'"),
        ("a --out c --tpoic x", "did you mean --topic"),
        ("a --out c --command x", "unrecognized arguments: --command"),
    ],
)
def test_a_mistake_is_one_sentence(line: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        _parse(line)
    assert "\n" not in str(caught.value)


def test_the_docstring_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("docstring_parser")
    with pytest.raises(SystemExit):
        _parse("--help")
    words = " ".join(capsys.readouterr().out.split())
    for text in (
        "Drive. positional",
        "recordings, one or several",
        "height and width, pixels",
        "go on (default: False)",
    ):
        assert text in words
    assert "as it was called" not in words


def test_a_pair_is_two_numbers_in_one_word() -> None:
    grid = pair("--grid", "2x3")
    assert grid("2X3 ") == (2, 3)
    for text in ("2", "2x", "0x2", "2x3x4", "two x three"):
        with pytest.raises(RecipeError, match=f"--grid must be two numbers above 0 like 2x3, not '{text}'"):
            grid(text)


@pytest.mark.parametrize(
    ("request_class", "names"),
    [
        (PackRequest, layout_names()),
        (EvaluateRequest, layout_names()),
        (EvaluateRequest, EVALUATION_GROUPS),
        (PredictRequest, OUTPUTS),
    ],
)
def test_a_help_that_lists_names_lists_all_there_are(request_class: type, names: Iterable[str]) -> None:
    words = re.findall(r"\w+", request_class.__doc__ or "")
    assert set(names) <= set(words)


def test_f7_a_word_that_is_no_text_is_one_sentence() -> None:
    with pytest.raises(RecipeError, match=r"'/data/caf\ufffd' is no text in UTF-8; rename .* set LC_ALL=C\.UTF-8"):
        parse_request(Drive, ["a.bag", "--out", "/data/caf\udce9"], verb="drive", about=__doc__, positional="bags")
