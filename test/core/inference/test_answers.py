"""A model answers like a model before it serves and while it serves (M11, C8), with graphs of known answers."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering_graphs import constant_graph, network_graph, other_masks_graph
from onnx import TensorProto
from tiny_bundle import write_tiny_bundle

from hrda_core import memory
from hrda_core.errors import AnswerError, HrdaError
from hrda_core.inference import Bundle, Predictor
from hrda_core.inference.answers import Answer, check_answer, prove, prove_batch, record_answer
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.made_image import golden_image

PICTURE = golden_image(64, 96)


def _recorded(
    folder: Path, change: Callable[[Answer], None] = lambda answer: None, model: bytes | None = None
) -> dict[str, object]:
    """The manifest's graphs of the tiny bundle with the answer that `hrda export` records, changed."""
    write_tiny_bundle(folder, model=model)
    size = Bundle.open(folder).graphs["tiles"].made_size(64)
    answer = record_answer(OnnxBackend(folder / "model.onnx"), size, 19)
    change(answer)
    tiles = {"file": "model.onnx", "grid": [2, 2], "answer": answer.to_dict()}
    return {"tiles": tiles, "context": {"file": "context.onnx"}}


BROKEN = {
    "weights of NaN": (network_graph(float("nan")), "not finite"),
    "an infinite weight": (network_graph(float("inf")), "not finite"),
    "masks of 2 x 2": (other_masks_graph([1, 2, 2], TensorProto.UINT8), "uint8 (1, 2, 2)"),
    "masks of float32": (other_masks_graph([1, 128, 192], TensorProto.FLOAT), "float32"),
    "ids without a class": (constant_graph(19, 200), "class id 19"),
    "one class everywhere": (constant_graph(0, 200), "every pixel"),
    "one class everywhere, and sure of it": (constant_graph(0, 255), "every pixel"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_m11_c8_a_graph_that_gives_no_masks_is_refused_before_it_serves(tmp_path: Path, kind: str) -> None:
    graph, text = BROKEN[kind]
    with pytest.raises(AnswerError, match=r"model\.onnx") as caught:
        Predictor(write_tiny_bundle(tmp_path / "b", model=graph))
    assert text in str(caught.value)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_l8_m11_a_graph_that_asks_for_more_memory_than_is_free_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(memory, "free_memory", lambda: 2 << 30)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    graph = other_masks_graph([1, 1 << 16, 1 << 17], TensorProto.UINT8)  # 8 GB, which many a kernel grants
    with pytest.raises(HrdaError, match="it asks for more memory than is free"):
        Predictor(write_tiny_bundle(tmp_path / "b", model=graph), backend)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_c8_another_models_graph_is_refused_where_the_answer_was_recorded(tmp_path: Path) -> None:
    graphs = _recorded(tmp_path / "b")
    Predictor(write_tiny_bundle(tmp_path / "b", graphs=graphs))
    other = (tmp_path / "b/context.onnx").read_bytes()
    with pytest.raises(AnswerError, match="not the one that the manifest records"):
        Predictor(write_tiny_bundle(tmp_path / "b", graphs=graphs, model=other))


def test_c8_a_model_of_two_classes_that_is_sure_of_one_serves_without_a_record() -> None:
    def sure(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(image.shape[:-1], np.uint8), np.full(image.shape[:-1], 255, np.uint8)

    def unsure(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(image.shape[:-1], np.uint8), np.full(image.shape[:-1], 128, np.uint8)

    prove(sure, (64, 96), 2, None)
    with pytest.raises(AnswerError, match="for every pixel"):
        prove(unsure, (64, 96), 2, None)


def test_c8_a_bundle_without_a_record_still_opens(tmp_path: Path) -> None:
    Predictor(write_tiny_bundle(tmp_path / "b"))


def test_m11_values_that_stop_being_finite_are_an_error_and_no_mask(tmp_path: Path) -> None:
    # Single precision ends at 3.4e38. The brightest green of the made image is below 240.
    assert golden_image(128, 192)[..., 1].max() < 240
    graph = network_graph(3.4e38 / 240)
    graphs = _recorded(tmp_path / "b", model=graph)
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", graphs=graphs, model=graph))
    image = np.random.default_rng(0).integers(0, 240, (64, 64, 3), np.uint8)
    assert predictor(image).labels.shape == (64, 64)
    image[5, 7] = 255
    with pytest.raises(AnswerError, match="not finite") as caught:
        predictor(image)
    assert caught.value.cause == "non_finite"


def _masks(label: int, confidence: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(PICTURE.shape[:3], label, np.uint8), np.full(PICTURE.shape[:3], confidence, np.uint8)


def test_m11_one_pixel_that_is_not_finite_is_enough() -> None:
    labels, confidence = _masks(3, 200)
    labels[0, 5, 5], confidence[0, 7, 7] = 4, 0
    with pytest.raises(AnswerError, match="not finite") as caught:
        check_answer(labels, confidence, PICTURE, 19)
    assert caught.value.cause == "non_finite"


def test_m11_the_same_answer_for_every_pixel_is_one_only_of_a_picture_of_one_colour() -> None:
    labels, confidence = _masks(3, 200)
    with pytest.raises(AnswerError, match="every pixel") as caught:
        check_answer(labels, confidence, PICTURE, 19)
    assert caught.value.cause == "non_finite"
    check_answer(labels, confidence, np.full_like(PICTURE, 90), 19)
    check_answer(*_masks(0, 255), PICTURE, 2)  # sure that there is no water
    check_answer(*_masks(0, 200), PICTURE, 1)
    labels[0, 0, 0] = 4
    check_answer(labels, confidence, PICTURE, 19)


def test_c8_small_differences_between_machines_are_no_other_answer(tmp_path: Path) -> None:
    def change(answer: Answer) -> None:
        answer.confidence[:] = np.clip(answer.confidence.astype(int) - 3, 1, 255)
        answer.labels[0, :5] += 1

    Predictor(write_tiny_bundle(tmp_path / "b", graphs=_recorded(tmp_path / "b", change)))


@pytest.mark.parametrize("what", ["labels", "confidence"])
def test_c8_another_answer_is_one_in_its_classes_or_in_its_confidence_alone(what: str) -> None:
    masks = {"labels": PICTURE[..., 0] // 16, "confidence": np.maximum(PICTURE[..., 1], 100)}

    def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return masks["labels"], masks["confidence"]

    recorded = record_answer(run, (64, 96), 19)
    prove(run, (64, 96), 19, recorded)
    before = masks[what]
    masks[what] = before + 1 if what == "labels" else np.where(before > 130, before - 40, before + 40)
    with pytest.raises(AnswerError, match="not the one that the manifest records"):
        prove(run, (64, 96), 19, recorded)


@pytest.mark.parametrize("mix", [lambda masks: masks[::-1], lambda masks: masks[:1].repeat(len(masks), 0)])
def test_m11_a_graph_that_gives_an_image_the_masks_of_another_one_is_refused(mix: Any) -> None:
    def honest(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = images[..., 0] // 16
        return labels, labels

    prove_batch(honest, (32, 48))
    with pytest.raises(AnswerError, match="other masks when another one goes through with it") as caught:
        prove_batch(lambda images: tuple(map(mix, honest(images))), (32, 48))
    assert caught.value.cause == "malformed"
