"""Loads the larger network of a distillation, and hands over to the slim one what it starts from."""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from hrda_core.errors import DataError, RecipeError, first_misfit, one_line
from hrda_core.inference.bundle import file_record
from hrda_core.interop.guess import count_classes
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.finite_weights import check_finite
from hrda_core.models.presets import resolve_preset
from hrda_core.plain_files import check_file
from hrda_core.uda.distillation import GuideConfig
from hrda_core.uda.slim_start import can_cut, cut_decoder
from hrda_core.uda.step import Guide

__all__ = ["inherit", "load_guide"]


def load_guide(config: GuideConfig, classes: int) -> Guide:
    """Build the larger network, frozen, in eval mode, on the CPU.

    Args:
        classes: number of classes, the slim network's too.

    Raises:
        DataError: the weights are missing, damaged, not finite, or of another network.
        RecipeError: a preset or override is unknown, the network has another number of classes, or the file is not the
            one that the recipe was made for.
    """
    network = create_model(config.preset, num_classes=classes, **config.overrides)
    try:
        # Half precision of a bundle becomes the single precision of the network.
        check_file(config.weights)
        weights = load_file(config.weights)
        found = count_classes(weights)
        if found not in (0, classes):
            raise RecipeError(
                f"the larger network '{config.name}' has {found} classes, the recipe {classes}; a slim network learns "
                f"the classes of the larger one: give its label space as label_space of the recipe"
            )
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = first_misfit(error) if isinstance(error, RuntimeError) else one_line(error)
        raise DataError(
            f"weights '{config.weights}' are not those of the larger network '{config.name}' ({reason}); give a bundle "
            f"or a finished run"
        ) from error
    check_finite(weights, f"weights '{config.weights}' of the larger network have", "give another model", DataError)
    if config.sha256 and file_record(config.weights)["sha256"] != config.sha256:
        raise RecipeError(
            f"weights '{config.weights}' of the larger network have changed since the distillation was begun; begin it "
            f"anew in another folder"
        )
    values = resolve_preset(config.preset, **config.overrides)
    return Guide(network.requires_grad_(False).eval(), values.mean, values.std)


def inherit(student: HRDA | Segmenter, larger: HRDA | Segmenter, start: str = "slices") -> dict[str, Any] | None:
    """Start the student's encoder from the larger network's if both are of one kind; else return None and do nothing.

    Args:
        start: `slices` = also cut its decoders out of the larger network's, where they fit; `encoder` = leave them.

    Returns:
        source, loaded, of: as `hrda_core.trainer.state.State.weights_loaded`.
    """
    encoder = student.backbone
    own = {name: value.shape for name, value in encoder.state_dict().items()}
    theirs = larger.get_submodule("backbone").state_dict()
    if own != {name: value.shape for name, value in theirs.items()}:
        return None
    encoder.load_state_dict(theirs)
    if start != "slices":
        return {"source": "encoder of the larger network", "loaded": len(own), "of": len(own)}
    pairs = [
        (narrow, wide) for narrow, wide in zip(_heads(student), _heads(larger), strict=False) if can_cut(narrow, wide)
    ]
    for narrow, wide in pairs:
        assert isinstance(narrow, DAFormerHead)
        assert isinstance(wide, DAFormerHead)
        cut_decoder(narrow, wide)
    loaded = len(own) + sum(len(narrow.state_dict()) for narrow, _ in pairs)
    return {
        "source": f"encoder of the larger network and channels of {len(pairs)} of its decoders",
        "loaded": loaded,
        "of": len(student.state_dict()),
    }


def _heads(network: HRDA | Segmenter) -> list[nn.Module]:
    """Segmentation decoder and, of an HRDA, attention decoder."""
    if isinstance(network, Segmenter):
        return [network.decode_head]
    heads = network.decode_head
    return [heads.head] if heads.scale_attention is None else [heads.head, heads.scale_attention]
