"""The comparison of several runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hrda_core.errors import DataError
from hrda_core.report.compare import write_comparison


def _write_run(folder: Path, name: str, lr: float, mean_iou: float, *, groups: str = "camvid11") -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"name: {name}\niterations: 40\noptim: {{lr: {lr}, betas: [0.9]}}\n")
    line = {
        "iteration": 40,
        "network": "student",
        "name": "day",
        "groups": groups,
        "iou": {"road": mean_iou, "pole": None},
        "mean_iou": mean_iou,
    }
    (folder / "evaluations.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def test_runs_stand_side_by_side_with_what_differs(tmp_path: Path) -> None:
    runs = [_write_run(tmp_path / "a", "plain", 0.001, 0.311), _write_run(tmp_path / "b", "<b>new</b>", 0.002, 0.422)]
    text = write_comparison(runs, tmp_path / "comparison.html").read_text()
    assert re.search(r'<td>road</td><td class="number">31.1</td><td class="number">42.2</td>', text)
    assert re.search(r"<td>optim.lr</td><td>0.001</td><td>0.002</td>", text)
    assert "optim.betas" not in text
    assert "<b>new" not in text
    assert "&lt;b&gt;new" in text


def test_scores_in_different_groups_have_tables_of_their_own(tmp_path: Path) -> None:
    runs = [
        _write_run(tmp_path / "a", "plain", 0.001, 0.311),
        _write_run(tmp_path / "b", "new", 0.001, 0.422, groups="cityscapes19"),
    ]
    text = write_comparison(runs, tmp_path / "comparison.html").read_text()
    assert text.count("IoU in the groups") == 2
    assert "In nothing that is recorded." in text


def test_runs_of_one_name_are_told_apart_and_those_without_scores_listed(tmp_path: Path) -> None:
    runs = [_write_run(tmp_path / name, "same", 0.001, 0.311) for name in ("a", "b")]
    (runs[1] / "evaluations.jsonl").unlink()
    text = write_comparison(runs, tmp_path / "comparison.html").read_text()
    assert f"same ({tmp_path / 'a'})" in text
    assert f"same ({tmp_path / 'b'}): The run folder has no readable evaluations.jsonl." in text
    assert re.search(r'<td class="number">0</td><td class="number">–</td>', text)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none were given"):
        write_comparison([], tmp_path / "comparison.html")
    with pytest.raises(DataError, match="absent"):
        write_comparison([tmp_path / "absent"], tmp_path / "comparison.html")
