"""The parameter table: its rules, and that the documentation says the same."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from hrda_ros.parameters import PARAMETERS, Settings, likely_typos, refusal

BY_NAME = {spec.name: spec for spec in PARAMETERS}


def test_defaults_are_allowed() -> None:
    assert refusal((spec.name, spec.default) for spec in PARAMETERS) is None
    assert Settings() == Settings(**{spec.name: spec.default for spec in PARAMETERS})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("overlay_alpha", 1.01, "overlay_alpha must be 0 to 1, not 1.01"),
        ("overlay_alpha", math.nan, "overlay_alpha must be 0 to 1, not nan"),
        ("overlay_alpha", 1, "overlay_alpha must be of type double, not 1"),
        ("threads", True, "threads must be of type int, not True"),
        ("long_side", -2, "long_side must be -1 to 16384, not -2"),
        ("backend", "magic", "backend must be one of auto, onnx, cuda, tensorrt, torch, not 'magic'"),
        ("plan", "nested2", "plan must be one of"),
        ("plan", "slide", "plan must be one of \"\", tiles, overlap, topk, context, whole, not 'slide'"),
        ("precision", "bf16", "precision must be one of auto, fp32, fp16, int8, not 'bf16'"),
        ("on_gpu_failure", "", "on_gpu_failure must be one of fall_back, stop, not ''"),
        ("build_engine", 1, "build_engine must be of type bool, not 1"),
        ("lazy", "yes", "lazy must be of type bool, not 'yes'"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(name: str, value: object, reason: str) -> None:
    assert (refusal([("lazy", True), (name, value)]) or "").startswith(reason)


def test_parameters_of_others_pass() -> None:
    assert refusal([("use_sim_time", "anything"), ("qos_overrides./image.subscription.depth", -3)]) is None


def test_near_misses_are_told_from_foreign_names() -> None:
    names = ["overlay_alfa", "use_sim_time", "qos_overrides./image.subscription.depth", "lazy", "thread"]
    assert likely_typos(names) == [("overlay_alfa", "overlay_alpha"), ("thread", "threads")]


def test_documentation_has_the_same_table() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "robot" / "node.md").read_text(encoding="utf-8")
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 6 and cells[0].strip("`") in BY_NAME:
            rows[cells[0].strip("`")] = cells[1:]
    expected = {}
    for spec in PARAMETERS:
        default = str(spec.default).lower() if spec.kind == "bool" else str(spec.default) or '""'
        expected[spec.name] = [spec.kind, f"`{default}`", spec.range_text, spec.applied, spec.description]
    assert rows == expected
