"""What `--source` means: the pack that comes with the package, wherever it is installed; none; a path; a data set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hrda_core import share_folders
from hrda_core.data.packs.pack_folders import DEFAULT_PACK, FoundSource, find_source, is_shipped
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.errors import DataError


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The share folder of a sourced workspace; no other is installed."""
    package = tmp_path / "install" / "hrda_ros" / "share" / "hrda_ros"
    package.mkdir(parents=True)
    (package / "package.xml").write_text("<package><name>hrda_ros</name></package>")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install" / "hrda_ros"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no_python"))
    return package


def _pack(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "pack.yaml").write_text("# hrda_ros source pack\n")
    return folder


def test_the_default_is_the_clone_s_from_any_folder(
    share: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source(DEFAULT_PACK).spec == str(repository / "packs" / "streets")


def test_the_one_of_the_sourced_workspace_comes_before_the_clone_s(share: Path) -> None:
    pack = _pack(share / "packs" / "streets")
    assert find_source("streets") == FoundSource(str(pack), f"source 'streets' is '{pack}' (installed)")


def test_the_one_of_this_python_is_found(share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    pack = _pack(tmp_path / "python" / "share" / "hrda_ros" / "packs" / "streets")
    assert find_source("streets").spec == str(pack)


def test_links_that_lead_nowhere_any_more_are_no_pack(share: Path, repository: Path) -> None:
    folder = share / "packs" / "streets"
    folder.mkdir(parents=True)
    (folder / "pack.yaml").symlink_to(share / "removed")
    assert find_source("streets").spec == str(repository / "packs" / "streets")


def test_the_shipped_pack_is_whole_small_and_holds_out_other_scenes(repository: Path) -> None:
    pack = SourcePack.open(repository / "packs" / "streets")
    assert pack.bytes < 30e6
    scenes = [
        {path.stem.split("_")[2] for path in pairs.images} for pairs in (pack.train_pairs(), pack.held_out_pairs())
    ]
    assert len(scenes[0]) > 100
    assert len(scenes[1]) == 12
    assert not scenes[0] & scenes[1]


@pytest.mark.parametrize("given", ["", "none"])
def test_none_is_no_source(given: str) -> None:
    assert find_source(given) == FoundSource("")


@pytest.mark.parametrize("given", ["./streets", "packs/streets", "gta5:data/gta", "mine", ".", "/data"])
def test_paths_data_sets_and_other_names_stay_as_they_are(share: Path, given: str) -> None:
    assert find_source(given) == FoundSource(given)


def test_a_folder_of_the_same_name_is_pointed_to(share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = _pack(share / "packs" / "streets")
    (tmp_path / "streets").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_source("streets")
    assert found.spec == str(pack)
    assert found.remark.endswith("; for the folder here write ./streets")


def test_where_it_is_nowhere_the_sentence_says_what_to_do(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_folders, "__file__", str(tmp_path / "a" / "b.py"))
    (tmp_path / "streets").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of that name in the working folder does not become the default
    with pytest.raises(DataError, match=r"this package lacks the source pack 'streets'.*--source none"):
        find_source("streets")


def test_what_came_with_the_package_is_known_by_its_place(share: Path, repository: Path) -> None:
    assert is_shipped(share / "packs" / "streets")
    assert is_shipped(repository / "packs" / "streets")
    assert is_shipped(Path(os.path.relpath(repository / "packs" / "streets")))
    assert not is_shipped(repository / "packs" / "gta")  # of somebody who works in the source tree
    assert not is_shipped(Path("/data/streets"))
