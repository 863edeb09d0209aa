"""BatchNorm statistics of a drive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY
from torch import Tensor

from hrda_core.adaptation.stages import instant
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.inference import Bundle, Predictor
from hrda_core.models import create_model
from hrda_core.uda.adabn import reestimate_batchnorm
from hrda_core.window_plan import PlanChoice


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


@pytest.mark.parametrize("grid", [(1, 1), (1, 2)])
def test_statistics_are_those_of_the_tiles_that_the_bundle_runs(grid: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 64, 128, 3), np.uint8)
    for name, rgb in zip("abcd", pictures, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rgb[..., ::-1])
    tiles = {"file": "model.onnx", "grid": list(grid)}
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "bundle", graphs={"tiles": tiles}))
    batch = torch.from_numpy((pictures.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5)
    found, by_grid = _network(), {}
    assert instant.adapt_instantly(found, bundle, open_unlabelled(tmp_path, names=list("abcd")), 4) > 0
    for other in ((1, 1), (1, 2)):
        by_grid[other] = _network()
        reestimate_batchnorm(by_grid[other], [batch], plan=PlanChoice("tiles", other), keep_encoder=True)
    means = {other: _means(network) for other, network in by_grid.items()}
    torch.testing.assert_close(_means(found), means[grid])
    assert not torch.allclose(means[(1, 1)], means[(1, 2)], atol=1e-4)


def _network() -> Any:
    torch.manual_seed(0)
    return create_model("hrda_lite", 19, **TINY)


def _means(network: Any) -> Tensor:
    return torch.cat([value for name, value in network.named_buffers() if name.endswith("running_mean")])
