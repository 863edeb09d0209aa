"""The predictor: any size in, masks of the same size out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import expected_confidence, expected_labels, write_tiny_bundle

from hrda_core.errors import BackendError, BundleError, ImageError
from hrda_core.inference import Bundle, Predictor, room
from hrda_core.inference.backends.onnx_backend import OnnxBackend, default_threads
from hrda_core.inference.say import Level


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor(tiny_bundle)


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _seen(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that reach the back end from now on."""
    seen: list[tuple[int, ...]] = []
    opened = predictor._opened[-1]
    original = opened.backend
    monkeypatch.setattr(opened, "backend", lambda image: (seen.append(image.shape), original(image))[1])
    return seen


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99))
def test_masks_have_the_size_of_the_image_and_belong_to_its_pixels(
    predictor: Predictor, height: int, width: int, seed: int
) -> None:
    image = _image(height, width, seed)
    result = predictor(image)
    np.testing.assert_array_equal(result.labels, expected_labels(image))
    np.testing.assert_array_equal(result.confidence, expected_confidence(image))


def test_the_plan_selects_the_graph(tiny_bundle: Path) -> None:
    image = _image(50, 70)
    labels = Predictor(tiny_bundle, plan="context")(image).labels
    np.testing.assert_array_equal(labels, expected_labels(image, "context"))


def test_an_earlier_result_is_not_changed_by_a_later_call(predictor: Predictor) -> None:
    first, second = _image(64, 64, 1), _image(64, 64, 2)
    kept = predictor(first)
    predictor(second)
    np.testing.assert_array_equal(kept.labels, expected_labels(first))


def test_rows_may_be_strided_and_the_image_is_not_written(predictor: Predictor) -> None:
    wide = _image(60, 100)
    view = wide[:, 7:90]
    before = wide.copy()
    np.testing.assert_array_equal(predictor(view).labels, expected_labels(view))
    np.testing.assert_array_equal(wide, before)


def test_a_larger_image_is_shrunk_to_long_side_and_masks_enlarged_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", long_side=128))
    seen = _seen(predictor, monkeypatch)
    image = np.zeros((540, 960, 3), np.uint8)
    image[:, 480:] = 255
    result = predictor(image)
    assert result.labels.shape == (540, 960)
    assert (result.labels[:, :470] == 0).all()
    assert (result.labels[:, 490:] == 15).all()
    assert seen == [(1, 128, 128, 3)], "72 x 128, padded to a multiple of 64"


def test_images_are_resized_as_the_bundle_says_and_a_long_side_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = {"multiple_of": 64, "long_side": 0, "resize": [256, 128], "interpolation": "bilinear"}
    bundle = write_tiny_bundle(tmp_path / "b", input=scale)
    predictor = Predictor(bundle)
    seen = _seen(predictor, monkeypatch)
    for size in ((64, 128), (512, 1024)):  # enlarged and shrunk
        assert predictor(_image(*size)).labels.shape == size
    assert seen == [(1, 128, 256, 3)] * 2
    asked = Predictor(bundle, long_side=64)
    seen = _seen(asked, monkeypatch)
    asked(_image(64, 128))
    assert seen == [(1, 64, 64, 3)]


def test_it_says_once_that_images_are_far_from_those_of_the_training(tmp_path: Path) -> None:
    scale = {"multiple_of": 64, "long_side": 0, "trained": [64, 128]}
    said: list[tuple[str, Level]] = []
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", input=scale), say=lambda *line: said.append(line))
    for size in ((64, 128), (64, 256), (64, 320), (64, 64)):
        predictor(_image(*size))
    ((line, level),) = said
    assert ("256x64, 2.0 times larger" in line, level) == (True, Level.WARNING)


def test_long_side_can_be_switched_off(tmp_path: Path) -> None:
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", long_side=16), long_side=0)
    image = _image(40, 50)
    np.testing.assert_array_equal(predictor(image).labels, expected_labels(image))


def test_a_very_long_strip_keeps_at_least_one_pixel(tmp_path: Path) -> None:
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", long_side=64))
    assert predictor(_image(1, 2000)).labels.shape == (1, 2000)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_anything_but_an_rgb_image_is_refused(predictor: Predictor, image: object) -> None:
    with pytest.raises(ImageError):
        predictor(image)  # type: ignore[arg-type]


