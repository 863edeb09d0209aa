"""The one place that writes: whole or not there, whatever the content, the moment of a kill, and who else writes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core import whole_files
from hrda_core.errors import BundleError, DataError, HrdaError
from hrda_core.folder_locks import held_folder
from hrda_core.whole_files import (
    cache_folder,
    file_sha256,
    read_json,
    remove_unfinished,
    replaced_folder,
    unfinished,
    whole_file,
    write_json,
    write_whole,
)

MARKER = "result.json"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class StopError(Exception):
    """Ends a block early."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / text).write_text(text)
    (folder / MARKER).write_text("{}")


# --- files


@settings(max_examples=50, deadline=None)
@given(name=NAMES, contents=st.lists(st.tuples(st.binary(max_size=200), st.booleans()), min_size=1, max_size=6))
def test_a_file_holds_what_was_last_written_to_the_end(
    tmp_path_factory: pytest.TempPathFactory, name: str, contents: list[tuple[bytes, bool]]
) -> None:
    folder, last = tmp_path_factory.mktemp("files"), None
    for content, ends_well in contents:
        with suppress(StopError), whole_file(folder / name) as part:
            part.write_bytes(content)
            if not ends_well:
                raise StopError
            last = content
        assert names(folder) == ([] if last is None else [name])
        assert last is None or (folder / name).read_bytes() == last


@settings(max_examples=50, deadline=None)
@given(values=VALUES)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "sub" / "x.json"
    write_json(path, values)
    assert read_json(path) == values
    assert names(path.parent) == ["x.json"]


def test_a_damaged_or_missing_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "y.json"):
        with pytest.raises(DataError, match=rf"{name[0]}\.json' cannot be read"):
            read_json(tmp_path / name)


def test_text_is_written_as_utf_8_and_hashed_as_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "größer\n")
    assert (tmp_path / "a").read_bytes() == "größer\n".encode()
    assert file_sha256(tmp_path / "a") == "6bfef1e5d544e74b1f3586d78f5b951b6a4de2161599ff5f429922aa0abf1548"


def test_the_error_is_one_sentence_of_the_callers_class_and_says_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match=r"x' cannot be written \(.+\); nothing was written: ask for room"):
        write_whole(tmp_path / "file" / "x", b"", error=BundleError, advice="ask for room")
    (tmp_path / "kept").write_text("old")
    with (
        pytest.raises(DataError, match=r"\(No space left on device\); the previous one is kept: free space"),
        whole_file(tmp_path / "kept"),
    ):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "kept").read_text() == "old"
    assert names(tmp_path) == ["file", "kept"]


def test_a_full_disk_of_temporary_files_is_named_and_not_taken_for_that_of_the_place(tmp_path: Path) -> None:
    full, (result, place) = "/elsewhere/hrda_fold", (tmp_path / "result", tmp_path / "place")
    with pytest.raises(DataError, match=f"'{place}' .+'{full}': No space left"), replaced_folder(place, MARKER):
        raise OSError(errno.ENOSPC, "No space left on device", full)
    with pytest.raises(DataError, match=f"'{result}' .+'{full}': No space left"), whole_file(result):
        raise OSError(errno.ENOSPC, "No space left on device", full)
    assert names(tmp_path) == []


def test_a_folder_or_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(DataError, match="it is not a file"):
            write_whole(place, b"x")
    assert Path("/dev/null").is_char_device()


def test_permissions_are_those_of_all_files_of_the_process_unless_they_are_given(tmp_path: Path) -> None:
    def write_for_its_owner_alone(part: Path) -> None:
        part.unlink()  # as libraries do that write beside and rename
        part.touch(0o600)

    before = os.umask(0o027)
    try:
        for name, mode in (("usual", None), ("given", 0o644)):
            with whole_file(tmp_path / name, mode=mode) as part:
                write_for_its_owner_alone(part)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("usual", "given")] == [0o640, 0o644]


