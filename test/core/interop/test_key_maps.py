"""Names of other codes: prefixes of self-training checkpoints, mmsegmentation's and Hugging Face's MiT."""

from __future__ import annotations

import pytest
import torch
from foreign_checkpoints import constants, container, manifest, same, snapshot, uda_state
from tiny_network import TINY
from torch import Tensor

from hrda_core.errors import CheckpointError
from hrda_core.interop import load_backbone, load_mmseg
from hrda_core.models import HRDA, MixTransformer, Segmenter, create_model


def _tiny(seed: int = 0) -> HRDA | Segmenter:
    torch.manual_seed(seed)
    return create_model("hrda_lite", **TINY)


def _encoder(seed: int = 0) -> MixTransformer:
    torch.manual_seed(seed)
    return MixTransformer("b0")


def test_student_and_teacher_get_their_own_values() -> None:
    student, teacher, imnet, model = _tiny(1), _tiny(2), _tiny(3), _tiny(4)
    state = uda_state(student.state_dict(), teacher.state_dict(), imnet.state_dict())
    assert load_mmseg(model, state).network == "student"
    assert same(model.state_dict(), student.state_dict())
    assert load_mmseg(model, state, which="teacher").network == "teacher"
    assert same(model.state_dict(), teacher.state_dict())
    assert not same(model.state_dict(), imnet.state_dict())


@pytest.mark.parametrize("config", ["", "type='HRDAEncoderDecoder'", "type='MultiResEncoderDecoder', type='UniHead'"])
def test_the_container_and_the_legacy_class_names_in_its_config_make_no_difference(config: str) -> None:
    student, model = _tiny(1), _tiny(2)
    load_mmseg(model, container(student.state_dict(), config=config))  # type: ignore[arg-type]
    assert same(model.state_dict(), student.state_dict())


def test_a_single_network_needs_no_prefix_and_has_no_teacher() -> None:
    student, model = _tiny(1), _tiny(2)
    assert load_mmseg(model, student.state_dict()).network == "single"
    assert same(model.state_dict(), student.state_dict())
    with pytest.raises(CheckpointError, match="no teacher"):
        load_mmseg(model, student.state_dict(), "teacher")


def test_a_domain_generalization_file_has_no_teacher_and_its_style_prototypes_are_ignored() -> None:
    student, model = _tiny(1), _tiny(2)
    state = {f"{prefix}{k}": v for prefix in ("model.", "imnet_model.") for k, v in student.state_dict().items()}
    styles = {f"model.backbone.style_hallucination.proto_{key}": torch.zeros(64, 64) for key in ("mean", "std")}
    report = load_mmseg(model, {**state, **styles})
    assert len(report.ignored["style prototypes of domain generalization"]) == 2
    with pytest.raises(CheckpointError, match="has no teacher; it holds: student, ImageNet"):
        load_mmseg(model, state, "teacher")


def test_names_that_the_reference_would_mangle_are_not_taken_for_the_student() -> None:
    model = _tiny(1)
    before = snapshot(model)
    teacher_only = {f"ema_model.{name}": value for name, value in _tiny(2).state_dict().items()}
    with pytest.raises(CheckpointError, match="has no student"):
        load_mmseg(model, teacher_only)
    for mangled in ("ema_backbone.body.x", "ema_model.backbone.body.x", "backbone.body.conv_stem.weight"):
        state = {**uda_state(_tiny(2).state_dict(), {}, {}), mangled: torch.zeros(1)}
        if mangled.startswith("ema_model."):
            assert load_mmseg(model, state).ignored["teacher, not asked for"] == (mangled,)
            continue
        model.load_state_dict(before)
        with pytest.raises(CheckpointError, match=rf"1 unknown \({mangled}\)"):
            load_mmseg(model, state)
        assert same(model.state_dict(), before)


def test_which_network_is_one_of_two_words() -> None:
    with pytest.raises(CheckpointError, match="student, teacher, not 'ema'"):
        load_mmseg(_tiny(), _tiny().state_dict(), "ema")