def test_unknown_backend_plan_and_negative_side_are_explained(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match="choose one of auto, onnx"):
        Predictor(tiny_bundle, "cuda3000")
    with pytest.raises(BackendError, match="it has tiles, context"):
        Predictor(tiny_bundle, plan="nested")
    with pytest.raises(BackendError, match="long_side"):
        Predictor(tiny_bundle, long_side=-1)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", io[:1], io[1:])
    path = tmp_path / "other.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    with pytest.raises(BundleError, match="has the inputs"):
        OnnxBackend(path)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot load"):
        OnnxBackend(path)


def test_one_core_stays_free_by_default() -> None:
    assert default_threads() >= 1


def test_an_open_bundle_is_taken_as_it_is(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert Predictor(bundle).bundle is bundle


def test_warm_up_runs_the_back_end_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _seen(predictor, monkeypatch)
    predictor.warm_up(100, 130)
    assert seen == [(1, 128, 192, 3)]


def test_a_graph_for_one_image_says_so_and_images_of_two_sizes_are_no_batch(predictor: Predictor) -> None:
    assert not predictor.takes_batch
    (alone,) = predictor.batch([_image(70, 90)])
    np.testing.assert_array_equal(alone.labels, expected_labels(_image(70, 90)))
    with pytest.raises(ImageError, match="images of a batch must have one size"):
        predictor.batch([_image(70, 90), _image(90, 70)])
    with pytest.raises(BackendError, match=r"ONNX Runtime failed on an image of shape \(2, 128, 128, 3\)"):
        predictor.batch([_image(70, 90), _image(70, 90, seed=1)])


def test_the_padding_is_the_border_of_the_image_itself(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, seen = Predictor(tiny_bundle), []
    original = predictor._opened[-1].backend
    monkeypatch.setattr(predictor._opened[-1], "backend", lambda image: (seen.append(image.copy()), original(image))[1])
    for seed in range(2):  # the second one meets the memory of the first
        image = _image(50, 70, seed)
        predictor(image)
        (padded,) = seen.pop()
        assert (padded.shape[0] > 50, padded.shape[1] > 70) == (True, True)
        np.testing.assert_array_equal(padded[:50, :70], image)
        np.testing.assert_array_equal(padded[:50, 70:], np.broadcast_to(image[:, -1:], padded[:50, 70:].shape))
        np.testing.assert_array_equal(padded[50:], np.broadcast_to(padded[49], padded[50:].shape))


@pytest.mark.parametrize(("sizes", "opened"), [(1, 7), (3, 3)])
def test_graphs_of_the_sizes_that_come_in_turn_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: int, opened: int
) -> None:
    heights = (64, 128, 192)
    rows = [{"plan": "topk", "file": "model.onnx", "grid": [2, 2], "size": [side, 64], "keep": 1} for side in heights]
    predictor = Predictor(write_tiny_bundle(tmp_path / "b", static_graphs=rows), "onnx", "topk", sizes=sizes)
    opens: list[object] = [predictor._opened[-1].graph]
    keep = predictor._keep
    monkeypatch.setattr(predictor, "_keep", lambda graph, backend: (opens.append(graph), keep(graph, backend)))
    for height in (64, 128, 192, 64, 128, 192, 64):
        predictor(_image(height, 64))
    assert len(opens) == opened


def test_an_image_too_large_for_the_memory_is_one_sentence_and_the_next_image_runs(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, large = Predictor(tiny_bundle), _image(2048, 2048)
    monkeypatch.setattr(room, "free_memory", lambda: 10_000_000)

    with pytest.raises(
        BackendError, match=r"2048x2048 pixels .* takes 0.6 GB or more .* 0.0 GB are free; shrink .*--long_side"
    ):
        predictor(large)

    assert predictor(_image(64, 64)).labels.shape == (64, 64)
    monkeypatch.setattr(room, "free_memory", lambda: None)
    assert predictor(large).labels.shape == (2048, 2048)
