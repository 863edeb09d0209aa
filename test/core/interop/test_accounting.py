"""All tensors or none: what is missing, unknown, of another shape or type, or not finite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from foreign_checkpoints import same, snapshot
from tiny_network import TINY
from torch import Tensor

from hrda_core.errors import CheckpointError
from hrda_core.interop import load_backbone, load_mmseg
from hrda_core.models import HRDA, MixTransformer, Segmenter, create_model

State = dict[str, Tensor]
CLASSIFIER = "decode_head.head.conv_seg.weight"


def _tiny(seed: int = 0, classes: int = 19) -> HRDA | Segmenter:
    torch.manual_seed(seed)
    return create_model("hrda_lite", classes, **TINY)


def _put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {**state, name: change(state[name])}


def _with_one(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "decode_head.extra.weight": torch.ones(1)}, r"1 unknown \(decode_head.extra.weight\)"),
        (lambda s: {k: v for k, v in s.items() if k != CLASSIFIER}, rf"1 missing \({CLASSIFIER}\)"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("backbone.")}, r"\d+ missing \(backbone.* more\)"),
        (_put(CLASSIFIER, lambda v: v[:, :, 0, 0]), rf"1 of another shape \({CLASSIFIER}: file 19x8, network 19x8x1x1"),
        (_put(CLASSIFIER, lambda v: v.transpose(0, 1)), "file 8x19x1x1, network 19x8x1x1"),
        (_put(CLASSIFIER, _with_one(float("nan"))), rf"1 with NaN or infinite values \({CLASSIFIER}\)"),
        (_put(CLASSIFIER, _with_one(float("-inf"))), "NaN or infinite"),
        (_put("decode_head.head.fuse_layer.bottleneck.bn.running_var", _with_one(float("inf"))), "running_var"),
        (_put(CLASSIFIER, lambda v: v.to(torch.int64)), rf"another type \({CLASSIFIER}: file int64, network float32"),
        (_put(CLASSIFIER, lambda v: v > 0), "file bool"),
        (_put(CLASSIFIER, lambda v: v.to(torch.complex64)), "file complex64"),
        (_put(CLASSIFIER, lambda v: v.to_sparse()), "another type"),
        (_put("decode_head.head.fuse_layer.bottleneck.bn.num_batches_tracked", lambda v: v + 0.5), "file float32"),
    ],
)  # fmt: skip
def test_f3_what_does_not_fit_is_named_and_nothing_is_loaded(change: Callable[[State], State], message: str) -> None:
    model = _tiny(1)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_mmseg(model, change(_tiny(2).state_dict()))
    assert "nothing was loaded" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert same(model.state_dict(), before)


def test_f3_c8_another_class_count_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"4 of another shape .*file 16x8x1x1, network 19x8x1x1.*with 16 classes"):
        load_mmseg(_tiny(), _tiny(classes=16).state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(dtype: torch.dtype) -> None:
    source, model = _tiny(1), _tiny(2)
    load_mmseg(model, {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()})
    weight = model.state_dict()[CLASSIFIER]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, source.state_dict()[CLASSIFIER].to(dtype).float())


def test_step_counters_may_be_absent_or_one_element_long() -> None:
    state, model = _tiny(1).state_dict(), _tiny(2)
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    report = load_mmseg(model, without)
    assert len(report.kept) == len(state) - len(without) > 0
    assert "kept" in str(report)
    load_mmseg(model, {n: v.reshape(1) if n.endswith("num_batches_tracked") else v for n, v in state.items()})


def test_the_wrappers_own_classifier_and_auxiliary_heads_are_ignored_by_rule() -> None:
    extra = {"decode_head.conv_seg.weight": torch.ones(19, 8, 1, 1), "auxiliary_head.conv_seg.bias": torch.ones(19)}
    report = load_mmseg(_tiny(), {**_tiny(1).state_dict(), **extra})
    assert sorted(report.ignored) == ["auxiliary head of the training", "classifier that the decoder never uses"]
    assert "1 ignored (auxiliary head of the training)" in str(report)


def test_a_file_without_the_encoder_loads_only_if_a_random_one_is_allowed() -> None:
    source, model = _tiny(1), _tiny(2)
    backbone = snapshot(model.backbone)
    head = {name: value for name, value in source.state_dict().items() if name.startswith("decode_head.")}
    with pytest.raises(CheckpointError, match="missing"):
        load_mmseg(model, head)
    report = load_mmseg(model, head, allow_random_backbone=True)
    assert "left random" in str(report)
    assert same(model.backbone.state_dict(), backbone)
    assert same(model.decode_head.state_dict(), source.decode_head.state_dict())


def test_a_backbone_file_that_lacks_a_block_is_an_error_unless_allowed() -> None:
    torch.manual_seed(0)
    source, encoder = MixTransformer("b0"), MixTransformer("b0")
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("block4.1.")}
    before = snapshot(encoder)
    with pytest.raises(CheckpointError, match=r"missing \(block4.1.*--allow-random-backbone"):
        load_backbone(encoder, state)
    assert same(encoder.state_dict(), before)
    report = load_backbone(encoder, state, allow_random_backbone=True)
    assert all(name.startswith("block4.1.") for name in report.random)
    assert torch.equal(encoder.norm1.weight, source.norm1.weight)


def test_allowing_a_random_backbone_excuses_nothing_else() -> None:
    state = MixTransformer("b0").state_dict()
    for name, value in (("norm1.weight", torch.full((32,), float("nan"))), ("norm9.weight", torch.ones(1))):
        with pytest.raises(CheckpointError, match=name):
            load_backbone(MixTransformer("b0"), {**state, name: value}, allow_random_backbone=True)


def test_f3_the_file_of_another_variant_is_refused() -> None:
    with torch.device("meta"):
        state = MixTransformer("b1").state_dict()
    with pytest.raises(CheckpointError, match="of another shape"):
        load_backbone(MixTransformer("b0"), state)
