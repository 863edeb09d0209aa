"""The output folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from street_demo.errors import DemoError, Interrupted
from street_demo.output_folder import MARKER, replaced_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with replaced_folder(out) as work:
        (work / MARKER).write_text("{}")
        assert not out.exists()
    assert names(out) == [MARKER]
    assert names(out.parent) == ["out"]


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (MARKER, "old.txt"):
        (out / name).write_text("{}")
    with replaced_folder(out) as work:
        (work / MARKER).write_text("new")
        assert names(out) == ["old.txt", MARKER]
    assert names(out) == [MARKER]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [Interrupted(), ValueError("broken")])
def test_a_run_that_ends_early_leaves_the_earlier_result(tmp_path: Path, error: Exception) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).write_text("old")

    def run() -> None:
        with replaced_folder(out) as work:
            (work / "half").write_text("")
            raise error

    with pytest.raises(type(error)):
        run()
    assert (out / MARKER).read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_folder_of_the_user_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DemoError, match="did not make"), replaced_folder(tmp_path):
        pass
    assert names(tmp_path) == ["thesis.tex"]


def test_an_output_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DemoError, match="is a file"), replaced_folder(tmp_path / "out"):
        pass


def test_a_parent_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    # A file in the path stops every user, root too.
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="cannot be written"), replaced_folder(tmp_path / "file" / "out"):
        pass
