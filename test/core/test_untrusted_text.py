"""YAML and JSON from outside (F5): plain values within limits, or one sentence with line and nearest key."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.data.packs.format import read_manifest
from hrda_core.errors import HrdaError, TextError
from hrda_core.inference import Bundle
from hrda_core.label_files import find_groups, read_label_space
from hrda_core.labels import CITYSCAPES19
from hrda_core.trainer.loading import load_recipe
from hrda_core.untrusted_text import Limits, parse_json, parse_yaml, read_json_file, read_yaml_file
from hrda_core.whole_files import read_json

REPOSITORY = Path(__file__).parents[2]
WIDE = Limits(bytes=1 << 28, depth=50, nodes=10**7)

BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    for i in range(1, 12)  # 2 x 10^11 values
)
MERGED_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}, r: *a{i - 1}}}\n" for i in range(1, 19)
)

REFUSED = {
    BOMB: "line 5, at 'a4': it holds more than 10000 values",
    MERGED_BOMB: "it holds more than 10000 values",
    "long: &long " + "y" * 60_000 + "\nmany: [" + "*long, " * 300 + "]": "at 'many': it holds more than 10000 values",
    "[" * 5000: "line 1: lists and mappings lie in each other more than 20 deep",
    "a:\n  b: &b [*b]": "line 2, at 'b': the alias '*b' stands for nothing before it, or contains itself",
    "a: *nothing": "the alias '*nothing' stands for nothing",
    "size: " + "9" * 6000: "line 1, at 'size': the number 9999",
    "a: 1\nb: {c: 1,\n c: 2}": "line 3, at 'b': it gives 'c' twice",
    "run: !!python/object/apply:os.system [x]": "at 'run': it has the tag",
    "run: !x 3": "it has the tag '!x'",
    "? [1, 2]\n: 3": "a key is a list or mapping",
    "a: " + "y" * 70_000: "a text is longer than 65536 characters",
    "--- 1\n--- 2": "a second document",
    "a: 1\nb: {c: 1": ", at 'b': did not find",
    "a: \0": "control characters are not allowed",
    'a: "\\ud800"': "at 'a'",
    "a: 0x_": "at 'a': '0x_' is no number",
    "a: {<<: 3}": "'<<' takes mappings only",
    "x" * (1 << 20) + "x": "larger than 1048576 bytes",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text)[:30])
def test_f5_yaml_that_asks_for_more_is_refused_at_once_with_line_and_key(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(TextError) as caught:
        parse_yaml(text)
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - begin < 5  # a bomb takes minutes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "more than 20 deep"),
        ("[" * 21 + "]" * 21, "more than 20 deep"),
        ('{"a": {"b": 1, "b": 2}}', "gives 'b' twice"),
        ("9" * 6000, "more than 100 characters"),
        ('{"x": {"y": [1, 2,}', "line 1, at 'y': "),
        ('{"a": "\\ud800"}', "half of a character"),
        ("[" + "0," * 10_001 + "0]", "more than 10000 values"),
        ('"' + "y" * 70_000 + '"', "longer than 65536 characters"),
        (b'\n{"a": "\xff"}', "line 2: it is not UTF-8"),
        ("", "line 1: "),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_f5_json_that_asks_for_more_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        parse_json(text)


def test_f5_what_is_within_the_limits_is_read() -> None:
    assert parse_json("[" * 20 + "]" * 20) == parse_yaml("[" * 20 + "]" * 20)
    assert parse_yaml("a: 18446744073709551615") == {"a": 2**64 - 1}
    assert parse_yaml("a: 2020-01-01") == {"a": "2020-01-01"}
    assert parse_yaml("b: &b {x: 1, y: 1}\nc: {<<: *b, y: 2}") == {"b": {"x": 1, "y": 1}, "c": {"x": 1, "y": 2}}
    assert parse_yaml("- <<\n- {a: <<}") == ["<<", {"a": "<<"}]
    assert parse_yaml(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert parse_yaml("") is None


def test_every_yaml_file_of_the_project_reads_as_with_safe_load() -> None:
    files = [file for file in REPOSITORY.glob("*/**/*.yaml") if ".venv" not in str(file)]
    assert len(files) > 20
    for file in files:
        text = file.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        assert repr(parse_yaml(text, WIDE)) == repr(yaml.load(text, Loader=loader)), file  # a safe one


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_what_is_written_comes_back(values: object) -> None:
    assert parse_yaml(yaml.safe_dump(values)) == values
    assert parse_json(json.dumps(values)) == values


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[]{}:,-&*!<>|#'\"ab01.~ \n?%@", max_size=40), st.sampled_from([parse_yaml, parse_json]))
def test_f5_any_text_is_values_or_one_sentence(text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except TextError as error:
        assert "\n" not in str(error)  # noqa: PT017  # both ends are right


def test_large_files_within_their_limits_are_read_as_fast_as_by_the_library() -> None:
    record = {"bytes": 12345, "sha256": "ab" * 32, "counts": [7] * 19}
    text = yaml.dump({f"images/{i}.jpg": record | {"bytes": i} for i in range(300)}, Dumper=yaml.CSafeDumper)
    times = []
    for parse in (lambda: yaml.load(text, Loader=yaml.CSafeLoader), lambda: parse_yaml(text, WIDE)):
        begin = time.process_time()
        parse()
        times.append(time.process_time() - begin)
    assert times[1] < 4 * times[0] + 0.1


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("manifest.yaml", Bundle.open),
        ("pack.yaml", read_manifest),
        ("recipe.yaml", load_recipe),
        ("space.yaml", lambda folder: read_label_space(folder / "space.yaml")),
        ("groups.yaml", lambda folder: find_groups(str(folder / "groups.yaml"), CITYSCAPES19)),
        ("work.json", lambda folder: read_json(folder / "work.json")),
    ],
)
def test_f5_each_reader_says_what_is_wrong_with_which_file(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    for text in (BOMB.replace("x, x", "x, " * 500), "[" * 5000, "a: !!python/none 3", "a: \0", "9" * 6000):
        (tmp_path / name).write_text(text)
        with pytest.raises(HrdaError, match=str(tmp_path)):
            read(tmp_path)


def test_f5_yaml_is_read_in_one_place() -> None:
    files = [file for folder in ("hrda_core", "hrda_ros", "training") for file in (REPOSITORY / folder).rglob("*.py")]
    readers = re.compile(r"\b(yaml\.safe_load\(|yaml\.load\(|yaml\.compose\(|json\.load\(|json\.loads\(.*read_)")
    found = {str(file.relative_to(REPOSITORY)) for file in files if readers.search(file.read_text(encoding="utf-8"))}
    assert found == {"hrda_core/bench/layers.py"}, "there it is what ONNX Runtime has just written"


def test_f5_a_pipe_or_folder_is_no_file_and_a_missing_one_is_said_by_the_system(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_yaml_file, read_json_file):
        for place in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(TextError, match="not a file"):
                read(place)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
