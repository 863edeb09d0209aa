"""Scores that the docs repeat are those that the shipped bundle records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SETS = ("CamVid day-val", "CamVid dusk, last 20 frames")


@pytest.fixture(scope="module")
def scores() -> list[Mapping[str, Any]]:
    manifest = yaml.safe_load((ROOT / "models" / "hrda_lite" / "manifest.yaml").read_text("utf-8"))
    return [manifest["provenance"]["scores"][name] for name in SETS]


def test_the_example_of_evaluation_is_what_the_bundle_records(scores: list[Mapping[str, Any]]) -> None:
    page = (ROOT / "docs" / "research" / "evaluation.md").read_text("utf-8")
    for name in scores[0]["iou"]:
        cells = [f"{100 * found['iou'][name]:.1f} / {100 * found['class_boundary_f'][name]:.1f}" for found in scores]
        assert f"| {name} | {cells[0]} | {cells[1]} |" in page
    means = [f"**{100 * found['mean_iou']:.1f} / {100 * found['boundary_f']:.1f}**" for found in scores]
    assert f"| **mean** | {means[0]} | {means[1]} |" in page
    labelled = [value for name, value in scores[1]["iou"].items() if name != "fence"]
    assert f"would\nbe {100 * sum(labelled) / len(labelled):.1f}." in page


def test_the_readme_gives_the_score_of_the_default_plan(scores: list[Mapping[str, Any]]) -> None:
    row = re.search(r"^\| `tiles`.*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert row is not None
    labelled = [value for name, value in scores[1]["iou"].items() if name != "fence"]
    day, dusk = scores[0]["mean_iou"], sum(labelled) / len(labelled)
    assert f"| {100 * day:.1f} / {100 * dusk:.1f} % |" in row.group()
