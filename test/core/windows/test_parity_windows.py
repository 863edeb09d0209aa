"""HRDA inference against the reference implementation: fusion, ablations, nested windows, probabilities.

Each case runs `predict_logits` and compares with the reduced golden set of this repository; where the full set lies
beside the clone, with that as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, argmax_agreement, golden, golden_full, relative_error
from golden_weights import golden_weights
from torch import Tensor

from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA, ContextOutput
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.torch_windows import plan_for, predict_logits, predict_probs

OUTPUT_BAR = 1e-4
ROUNDED_BAR = 5e-3  # arrays that are stored as float16
ARGMAX_BAR = 0.999


class RecordingHRDA(HRDA):
    """Keeps what the last fusion of a prediction was given and gave, and the details of the last run."""

    def fuse(self, context: ContextOutput, detail: Tensor) -> Tensor:
        self.fused = super().fuse(context, detail)
        self.seen_context, self.merged_detail = context, detail
        return self.fused

    def detail(self, crops: Tensor) -> Tensor:
        self.details = super().detail(crops)
        return self.details


def network(**switches: Any) -> RecordingHRDA:
    """The golden HRDA with MiT-B0; a fixed attention leaves the attention head and its weights out."""
    encoder, fixed = MixTransformer("b0"), switches.get("fixed_attention") is not None
    attention = None if fixed else DAFormerHead(encoder.channels, 19, fusion="conv1")
    model = RecordingHRDA(encoder, DAFormerHead(encoder.channels, 19), attention, detail_crop=(128, 128), **switches)
    weights = golden_weights()
    if fixed:
        weights = {name: value for name, value in weights.items() if ".scale_attention." not in name}
    model.load_state_dict(weights)
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Two threads on a shared machine are slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["reduced", "full"])
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(which: str, request: pytest.FixtureRequest) -> Golden:
    name = "hrda_mitb0_inference"
    return golden(name) if which == "reduced" else golden_full(request.getfixturevalue("shared_dir"), name)


@pytest.fixture(scope="module")
def expected_slide(which: str, request: pytest.FixtureRequest) -> Golden:
    name = "hrda_mitb0_slide"
    return golden(name) if which == "reduced" else golden_full(request.getfixturevalue("shared_dir"), name)


def image_of(arrays: Golden) -> Tensor:
    return torch.from_numpy(arrays["image"].astype(np.float32))


@pytest.fixture(scope="module")
def overlap() -> tuple[RecordingHRDA, Tensor]:
    """The network after predicting with overlapping crops, and its logits at image size."""
    model = network()
    return model, predict_logits(model, image_of(golden("hrda_mitb0_inference")), "overlap")


def error(arrays: Golden, name: str, computed: Tensor) -> float:
    return relative_error(arrays.sample(name, computed), arrays[name])


def test_detail_crops_are_those_of_the_reference(expected: Golden) -> None:
    boxes = plan_for(network(), "overlap", 256, 512).detail
    assert [[box.y1, box.y2, box.x1, box.x2] for box in boxes] == expected["hr_boxes"].tolist()


def test_every_step_of_the_fusion(overlap: tuple[RecordingHRDA, Tensor], expected: Golden) -> None:
    model, logits = overlap
    assert error(expected, "lr_logits_s4", model.seen_context.logits) <= OUTPUT_BAR
    assert error(expected, "attention_lr", model.seen_context.attention) <= OUTPUT_BAR
    assert error(expected, "hr_logits_s4_merged", model.merged_detail) <= OUTPUT_BAR
    assert error(expected, "fused_s4", model.fused) <= OUTPUT_BAR
    assert error(expected, "fused_up_sample", logits[..., 3::16, 5::16]) <= OUTPUT_BAR
    labels = expected.sample("fused_argmax", logits.argmax(1))
    assert argmax_agreement(labels, expected["fused_argmax"]) >= ARGMAX_BAR


@pytest.mark.parametrize(
    ("fixed", "name", "bar"), [(0.0, "lr_only_s4", OUTPUT_BAR), (1.0, "hr_only_s4", OUTPUT_BAR), (0.5, "avg_s4", None)]
)
def test_fixed_attention(
    overlap: tuple[RecordingHRDA, Tensor], expected: Golden, fixed: float, name: str, bar: float | None
) -> None:
    model = network(fixed_attention=fixed)
    model.detail = lambda crops: overlap[0].details  # type: ignore[method-assign]  # the same crops; saves seconds
    predict_logits(model, image_of(expected), "overlap")
    assert error(expected, name, model.fused) <= (bar or ROUNDED_BAR)


@pytest.fixture(scope="module")
def ablations(overlap: tuple[RecordingHRDA, Tensor]) -> dict[str, Tensor]:
    """Fused logits at stride 4 of each ablation."""
    image, found = image_of(golden("hrda_mitb0_inference")), {}
    model = network(overlapping_detail=False)
    touching, overlapping = (plan_for(net, "overlap", 256, 512).detail for net in (model, overlap[0]))
    among = [overlapping.index(box) for box in touching]
    model.detail = lambda crops: overlap[0].details[among]  # type: ignore[method-assign]
    predict_logits(model, image, "overlap")
    found["nooverlap_s4"] = model.fused
    model = network(blur_detail=True)
    predict_logits(model, image, "overlap")
    found["blurhr_s4"] = model.fused
    model = network()
    predict_logits(model, image, "tiles", grid=(1, 1))
    found["noslide_s4"] = model.fused
    return found


@pytest.mark.parametrize("name", ["nooverlap_s4", "blurhr_s4", "noslide_s4"])
def test_ablations_of_the_detail_branch(ablations: dict[str, Tensor], expected: Golden, name: str) -> None:
    assert error(expected, name, ablations[name]) <= ROUNDED_BAR
    assert error(expected, "fused_s4", ablations[name]) > 2 * ROUNDED_BAR  # the switch does something


@pytest.fixture(scope="module")
def nested() -> tuple[Tensor, Tensor]:
    """Logits at image size, and probabilities at the size of the annotation."""
    arrays = golden("hrda_mitb0_slide")
    height, width = (int(side) for side in arrays["ori_shape"])
    windows: dict[str, Any] = {
        "crop": tuple(int(side) for side in arrays["crop_size"]),
        "stride": tuple(int(side) for side in arrays["stride"]),
    }
    model, image = network(), image_of(arrays)
    logits = predict_logits(model, image, "nested", **windows)
    details = model.details
    model.detail = lambda crops: details  # type: ignore[method-assign]  # the same crops; saves seconds
    return logits, predict_probs(model, image, "nested", size=(height, width), **windows)


def test_nested_windows_and_rescaled_probabilities(nested: tuple[Tensor, Tensor], expected_slide: Golden) -> None:
    logits, probs = nested
    assert error(expected_slide, "logits_sample", logits[..., 3::8, 5::8]) <= OUTPUT_BAR
    assert error(expected_slide, "prob_rescaled_sample", probs[..., 2::8, 4::8]) <= OUTPUT_BAR
    for name, classes in (("argmax", logits.argmax(1)), ("argmax_rescaled", probs.argmax(1))):
        assert argmax_agreement(expected_slide.sample(name, classes), expected_slide[name]) >= ARGMAX_BAR


def test_outer_windows_are_those_of_the_reference(expected_slide: Golden) -> None:
    choice = PlanChoice("nested", crop=(256, 256), stride=(128, 128))
    plan = plan_for(network(), choice, *expected_slide["image"].shape[2:])
    assert [[box.y1, box.y2, box.x1, box.x2] for box in plan.windows] == expected_slide["windows"].tolist()
    assert plan == plan_for(network(), "nested", *expected_slide["image"].shape[2:])  # the defaults
