"""The working folder: one set of options, stages with their time, files whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrda_core.adaptation.workspace import Workspace
from hrda_core.errors import DataError, RecipeError
from hrda_core.folder_locks import held_folder
from hrda_core.whole_files import read_json, write_json


def _open(folder: Path, options: dict[str, object] | None = None) -> Workspace:
    return Workspace.open(folder, options or {"bag": "a", "seed": 0}, lambda _: None)


def test_the_same_options_go_on_and_times_add_up(tmp_path: Path) -> None:
    first = _open(tmp_path / "work")
    with first.stage("frames", "reading"):
        pass
    second = _open(tmp_path / "work")
    assert "frames" in second.stages


def test_other_options_are_refused_and_named(tmp_path: Path) -> None:
    _open(tmp_path / "work")
    with pytest.raises(RecipeError, match=r"differs in seed\); give another --work"):
        _open(tmp_path / "work", {"bag": "a", "seed": 1})


def test_a_folder_that_another_release_left_is_refused(tmp_path: Path) -> None:
    _open(tmp_path / "work")
    write_json(tmp_path / "work" / "options.json", {"bag": "a", "seed": 0})
    with pytest.raises(RecipeError, match=r"differs in format of the working folder\); give another --work, or delete"):
        _open(tmp_path / "work")


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(RecipeError, match="holds something else"):
        _open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_holds_but_its_lock_is_taken_and_removed_if_nothing_was_reached(tmp_path: Path) -> None:
    with held_folder(tmp_path / "work", "adapting"):
        _open(tmp_path / "work").discard_if_empty()
    assert not (tmp_path / "work").exists()


def test_a_failed_stage_counts_its_time_and_passes_the_error_on(tmp_path: Path) -> None:
    work = _open(tmp_path / "work")
    with pytest.raises(DataError, match="no"), work.stage("train", "training"):
        raise DataError("no")
    assert "train" in read_json(tmp_path / "work" / "stages.json")


def test_a_folder_in_which_nothing_was_reached_is_removed_and_another_is_kept(tmp_path: Path) -> None:
    work = _open(tmp_path / "work")
    work.discard_if_empty()
    assert not (tmp_path / "work").exists()
    work = _open(tmp_path / "work")
    write_json(work.path("frames/selection.json"), {})
    work.discard_if_empty()
    assert (tmp_path / "work" / "frames" / "selection.json").is_file()
