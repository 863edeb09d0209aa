"""Loads official DAFormer, HRDA, MIC and SegFormer checkpoints, and MiT ImageNet encoders, into our networks.

    report = load_mmseg(create_model("hrda_mitb5"), "iter_40000.pth", which="teacher")
    report = load_backbone(model.backbone, "mit_b5.pth")

Every tensor is accounted for (`accounting.py`), and files are read without running code (`safe_load.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hrda_core.errors import CheckpointError
from hrda_core.interop.accounting import IgnoreRule, LoadReport, fill_network
from hrda_core.interop.guess import describe
from hrda_core.interop.key_maps import of_timm, select_network, translate_encoder, translate_segmenter
from hrda_core.interop.safe_load import Checkpoint, read_checkpoint, unwrap

__all__ = ["WHICH", "Weights", "load_backbone", "load_mmseg", "take_network"]

Weights = str | Path | Mapping[str, Tensor] | Checkpoint
"""A file, a state dict (alone or under `state_dict`), or a file that was read already."""

WHICH = ("student", "teacher")

_STYLES = r"style_hallucination\.proto_(mean|std)"
_BASE_CLASSIFIER = r"decode_head\.conv_seg\.(weight|bias)"

_SEGMENTER_RULES = (
    IgnoreRule("style prototypes of domain generalization", rf"backbone\.{_STYLES}"),
    IgnoreRule("ImageNet classifier", r"backbone\.head\.(weight|bias)"),
    IgnoreRule("classifier that the decoder never uses", _BASE_CLASSIFIER, beside="decode_head.head."),
    IgnoreRule("classifier that the decoder never uses", _BASE_CLASSIFIER, beside="decode_head.linear_pred."),
    IgnoreRule("auxiliary head of the training", r"auxiliary_head\..+"),
)

_ENCODER_RULES = (
    IgnoreRule("ImageNet classifier", r"(head|classifier)\.(weight|bias)"),
    IgnoreRule("pre-training of a ViT", r"mask_token|(norm|fc_norm)\.(weight|bias)|attn_pool\..+"),
    IgnoreRule("style prototypes of domain generalization", _STYLES),
    IgnoreRule("decoder", r"(decode|auxiliary)_head\..+"),
)


def load_mmseg(
    model: nn.Module, weights: Weights, which: str = "student", *, allow_random_backbone: bool = False
) -> LoadReport:
    """Fill a network of ours (`HRDA` or `Segmenter`) with official weights, all of them or none.

    Args:
        model: filled in place; its preset and class count must be the checkpoint's.
        weights: DAFormer, HRDA, MIC, SegFormer (NVlabs, Hugging Face) or our own `model.safetensors`.
        which: `student` or `teacher` of a self-training checkpoint; a file of a single network has a student only.
        allow_random_backbone: accept a file without (part of) the encoder; what it lacks stays random.

    Returns:
        what became of every tensor.

    Raises:
        CheckpointError: the file cannot be read safely, or does not fit `model`, which is then unchanged.
    """
    checkpoint = _as_checkpoint(weights)
    tensors, left_out, network = take_network(checkpoint, which)
    has_unused_classifier = any(name.startswith("decode_head.linear_pred.") for name in tensors)
    return fill_network(
        model,
        tensors,
        source=checkpoint.name,
        network=network,
        rules=_SEGMENTER_RULES,
        ignored=left_out,
        may_keep=lambda name: has_unused_classifier and name.startswith("decode_head.conv_seg."),
        may_stay_random=lambda name: allow_random_backbone and name.startswith("backbone."),
        hint=f"the file holds {describe(tensors)}: build the network with the same preset and class count",
    )


def load_backbone(
    encoder: nn.Module, weights: Weights, which: str = "student", *, allow_random_backbone: bool = False
) -> LoadReport:
    """Fill an encoder alone, from an ImageNet file or a whole checkpoint; decoders and classifiers are ignored.

    Args:
        encoder: `MixTransformer` for the MiT files of NVlabs, mmsegmentation and Hugging Face; encoders of timm for
            files of timm's network; any encoder for files with its own names.
        weights: see `load_mmseg`.
        which: as in `load_mmseg`, for whole checkpoints.
        allow_random_backbone: accept a file that lacks part of the encoder; what it lacks stays random.

    Raises:
        CheckpointError: the file cannot be read safely, or does not fit `encoder`, which is then unchanged.
    """
    checkpoint = _as_checkpoint(weights)
    _check_which(which)
    tensors, left_out = select_network(checkpoint.tensors, which)
    for prefix in ("backbone.", "segformer."):
        tensors = _without_prefix(tensors, prefix)
    return fill_network(
        encoder,
        of_timm(encoder, translate_encoder(tensors)),
        source=checkpoint.name,
        network="encoder",
        rules=_ENCODER_RULES,
        ignored=left_out,
        # What makes a pyramid of a plain ViT's tokens, LoRA and Rein: no file of the encoder has them.
        may_stay_random=lambda name: allow_random_backbone or name in getattr(encoder, "added", ()),
        hint=(
            "an encoder that is not fully loaded learns far worse; use the file of this very encoder, or allow a "
            "random start with --allow-random-backbone"
        ),
    )


def take_network(checkpoint: Checkpoint, which: str) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]], str]:
    """Return one network of a checkpoint under our names, what was left out by reason, and the kind of network.

    Raises:
        CheckpointError: the file has no such network.
    """
    _check_which(which)
    tensors, left_out = select_network(checkpoint.tensors, which)
    single = tensors.keys() == checkpoint.tensors.keys()
    if which == "teacher" and single:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' has no teacher (no name begins with 'ema_model.'): load it as student"
        )
    if all(name.startswith("/") for name in tensors):
        held = ", ".join(reason.removesuffix(", not asked for") for reason in left_out)
        raise CheckpointError(f"checkpoint '{checkpoint.name}' has no {which}; it holds: {held}")
    return translate_segmenter(tensors), left_out, "single" if single else which


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Names without `prefix`; what would take the place of another name stays as it is."""
    return {
        name.removeprefix(prefix) if name.removeprefix(prefix) not in tensors else name: value
        for name, value in tensors.items()
    }


def _check_which(which: str) -> None:
    if which not in WHICH:
        raise CheckpointError(f"which network to load must be one of {', '.join(WHICH)}, not '{which}'")


def _as_checkpoint(weights: Weights) -> Checkpoint:
    if isinstance(weights, Checkpoint):
        return weights
    if isinstance(weights, Mapping):
        return Checkpoint("state dict", unwrap(weights, "state dict"))
    return read_checkpoint(weights)
