"""Shares of equal labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graph import HEIGHT, LENGTH, small_graph, street

from hrda_core.deploy.int8.agreement import measure_agreement, run_in_onnxruntime
from hrda_core.errors import BundleError, DataError
from hrda_core.inference.backends.onnx_backend import OnnxBackend

pytest.importorskip("onnxruntime")

Masks = tuple[np.ndarray, np.ndarray]
IMAGES = [np.full((1, 10, 10, 3), value, np.uint8) for value in (0, 1)]


def _black(image: np.ndarray) -> Masks:
    return np.zeros((1, 10, 10), np.uint8), np.full((1, 10, 10), 200, np.uint8)


def _some_rows_white(image: np.ndarray) -> Masks:
    """One row in the first image, three in the second; confidence 4 higher."""
    labels, confidence = _black(image)
    labels[0, : 1 + 2 * int(image[0, 0, 0, 0])] = 7
    return labels, confidence + 4


def test_agreement_is_counted_over_images() -> None:
    found = measure_agreement(_some_rows_white, _black, IMAGES)
    assert found.labels == pytest.approx(0.8)
    assert found.worst == pytest.approx(0.7)
    assert found.confidence == 4
    assert found.images == 2


def test_a_confidence_that_wraps_round_is_a_large_difference() -> None:
    def sure(image: np.ndarray) -> Masks:
        return _black(image)[0], np.full((1, 10, 10), 255, np.uint8)

    def unsure(image: np.ndarray) -> Masks:
        return _black(image)[0], np.zeros((1, 10, 10), np.uint8)

    assert measure_agreement(unsure, sure, IMAGES).confidence == 255


def test_without_an_image_nothing_is_agreed() -> None:
    with pytest.raises(DataError, match="no image to compare"):
        measure_agreement(_black, _black, [])


def test_a_back_end_can_be_compared_with_a_graph_in_memory(tmp_path: Path) -> None:
    model = small_graph()
    onnx.save(model, tmp_path / "small.onnx")
    images = [street(seed) for seed in range(2)]
    backend, run = OnnxBackend(tmp_path / "small.onnx", threads=1), run_in_onnxruntime(model, threads=1)
    assert measure_agreement(backend, run, images).labels == 1
    assert run(images[0])[0].shape == (1, HEIGHT, LENGTH)


def test_a_broken_graph_is_refused_with_a_sentence() -> None:
    model = small_graph()
    del model.graph.node[3]
    with pytest.raises(BundleError, match="ONNX Runtime cannot load"):
        run_in_onnxruntime(model)
