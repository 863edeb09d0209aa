"""BatchNorm statistics of a drive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_bundle import write_tiny_bundle
from torch import Tensor

from hrda_core.adaptation.stages import instant
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.inference import Bundle, Predictor


@pytest.mark.parametrize("size", [(1080, 1440), (1440, 1920)])
def test_statistics_are_measured_on_the_pixels_that_the_node_shows_the_network(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"{name}.png"), rgb[..., ::-1])
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "bundle", long_side=640))
    shown: list[np.ndarray] = []
    predictor = Predictor(bundle)
    run = predictor._opened[-1].backend
    monkeypatch.setattr(predictor._opened[-1], "backend", lambda image: (shown.append(image.copy()), run(image))[1])
    predictor(rgb)
    measured: list[Tensor] = []

    def reestimate(network: Any, batches: Any, **_: Any) -> int:
        measured.extend(batches)
        return 1

    monkeypatch.setattr(instant, "reestimate_batchnorm", reestimate)
    instant.adapt_instantly(torch.nn.Identity(), bundle, open_unlabelled(tmp_path, names=list("abcd")), 4)  # type: ignore[arg-type]
    (batch,) = measured
    pixels = (batch * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(pixels, np.repeat(shown[0][:, :480, :640], 4, axis=0))
