"""What benchmarks/plan_costs/plan_costs_seams.py lets be judged near the seams of tiles."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from hrda_core.metrics import Boundaries

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "plan_costs"
SEAMS = (192, 256)

UInt8Array = npt.NDArray[np.uint8]


@pytest.fixture
def seams(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("plan_costs_seams")


def test_a_wrong_boundary_counts_near_a_seam_only(seams: ModuleType) -> None:
    labels = np.zeros((360, 480), np.uint8)
    labels[:, 250:] = 1  # a boundary beside the seam
    labels[40:60] = 2  # and boundaries far from it
    wrong_far, wrong_near = labels.copy(), labels.copy()
    wrong_far[40:60, 20:100] = 0
    wrong_near[100:150, 240:270] = 2
    judged = seams.only_near(labels, SEAMS, 16)
    assert _f(labels, judged) == 1
    assert _f(wrong_far, judged) == 1
    assert _f(wrong_near, judged) < 1
    assert _f(wrong_far, labels) < 1


def test_the_band_is_as_wide_as_asked_for(seams: ModuleType) -> None:
    labels = np.zeros((360, 480), np.uint8)
    for distance, expected in ((14, True), (18, False)):
        ours = labels.copy()
        ours[20:24, 256 + distance : 256 + distance + 1] = 1
        assert np.isnan(_f(ours, seams.only_near(ours, SEAMS, 16), 1)) != expected


def _f(prediction: UInt8Array, labels: UInt8Array, group: int | None = None) -> float:
    boundaries = Boundaries(3)
    boundaries.add(prediction, labels)
    scores = boundaries.scores()
    return float(np.nanmean(scores)) if group is None else float(scores[group])