def test_what_a_killed_process_left_an_hour_ago_goes_with_the_next_durable_write(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / f".{name}.part" for name in ("0123456789abcdef", "fedcba9876543210", "film"))
    for part in (old, new, foreign):
        part.write_bytes(b"half")
    for part in (old, foreign):
        os.utime(part, (time.time() - 3700,) * 2)
    write_whole(tmp_path / "a", b"", durable=True)
    assert names(tmp_path) == [".fedcba9876543210.part", ".film.part", "a"]


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from hrda_core.whole_files import write_whole
while True:
    write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 100_000, durable=True)
"""


def test_processes_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"0" * 100_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path), letter]) for letter in "12"]
    try:
        seen, deadline = set(), time.monotonic() + 120
        while len(seen) < 3 and time.monotonic() < deadline:
            content = path.read_bytes()
            assert len(content) == 100_000
            assert len(set(content)) == 1
            seen.add(content[0])
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert seen == set(b"012")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("HRDA_CACHE")
    assert cache_folder() == Path("/b/hrda")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "hrda"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    assert cache_folder() == Path(tempfile.gettempdir()) / f"hrda_{os.getuid()}"

    def none_can_be_written() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/']")

    monkeypatch.setattr(tempfile, "gettempdir", none_can_be_written)  # a read-only container that nobody gave one
    assert cache_folder() == Path("/tmp") / f"hrda_{os.getuid()}"


# --- folders


@pytest.fixture(params=["swap", "two renames"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the file system can swap two names."""
    if request.param == "two renames":
        monkeypatch.setattr(whole_files, "_swap", lambda one, other: False)


@pytest.mark.usefixtures("_either_way")
def test_a_folder_appears_at_the_end_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        before = names(out) if out.exists() else None
        with replaced_folder(out, MARKER) as work:
            assert not work.exists()
            assert work.name == "out"
            fill(work, text)
            assert (names(out) if out.exists() else None) == before
        assert names(out) == sorted([text, MARKER])
        assert names(out.parent) == ["out"]


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_a_block_that_ends_early_leaves_the_earlier_folder_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    with replaced_folder(tmp_path / "out", MARKER) as work:
        fill(work, "old")
    with pytest.raises(type(error)), replaced_folder(tmp_path / "out", MARKER) as work:  # noqa: PT012
        fill(work, "new")
        raise error
    assert names(tmp_path / "out") == ["old", MARKER]
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "out", MARKER) as work:
        (tmp_path / "out").mkdir()
        fill(work, "new")
    assert names(tmp_path / "out") == ["new", MARKER]


@pytest.mark.parametrize("place", ["out", "out.part"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_result_is_never_touched(tmp_path: Path, place: str, kind: str) -> None:
    foreign = tmp_path / place / "thesis.tex" if kind == "folder" else tmp_path / place
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("years")
    with (
        pytest.raises(BundleError, match=rf"'{tmp_path / 'out'}"),
        replaced_folder(tmp_path / "out", MARKER, error=BundleError),
    ):
        pytest.fail("the block was entered")
    assert foreign.read_text() == "years"
    assert names(tmp_path) == [place]


def test_a_parent_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    # A file in the path stops every user, root too.
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"cannot be written \(.+\); what was there before is unchanged"),
        replaced_folder(tmp_path / "file" / "out", MARKER),
    ):
        pytest.fail("the block was entered")


def test_work_is_resumed_only_if_it_was_begun_with_the_same_values(tmp_path: Path) -> None:
    def interrupt(values: dict[str, Any], *, resume: bool) -> bool:
        """Whether earlier work was there."""
        there = False
        with (
            suppress(StopError),
            replaced_folder(tmp_path / "out", MARKER, about=values, resume=resume, keep=True) as work,
        ):
            there = work.exists()
            work.mkdir(exist_ok=True)
            raise StopError
        return there

    one, other = {"model": "a", "sizes": (1, 2)}, {"model": "b", "sizes": (1, 2)}
    assert unfinished(tmp_path / "out") is None
    assert not interrupt(one, resume=True)
    assert unfinished(tmp_path / "out") == {"model": "a", "sizes": [1, 2]}
    assert interrupt(one, resume=True)
    assert not interrupt(other, resume=True)
    assert not interrupt(other, resume=False)
    with replaced_folder(tmp_path / "out", MARKER, about=other, resume=True) as work:
        fill(work, "new")
    assert names(tmp_path) == ["out"]
    assert unfinished(tmp_path / "out") is None


