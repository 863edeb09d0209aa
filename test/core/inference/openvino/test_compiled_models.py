"""Compiled models on disk: every way in which one must not be loaded. The models are bytes; OpenVINO is not needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrda_core.inference.openvino.compiled_models import CompiledModels, StoredModel

SUBJECT = {"onnx_sha256": "aa", "device": "CPU", "size": "64x64"}
FACTS = {"openvino": "2026.4.1", "device_name": "a processor"}
STORED = StoredModel(bytes(range(256)) * 40, b"golden")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def models(tmp_path: Path, said: list[str]) -> CompiledModels:
    """A folder with one compiled model."""
    models = CompiledModels(tmp_path / "openvino", lambda line, level=None: said.append(line))
    assert models.find(SUBJECT, FACTS) is None
    models.keep(SUBJECT, FACTS, STORED)
    return models


def _file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "openvino").iterdir()
    return path


def test_a_compiled_model_comes_back_as_it_was_kept(models: CompiledModels, said: list[str]) -> None:
    assert models.find(SUBJECT, FACTS) == STORED
    models.keep(SUBJECT, FACTS, StoredModel(b"m", b""))
    assert models.find(SUBJECT, FACTS) == StoredModel(b"m", b"")
    assert not said


@pytest.mark.parametrize("name", [*SUBJECT, *FACTS])
def test_one_of_another_graph_device_or_version_is_not_found(models: CompiledModels, name: str) -> None:
    subject, facts = ({key: "other" if key == name else value for key, value in d.items()} for d in (SUBJECT, FACTS))
    assert models.find(subject, facts) is None


def test_the_one_of_the_version_before_goes_when_the_new_one_is_kept(models: CompiledModels, tmp_path: Path) -> None:
    before = _file(tmp_path)
    other = CompiledModels(tmp_path / "openvino", print)
    other.keep({**SUBJECT, "size": "64x128"}, FACTS, STORED)
    models.keep(SUBJECT, {**FACTS, "openvino": "2027.0"}, STORED)
    assert not before.exists()
    assert models.find(SUBJECT, {**FACTS, "openvino": "2027.0"}) == STORED
    assert models.find({**SUBJECT, "size": "64x128"}, FACTS) == STORED


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_one_counts_as_absent_and_is_told(
    models: CompiledModels, tmp_path: Path, said: list[str], damage: bytes | None
) -> None:
    path = _file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\0" if damage is None else damage)
    assert models.find(SUBJECT, FACTS) is None
    assert said == [f"the compiled model '{path}' is damaged; it is compiled again"]
    models.keep(SUBJECT, FACTS, STORED)
    assert models.find(SUBJECT, FACTS) == STORED


def test_one_that_others_can_write_is_not_used(models: CompiledModels, tmp_path: Path, said: list[str]) -> None:
    path = _file(tmp_path)
    path.chmod(0o666)
    assert models.find(SUBJECT, FACTS) is None
    assert "can be written by its group or by everyone" in said[0]
    assert "a compiled model is executable code" in said[0]
    models.discard(SUBJECT, FACTS)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_told_and_nothing_ends(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    models = CompiledModels(tmp_path / "file" / "openvino", lambda line, level=None: said.append(line))
    models.keep(SUBJECT, FACTS, STORED)
    assert said[0].startswith("the compiled model is not kept for the next start: ")


def test_the_oldest_go_where_all_are_too_large(tmp_path: Path) -> None:
    models = CompiledModels(tmp_path, print, most_bytes=30_000)
    subjects = [{**SUBJECT, "size": str(size)} for size in range(3)]
    for age, subject in enumerate(subjects):
        models.keep(subject, FACTS, STORED)
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1000 + age, 1000 + age))
    assert [models.find(subject, FACTS) is None for subject in subjects] == [True, False, False]


def test_f5_a_folder_in_the_place_of_a_compiled_model_counts_as_absent(
    models: CompiledModels, tmp_path: Path, said: list[str]
) -> None:
    path = _file(tmp_path)
    path.unlink()
    path.mkdir()
    assert models.find(SUBJECT, FACTS) is None
    assert "is not a file; remove it and it is compiled again" in said[-1]
