"""The stage `instant` of an adaptation: the given model gets BatchNorm statistics of the recording.

It takes seconds and needs no gradient and no label. Encoder layers whose statistics stayed at ImageNet's while the
model was trained keep them: the weights after them know no others, and new statistics cost up to 18 points
(docs/results/adaptation.md). The decoder's statistics are measured anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.adopt import export_candidate, provenance, silent
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import UnlabelledFrames, evenly_spaced
from hrda_core.deploy.network import WEIGHTS_FILE, load_network, plan_as_run
from hrda_core.errors import DataError
from hrda_core.inference.bundle import Bundle
from hrda_core.models.class_bias import bias_in
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.uda.adabn import reestimate_batchnorm

__all__ = ["INSTANT_FRAMES", "adapt_instantly", "encoder_norm_rested", "instant_bundle"]

_BATCH = 8
INSTANT_FRAMES = 48
"""Largest number of frames that statistics are measured on."""

_SMALLEST_BATCH = 4
"""Statistics of fewer frames are those of a scene, not of a drive."""


def adapt_instantly(network: HRDA | Segmenter, bundle: Bundle, frames: UnlabelledFrames, count: int) -> int:
    """Measure BatchNorm statistics on frames of the recording, in place.

    Args:
        network: the bundle's network.
        frames: target images.
        count: largest number of frames to use, evenly spaced.

    Returns:
        number of layers with new statistics; 0 where the network has none that may change.

    Raises:
        DataError: there are fewer than four frames of one size.
    """
    plan, rested = plan_as_run(bundle, network), encoder_norm_rested(bundle)
    return reestimate_batchnorm(network, _batches(bundle, frames, count), plan=plan, keep_encoder=rested)


def encoder_norm_rested(bundle: Bundle) -> bool:
    """Return whether the encoder's BatchNorm layers kept ImageNet's statistics in training, according to the manifest.

    The answer is yes for models of unknown history, because keeping statistics is the mistake that costs less.
    """
    settings: Any = bundle.manifest.get("provenance", {}).get("settings", {})
    return bool(settings.get("model", {}).get("freeze_encoder_norm", True))


def _batches(bundle: Bundle, frames: UnlabelledFrames, count: int) -> Iterator[Tensor]:
    """Batches of frames of one size, far apart in time: (B, 3, H, W), normalised."""
    chosen = evenly_spaced(range(len(frames)), count)
    batches = max(1, round(len(chosen) / _BATCH))
    waiting: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    yielded = False
    # Every `batches`-th frame first, so that a batch spans the whole drive.
    for index in [index for start in range(batches) for index in chosen[start::batches]]:
        rgb = bundle.scale.apply(frames.load(index))
        image = torch.from_numpy(normalise(rgb, bundle.mean, bundle.std))
        size = (image.shape[1], image.shape[2])
        waiting[size].append(image)
        if len(waiting[size]) == _BATCH:
            yield torch.stack(waiting.pop(size))
            yielded = True
    for rest in waiting.values():
        if len(rest) >= _SMALLEST_BATCH:
            yield torch.stack(rest)
            yielded = True
    if not yielded:
        raise DataError(
            f"BatchNorm statistics need at least {_SMALLEST_BATCH} frames of one size, the selection has {len(frames)} "
            f"in all; give a longer recording"
        )


def instant_bundle(request: Request, given: Bundle, frames: Frames, folder: Path, say: Callable[[str], None]) -> Bundle:
    """Write the given model with statistics of the frames to `folder`, once.

    Raises:
        DataError: there are too few frames of one size.
    """
    if folder.is_dir():
        return Bundle.open(folder)
    network = load_network(given)
    assert isinstance(network, HRDA | Segmenter)
    layers = adapt_instantly(network, given, frames.adapt, INSTANT_FRAMES)
    say(f"{layers} BatchNorm layers have statistics of the recording")
    return export_candidate(
        network,
        given,
        folder,
        frames.adapt.load(0),
        name=f"{given.name}_instant",
        overrides=given.manifest.get("overrides", {}),
        bias=bias_in(given.file(WEIGHTS_FILE)),
        provenance=provenance(request, given, frames, {"method": f"BatchNorm statistics of {layers} layers"}),
        say=silent,
    )