def _as_mmsegmentation(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write MiT as mmsegmentation does (names: public issue open-mmlab/mmsegmentation#1380)."""
    parts = {"mlp.fc1": "ffn.layers.0", "mlp.dwconv.dwconv": "ffn.layers.1", "mlp.fc2": "ffn.layers.4"}
    parts |= {"attn.proj": "attn.attn.out_proj"} | {name: name for name in ("norm1", "norm2", "attn.sr", "attn.norm")}
    new: dict[str, Tensor] = {}
    for name, value in state.items():
        module, leaf = name.rsplit(".", 1)
        if module.startswith("block"):
            stage, block, part = module.removeprefix("block").split(".", 2)
            prefix = f"layers.{int(stage) - 1}.1.{block}"
            if part == "attn.q":
                joined = torch.cat([value, state[f"block{stage}.{block}.attn.kv.{leaf}"]])
                new[f"{prefix}.attn.attn.in_proj_{leaf}"] = joined
            elif part != "attn.kv":
                pointwise = part in ("mlp.fc1", "mlp.fc2") and leaf == "weight"
                new[f"{prefix}.{parts[part]}.{leaf}"] = value[:, :, None, None] if pointwise else value
        elif module.startswith("patch_embed"):
            stage, part = module.removeprefix("patch_embed").split(".")
            new[f"layers.{int(stage) - 1}.0.{'projection' if part == 'proj' else part}.{leaf}"] = value
        else:
            new[f"layers.{int(module.removeprefix('norm')) - 1}.2.{leaf}"] = value
    return new


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_mmsegmentation_names_fill_the_encoder(prefix: str) -> None:
    source, encoder = _encoder(1), _encoder(2)
    state = {f"{prefix}{name}": value for name, value in _as_mmsegmentation(source.state_dict()).items()}
    for name in ("layers.3.0.projection.weight", "layers.2.1.0.ffn.layers.4.bias", "layers.2.1.1.attn.norm.weight"):
        assert f"{prefix}{name}" in state
    assert len(load_backbone(encoder, state).used) == 176
    assert same(encoder.state_dict(), source.state_dict())


@pytest.mark.parametrize(
    ("scheme", "ignored"),
    [("base", 0), ("image_classification", 2), ("semantic_segmentation", 16), ("semantic_segmentation_in_memory", 16)],
)
def test_hugging_face_names_fill_the_encoder(scheme: str, ignored: int) -> None:
    shapes = manifest("manifest_huggingface_mit_b0")[scheme]
    state, encoder = constants(shapes), _encoder()
    report = load_backbone(encoder, state)
    assert len(report.used) == 176
    assert sum(map(len, report.ignored.values())) == ignored
    kv = encoder.state_dict()["block2.1.attn.kv.weight"]
    names = [name for name in state if ".1.1." in name or "s.1.blocks.1." in name]
    key, value = (
        next(n for n in names if n.endswith((f".{long}.weight", f".{short}.weight")))
        for long, short in (("key", "k_proj"), ("value", "v_proj"))
    )
    assert torch.equal(kv, torch.cat([state[key], state[value]]))
    last_norm = next(name for name in state if name.endswith(("layer_norm.3.weight", "stages.3.layer_norm.weight")))
    assert torch.equal(encoder.norm4.weight, state[last_norm])


@pytest.mark.parametrize("scheme", ["semantic_segmentation", "semantic_segmentation_in_memory"])
def test_a_hugging_face_segformer_fills_ours_with_the_levels_in_our_order(scheme: str) -> None:
    state = constants(manifest("manifest_huggingface_mit_b0")[scheme])
    blocks = torch.tensor([4.0, 3.0, 2.0, 1.0]).repeat_interleave(256)  # deepest first
    state["decode_head.linear_fuse.weight"] = blocks.expand(256, -1)[:, :, None, None]
    model = create_model("segformer_mitb5", encoder="mit_b0", decoder_channels=256)
    report = load_mmseg(model, state)
    assert report.kept == ("decode_head.conv_seg.weight", "decode_head.conv_seg.bias")
    fuse = model.state_dict()["decode_head.linear_fuse.conv.weight"]
    assert fuse[0, ::256, 0, 0].tolist() == [1, 2, 3, 4]
    assert torch.equal(model.state_dict()["decode_head.linear_pred.bias"], state["decode_head.classifier.bias"])


def test_the_original_segformer_head_is_reordered_and_daformers_is_not() -> None:
    ours = create_model("segformer_mitb5", encoder="mit_b0", decoder_channels=256)
    original = {name.replace("linear_c.3", "linear_c4").replace("linear_c.2", "linear_c3"): value
                for name, value in ours.state_dict().items()}  # fmt: skip
    original = {name.replace("linear_c.1", "linear_c2").replace("linear_c.0", "linear_c1"): value
                for name, value in original.items()}  # fmt: skip
    before = ours.state_dict()["decode_head.linear_fuse.conv.weight"].clone()
    load_mmseg(ours, {name: value.clone() for name, value in ours.state_dict().items()})
    assert torch.equal(ours.state_dict()["decode_head.linear_fuse.conv.weight"], before)
    load_mmseg(ours, {name: value.clone() for name, value in original.items()})
    after = ours.state_dict()["decode_head.linear_fuse.conv.weight"]
    assert torch.equal(after, torch.cat(before.chunk(4, dim=1)[::-1], dim=1))


def test_an_encoder_with_keys_but_no_values_is_refused() -> None:
    state = constants(manifest("manifest_huggingface_mit_b0")["base"])
    del state["encoder.block.0.0.attention.self.value.bias"]
    encoder = _encoder()
    before = snapshot(encoder)
    with pytest.raises(CheckpointError, match=r"1 missing \(block1.0.attn.kv.bias\), 1 unknown"):
        load_backbone(encoder, state)
    assert same(encoder.state_dict(), before)
