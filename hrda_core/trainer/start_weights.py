"""What the networks of a run start from: random or ImageNet encoders, or the weights of another network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hrda_core.errors import DataError, RecipeError, one_line
from hrda_core.interop import load_backbone
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.models.adapters import adapter_names, describe_adapters
from hrda_core.models.class_bias import bias_in, with_bias
from hrda_core.models.finite_weights import check_finite
from hrda_core.models.timm_encoder import TimmEncoder, load_imagenet_weights
from hrda_core.plain_files import check_file
from hrda_core.trainer.recipe import ModelConfig

__all__ = ["WEIGHTS_NAME", "load_start"]

WEIGHTS_NAME = "model.safetensors"

_HRDA_DECODER, _SCALE_ATTENTION = "decode_head.head.", "decode_head.scale_attention."


def load_start(student: HRDA | Segmenter, config: ModelConfig, classes: int) -> dict[str, Any]:
    """Fill a network with what the recipe says it starts from.

    Args:
        classes: number of the network's classes.

    Returns:
        source, loaded, of: where the weights came from, how many tensors were taken, and of how many; `anew`: names of
            the others, where `config.reset` asks for it.

    Raises:
        RecipeError: the recipe names no initial weights for the encoder.
        DataError, CheckpointError: a weights file cannot be used.
    """
    count = len(student.state_dict())
    encoder = len(student.backbone.state_dict())
    if config.weights is not None:
        taken = _load_weights(student, config, classes)
        anew = {"anew": sorted(set(student.state_dict()) - taken)} if config.reset else {}
        return {"source": str(config.weights), "loaded": len(taken), "of": count, **anew}
    if config.backbone is not None:
        report = load_backbone(student.backbone, config.backbone, allow_random_backbone=config.allow_random_backbone)
        return {"source": str(config.backbone), "loaded": len(report.used), "of": encoder}
    if config.imagenet:
        if not isinstance(student.backbone, TimmEncoder):
            raise RecipeError("MiT and ViT encoders start from a file: give model.backbone, or allow_random_backbone")
        return {"source": load_imagenet_weights(student.backbone), "loaded": encoder, "of": encoder}
    if not config.allow_random_backbone:
        raise RecipeError(
            "the encoder would start from random weights and learn far worse; give model.backbone or model.weights, "
            "or allow it with --allow-random-backbone"
        )
    return {"source": "random", "loaded": 0, "of": encoder}


def _load_weights(student: HRDA | Segmenter, config: ModelConfig, classes: int) -> set[str]:
    """Fill the whole network but for what is reset; return the names of the tensors taken. From an HRDA's weights, a
    single-scale network takes encoder and segmentation decoder, an HRDA with a fixed attention takes all but the scale
    attention. LoRA or Rein begin as they are where the weights have neither."""
    assert config.weights is not None
    weights = _read(student, config.weights)
    own = student.state_dict()
    theirs, ours = describe_adapters(weights), describe_adapters(own)
    if theirs and theirs != ours:
        raise DataError(
            f"weights '{config.weights}' have {theirs}, this network has {ours or 'no adapters'}; give the preset and "
            f"overrides that they were trained with, or a bundle made of them by 'hrda export', which merges LoRA"
        )
    if not theirs:
        begin = adapter_names(own)
        own = {name: value for name, value in own.items() if name not in begin}
    classifier = _of_class_number(config, classes)
    if config.reset:
        weights = {name: value for name, value in weights.items() if name not in classifier}
        own = {name: value for name, value in own.items() if name not in classifier}
    if misfits := _misfits(own, weights):
        raise DataError(_sentence(config, misfits, classifier, weights, classes, len(own)))
    where = f"weights '{config.weights}' have"
    check_finite(weights, where, f"give {WEIGHTS_NAME} of another run or bundle", DataError)
    student.load_state_dict(weights, strict=False)
    return set(weights)


def _read(student: HRDA | Segmenter, path: Path) -> dict[str, Tensor]:
    try:
        check_file(path)
        weights, bias = load_file(path), bias_in(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"weights '{path}' cannot be read ({one_line(error)}); give {WEIGHTS_NAME} of a run or bundle"
        ) from error
    if isinstance(student, Segmenter) or student.fixed_attention is not None:
        weights = {name: value for name, value in weights.items() if not name.startswith(_SCALE_ATTENTION)}
    if isinstance(student, Segmenter):
        weights = {name.replace(_HRDA_DECODER, "decode_head."): value for name, value in weights.items()}
    # Training starts from the network as it was trained.
    return with_bias(student, weights, tuple(-value for value in bias))


def _of_class_number(config: ModelConfig, classes: int) -> set[str]:
    """Names of the tensors whose shape depends on the number of classes; on the meta device, which has no memory."""
    with torch.device("meta"):
        one, other = (
            create_model(config.preset, number, **config.overrides).state_dict()
            for number in (classes, 2 if classes > 2 else 3)
        )
    return {name for name in one if one[name].shape != other[name].shape}


def _misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors of which the shapes differ, or that are in one of the two only, with what is there and here."""
    shapes = [
        {name: "x".join(map(str, value.shape)) or "one value" for name, value in tensors.items()}
        for tensors in (weights, own)
    ]
    there, here = shapes
    return {
        name: f"'{name}' is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in dict.fromkeys((*here, *there))
        if there.get(name) != here.get(name)
    }


def _sentence(
    config: ModelConfig,
    misfits: Mapping[str, str],
    classifier: Iterable[str],
    weights: Mapping[str, Tensor],
    classes: int,
    count: int,
) -> str:
    start = f"weights '{config.weights}' do not fit this network"
    there = next((weights[name].shape[0] for name in misfits if name in weights), 0)
    if there and set(misfits) <= set(classifier):
        return (
            f"{start}: they have {there} classes, the recipe {classes} ({'; '.join(misfits.values())}); to take the "
            f"other {count - len(misfits)} tensors and learn these anew, add model.reset: [classifier]"
        )
    first = min(misfits, key=lambda name: name in classifier)
    return (
        f"{start}: {len(misfits)} of {count} tensors differ, the first: {misfits[first]}; give {WEIGHTS_NAME} of a run "
        f"or bundle with the same model.preset and model.overrides"
    )