def test_two_that_write_the_same_folder_are_told_apart(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "out", MARKER) as work:
        sentence = f"process {os.getpid()} is writing '.*out'; wait until it has ended"
        with pytest.raises(DataError, match=sentence), replaced_folder(tmp_path / "out", MARKER):
            pytest.fail("the block was entered")
        fill(work, "first")
    assert names(tmp_path / "out") == ["first", MARKER]


@pytest.mark.parametrize("resume", [True, False])
def test_t9_two_at_once_what_no_call_left_beside_a_result_is_never_removed(tmp_path: Path, resume: bool) -> None:
    part = tmp_path / "out.part"
    part.mkdir()
    (part / "about.json").write_text("{}")
    (part / "thesis.tex").write_text("years")
    with (
        pytest.raises(BundleError, match=r"thesis.tex' was left by no interrupted call; move it away, or give another"),
        replaced_folder(tmp_path / "out", MARKER, resume=resume, error=BundleError),
    ):
        pytest.fail("the block was entered")
    remove_unfinished(tmp_path / "out")
    assert names(part) == ["about.json", "thesis.tex"]


def test_t9_two_at_once_an_earlier_result_is_kept_if_another_took_its_place_after_a_kill(tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "out.part"
    for folder, text in ((out, "of another"), (part / "out.old", "earlier"), (part / "out.new", "killed")):
        folder.mkdir(parents=True)
        fill(folder, text)
    for name in (".lock", "about.json"):
        (part / name).write_text("{}")
    with (
        pytest.raises(DataError, match=r"out.old' is the result that was in '.*out' before a call was killed; move"),
        replaced_folder(out, MARKER),
    ):
        pytest.fail("the block was entered")
    assert names(part / "out.old") == ["earlier", MARKER]
    assert names(out) == ["of another", MARKER]
    shutil.rmtree(part / "out.old")
    with replaced_folder(out, MARKER) as work:
        fill(work, "new")
    assert names(tmp_path) == ["out"]


def test_t9_two_at_once_what_another_put_in_the_place_of_a_result_meanwhile_is_kept(tmp_path: Path) -> None:
    def meets_another(out: Path) -> None:
        with replaced_folder(out, MARKER) as work:
            fill(work, "new")
            with held_folder(out, "training in it"):
                (out / "checkpoint").write_text("a night")

    with pytest.raises(DataError, match=r"'.*out' exists and holds no earlier result"):
        meets_another(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["checkpoint"]


# --- kills


@pytest.mark.parametrize(
    ("case", "least"),
    [
        ("file", 5),
        ("folder", 15),
        ("folder without swap", 15),
        ("bundle", 20),
        ("copy", 10),
        ("record", 12),
        ("engine", 9),
    ],
)
def test_c3_a_kill_before_any_change_leaves_the_old_or_the_new_whole(
    repository: Path, tmp_path: Path, case: str, least: int
) -> None:
    """Also of a bundle: it opens, with hashes that match."""
    support = repository / "test" / "support"
    path = os.pathsep.join([str(repository), str(support), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(support / "killed_writes.py"), case, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["broken"] == []
    assert result["kills"] >= least
    # The kills came before and after the moment that decides, and never was it undecided.
    assert result["found"] == sorted(result["found"], reverse=True)
    assert set(result["found"]) == {"old", "new"}


def test_c4_no_error_of_a_writer_escapes_as_anything_but_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda: write_json(tmp_path / "file" / "x", {}),
        lambda: write_whole(tmp_path / ("x" * 300), b""),
    ):
        with pytest.raises(HrdaError) as caught:
            write()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "/", "."])
def test_a_path_without_a_name_is_one_sentence(path: str) -> None:
    with pytest.raises(DataError, match="is not the name of a file, and nothing was written"):
        write_whole(Path(path), b"x")
