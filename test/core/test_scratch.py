"""Folders for libraries that write files: a disk without room is told as that."""

from __future__ import annotations

import errno
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

from hrda_core.deploy.onnx_graph import basic_optimisations
from hrda_core.errors import DataError
from hrda_core.scratch import scratch_folder, temporary_folder


@contextmanager
def _no_file_above(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_c4_a_graph_that_a_library_finds_no_room_for_is_told_as_that(tiny_bundle: Path) -> None:
    model = onnx.load(tiny_bundle / "model.onnx")
    with pytest.raises(OSError, match="File too large") as caught, _no_file_above(10):
        basic_optimisations(model)
    assert (caught.value.errno, "hrda_fold_" in str(caught.value.filename)) == (errno.EFBIG, True)


@pytest.mark.parametrize("folder", [scratch_folder, temporary_folder])
def test_c4_where_no_temporary_file_can_be_written_one_sentence_says_so_and_names_tmpdir(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    sentence = r"no folder for temporary files can be written to \(.*'/proc/nowhere'.*\); .* TMPDIR"
    with pytest.raises(DataError, match=sentence), folder("test"):
        pytest.fail("the block was entered")


def test_where_there_is_room_an_error_stays_what_it_is_and_the_folder_goes() -> None:
    def fails() -> None:
        with scratch_folder("test") as folder:
            folders.append(folder)
            raise RuntimeError("of the library")

    folders: list[Path] = []
    with pytest.raises(RuntimeError, match="of the library"):
        fails()
    assert not folders[0].exists()
