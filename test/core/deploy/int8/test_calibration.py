"""Ranges of tensors: each method on values that are known, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graph import small_graph, street

from hrda_core.deploy.int8.calibration import METHODS, activation_ranges
from hrda_core.errors import BackendError, DataError, RecipeError

pytest.importorskip("onnxruntime")

SIDE = 64


def _values_graph(scale: float = 1.0, power: float = 1.0) -> onnx.ModelProto:
    """`x` is ((pixel - 128) / 128) ** power * scale, with the sign of the pixel: its values are known."""
    make = helper.make_node
    nodes = [
        make("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        make("Sub", ["float", "middle"], ["centred"]),
        make("Div", ["centred", "middle"], ["unit"]),
        make("Sign", ["unit"], ["sign"]),
        make("Abs", ["unit"], ["size"]),
        make("Pow", ["size", "power"], ["powered"]),
        make("Mul", ["powered", "scale"], ["scaled"]),
        make("Mul", ["scaled", "sign"], ["x"]),
        make("Cast", ["x"], ["labels"], to=TensorProto.UINT8),
    ]
    constants = {"middle": 128.0, "power": power, "scale": scale}
    graph = helper.make_graph(
        nodes,
        "values",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def _noise(seed: int, low: int = 0, high: int = 256, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (1, side, side, 3), np.uint8)


def test_minmax_gives_the_extremes_over_all_images() -> None:
    images = [_noise(0, 100, 150), _noise(1, 60, 130), _noise(2, 128, 129)]
    low, high = activation_ranges(_values_graph(), ["x"], images, method="minmax")["x"]
    values = (np.concatenate(images).astype(np.float32) - 128) / 128
    assert (low, high) == (values.min(), values.max())


def test_a_range_holds_zero() -> None:
    low, high = activation_ranges(_values_graph(), ["x"], [_noise(0, 200, 250)], method="minmax")["x"]
    assert low == 0
    assert high > 0.9


def test_percentile_cuts_what_few_values_reach() -> None:
    image = _noise(0, 118, 139)
    image[0, 5, 7, 1] = 255  # one of 12288 values, 12 times as large as the others
    ranges = activation_ranges(_values_graph(), ["x"], [image] * 2)
    values = np.abs((image.astype(np.float32) - 128) / 128)
    expected = float(np.quantile(values, 0.9999, method="higher"))
    assert ranges["x"][1] == pytest.approx(expected, abs=2 * float(values.max()) / 4096)
    low, high = activation_ranges(_values_graph(), ["x"], [image] + [_noise(1, 118, 139)] * 9)["x"]
    assert high == pytest.approx(10 / 128, abs=0.001)
    assert low == pytest.approx(-10 / 128, abs=0.001)


def test_entropy_cuts_a_long_thin_tail_that_minmax_keeps() -> None:
    model = _values_graph()
    # The product over the three colours, cubed: most values are near 0, and a few are 1.
    model.graph.node.extend(
        [
            helper.make_node("ReduceProd", ["unit", "colours"], ["product"], keepdims=0),
            helper.make_node("Mul", ["product", "product"], ["square"]),
            helper.make_node("Mul", ["square", "product"], ["cube"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([3], np.int64), "colours"))
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    images = [_noise(seed) for seed in range(16)]
    kept, cut = (
        activation_ranges(model, ["cube"], images, method=method)["cube"][1] for method in ("minmax", "entropy")
    )
    assert kept > 0.5
    assert 0.02 * kept < cut < 0.8 * kept


def test_entropy_keeps_values_that_are_spread_evenly() -> None:
    low, high = activation_ranges(_values_graph(), ["x"], [_noise(0)], method="entropy")["x"]
    assert high == pytest.approx(127 / 128, rel=0.02)
    assert low == pytest.approx(-1, rel=0.02)


def test_a_later_image_with_larger_values_widens_the_histogram() -> None:
    small, large = _noise(0, 127, 130), _noise(1, 0, 256)
    for images in ([small, large], [large, small]):
        high = activation_ranges(_values_graph(scale=1000), ["x"], images)["x"][1]
        assert high == pytest.approx(1000 * 127 / 128, rel=0.01)


def test_of_a_large_tensor_a_sample_and_the_true_extremes_are_taken() -> None:
    model = _values_graph()
    for entry in (*model.graph.input, *model.graph.output):
        for axis in (1, 2):
            entry.type.tensor_type.shape.dim[axis].dim_value = 512
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    image = _noise(0, 118, 139, side=512)
    image[0, 311, 13, 2] = 255  # not among the sampled values, most likely
    assert activation_ranges(model, ["x"], [image], method="minmax")["x"][1] == np.float32(127 / 128)
    low, high = activation_ranges(model, ["x"], [image])["x"]
    assert high == pytest.approx(10 / 128, abs=0.001)
    assert low == pytest.approx(-10 / 128, abs=0.001)


def test_a_tensor_that_is_zero_everywhere_has_a_range_of_zero_and_not_an_error() -> None:
    assert activation_ranges(_values_graph(), ["x"], [np.full((1, SIDE, SIDE, 3), 128, np.uint8)])["x"] == (0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_within_the_extremes(method: str) -> None:
    model, images = small_graph(), [street(seed) for seed in range(3)]
    names = [info.name for info in model.graph.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT]
    extremes = activation_ranges(model, names, images, method="minmax")
    for name, (low, high) in activation_ranges(model, names, images, method=method).items():
        assert extremes[name][0] <= low <= 0 <= high <= extremes[name][1]


def test_images_are_asked_for_one_by_one() -> None:
    events: list[str] = []

    def images() -> Iterator[np.ndarray]:
        for seed in range(3):
            events.append("read")
            yield street(seed)

    activation_ranges(
        small_graph(), ["expand"], images(), progress=lambda done, total: events.append(f"{done}/{total}")
    )
    assert events == ["read", "1/0", "read", "2/0", "read", "3/0"]


def test_progress_knows_the_total_of_a_list() -> None:
    seen: list[tuple[int, int]] = []
    activation_ranges(small_graph(), ["expand"], [street()] * 2, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 2), (2, 2)]


def test_what_cannot_be_calibrated_is_refused_with_a_sentence() -> None:
    model = small_graph()
    with pytest.raises(RecipeError, match="'best' is not known; choose one of percentile"):
        activation_ranges(model, ["expand"], [street()], method="best")
    with pytest.raises(DataError, match="no image to calibrate on"):
        activation_ranges(model, ["expand"], [])
    with pytest.raises(BackendError, match="shape of tensor 'nothing' is not known"):
        activation_ranges(model, ["nothing"], [street()])
    with pytest.raises(BackendError, match=r"image of shape \(1, 8, 8, 3\)"):
        activation_ranges(model, ["expand"], [np.zeros((1, 8, 8, 3), np.uint8)])
    with pytest.raises(BackendError, match="not finite"):
        activation_ranges(_values_graph(scale=float("inf")), ["x"], [_noise(0)])
