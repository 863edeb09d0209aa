"""`--max_megapixels` of the commands that decode pictures: one field, from the command line to the decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_bag import write_made_bag

from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError
from hrda_training.__main__ import main

SIZE = (1001, 1000)
"""Just above a million pixels, and far from slow."""

REFUSED = "a picture of 1001 x 1000 pixels is larger than 1 megapixels and is not decoded (max_megapixels)"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of JPEGs."""
    rows = np.arange(SIZE[0])[:, None, None]
    pictures = ((rows // 20 * 10 + 3 * n + np.zeros((*SIZE, 3))).astype(np.uint8) for n in range(4))
    return write_made_bag(tmp_path_factory.mktemp("large") / "drive", pictures, jpeg=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `images/` and `labels/`."""
    folder = tmp_path_factory.mktemp("large_pairs")
    for name, stored in (("images", np.full((*SIZE, 3), 24, np.uint8)), ("labels", np.ones(SIZE, np.uint8))):
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "a.png"), stored)
    return folder


def run(capsys: pytest.CaptureFixture[str], folder: Path, limit: int, *arguments: object) -> tuple[int, str, Any]:
    """Exit code, what was printed, and the JSON result, if there is one."""
    result = folder / f"result_{limit}.json"
    code = main([*map(str, arguments), "--max_megapixels", str(limit), "--json", str(result)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err, json.loads(result.read_text()) if result.is_file() else None


def test_m6_predict_decodes_pictures_and_recordings_up_to_the_declared_size(
    drive: Path, pairs: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, path, number in (("pictures", pairs / "images", 1), ("drive", drive, 4)):
        command = ("predict", path, "--model", tiny_bundle, "--out", tmp_path / name)
        code, text, _ = run(capsys, tmp_path, 1, *command)
        assert (code, REFUSED in text, (tmp_path / name).exists()) == (2, True, False), text
        code, text, result = run(capsys, tmp_path, 2, *command)
        assert (code, result["written"]) == (0, number), text


def test_m6_bag_info_decodes_up_to_the_declared_size(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = run(capsys, tmp_path, 1, "bag", "info", drive)
    large = run(capsys, tmp_path, 2, "bag", "info", drive)
    assert (small[0], large[0]) == (0, 0)
    assert "undecodable 4 of the analysed: size 4" in small[1]
    assert "undecodable" not in large[1]


def test_m6_the_audit_of_labels_reads_up_to_the_declared_size(
    pairs: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ("--images", pairs / "images", "--labels", pairs / "labels")
    code, text, _ = run(capsys, tmp_path, 1, "evaluate", "--bundle", tiny_bundle, *folders)
    assert (code, REFUSED in text) == (2, True), text
    code, text, _ = run(capsys, tmp_path, 2, "evaluate", "--bundle", tiny_bundle, *folders)
    assert code == 0, text


def test_m6_adapt_decodes_up_to_the_declared_size(
    drive: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("adapt", "--bag", drive, "--model", repository / "models/hrda_lite", "--out", tmp_path / "out")
    code, text, _ = run(capsys, tmp_path, 1, *command, "--effort", "instant")
    assert (code, "(undecodable 4)" in text, (tmp_path / "out").exists()) == (2, True, False), text


@pytest.mark.parametrize("limit", [0, 1025, -1])
def test_m6_a_limit_that_is_none_is_refused_before_anything_is_read(
    limit: int, drive: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ("predict", drive, "--model", tiny_bundle, "--out", tmp_path / "out"),
        ("adapt", "--bag", drive, "--model", tiny_bundle, "--out", tmp_path / "out"),
        ("bag", "info", drive),
    ):
        code, text, _ = run(capsys, tmp_path, limit, *command)
        assert (code, f"max_megapixels is 1 to 1024 million pixels, not {limit}" in text) == (2, True), text


def test_m6_a_video_of_larger_frames_is_refused_by_its_header(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (1000, 1002))
    for value in (10, 20):
        writer.write((value + np.arange(1000)[:, None] // 100 * 20 + np.zeros((1002, 1, 3))).astype(np.uint8))
    writer.release()
    command = ("predict", path, "--model", tiny_bundle, "--out", tmp_path / "out", "--outputs", "labels")
    code, text, _ = run(capsys, tmp_path, 1, *command)
    assert (code, "drive.avi' cannot be read: a picture of 1002 x 1000 pixels is larger than 1 mega" in text) == (
        2,
        True,
    )
    code, text, result = run(capsys, tmp_path, 2, *command)
    assert code == 0, text
    assert result["written"] == 2
    with pytest.raises(DataError, match="larger than 1 megapixels"):
        open_unlabelled(path, max_megapixels=1)
    assert len(open_unlabelled(path, max_megapixels=2)) == 2
