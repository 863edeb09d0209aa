"""The stage `own_labels` of an adaptation: the instant candidate labels whole frames once, before anything is trained.

Self-training as DAFormer and HRDA do it lets a teacher label crops anew in each step. On the few hundred frames of one
drive that lost points (docs/results/adaptation.md): crops are shrunk and cut, their BatchNorm statistics are those of
two images, and what is unsure goes to the largest class, is learnt, and comes back as a label. Whole frames, seen
enlarged and mirrored too, get better labels from the same network, and labels that are given once cannot drift. Of each
class its surest pixels are kept, as in class-balanced self-training (CBST, arXiv 1810.07911): one threshold for all
would remove people and signs, of which a model is never as certain as of the road.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hrda_core.adaptation.stages.source import Count, ModelSource
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import ImageFrames, evenly_spaced
from hrda_core.data.image_files import BoolArray, UInt8Array
from hrda_core.data.packs.pseudo_pack import write_pseudo_pack
from hrda_core.deploy.network import load_network, plan_as_run
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, file_record
from hrda_core.trainer.recipe import RuntimeConfig
from hrda_core.trainer.runtime import Runtime
from hrda_core.windows.torch_windows import predict_probs

__all__ = ["LABELLED_FRAMES", "own_labels"]

LABELLED_FRAMES = 120
"""Largest number of frames that are labelled: on two cores they take two minutes, and neighbours show the same."""

_ZOOMS = (1.0, 1.5)
"""Each also mirrored. Enlarged, small and far things have more pixels than the network's stride."""

_KEPT = 2 / 3
"""Share of the pixels of each class that are kept, the surest ones."""

_SAMPLED_FRAMES = 24
"""Frames on which it is measured how sure the model is of each class."""

Label = Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]
"""RGB uint8 (H, W, 3) -> class ids and confidence 0..255, uint8 (H, W) each."""


def own_labels(
    start: Bundle, frames: ImageFrames, folder: Path, runtime: RuntimeConfig, progress: Count
) -> ModelSource:
    """Label frames of the recording by a model and write them as a pack of kind `pseudo`, once.

    Args:
        start: the model, with BatchNorm statistics of the recording.
        frames: frames to adapt on; at most `LABELLED_FRAMES` of them, evenly spaced, are labelled.
        folder: the pack; an interrupted call is continued by the next one.
        runtime: where the network runs.
        progress: called with frames done and frames in all.

    Returns:
        the pack, its labels are class ids of the model.

    Raises:
        BundleError: the bundle has no weights that can be trained.
        DataError: a frame cannot be read, or the model is hardly certain of anything on any frame.
    """
    chosen = replace(frames, files=tuple(evenly_spaced(frames.files, LABELLED_FRAMES)))
    label = _labeller(start, runtime)
    sampled: dict[bytes, tuple[UInt8Array, UInt8Array]] = {}
    thresholds: list[UInt8Array] = []  # measured when the first frame is labelled: a whole pack needs none

    def predict(rgb: UInt8Array) -> tuple[UInt8Array, BoolArray]:
        if not thresholds:
            thresholds.append(_surest(lambda frame: sampled.setdefault(_key(frame), label(frame)), chosen))
        key = _key(rgb)
        labels, confidence = sampled.pop(key) if key in sampled else label(rgb)
        return labels, confidence >= thresholds[0][labels]

    model = f"{start.name} {file_record(start.file(MANIFEST_NAME))['sha256'][:12]}"
    name = f"surest labels of {start.name}, given once"
    pack = write_pseudo_pack(chosen, predict, start.label_space, folder, name=name, model=model, progress=progress)
    return ModelSource(pack, start.label_space)


def _key(rgb: UInt8Array) -> bytes:
    return hashlib.sha256(rgb.tobytes()).digest()


def _labeller(bundle: Bundle, runtime: RuntimeConfig) -> Label:
    """The network as a function of a frame, which it sees in all views; probabilities are averaged."""
    opened = Runtime.open(runtime)
    network = load_network(bundle).to(opened.device)
    plan = plan_as_run(bundle, network)

    @torch.no_grad()
    def label(rgb: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        image = torch.from_numpy(normalise(bundle.scale.apply(rgb), bundle.mean, bundle.std))[None].to(opened.device)
        height, width = rgb.shape[:2]
        with opened.autocast():
            probability = predict_probs(network, image, plan, size=(height, width), scales=_ZOOMS, flip=True)
        top, labels = probability[0].float().max(0)
        confidence = (255 * top + 0.5).to(torch.uint8)
        return np.asarray(labels.to(torch.uint8).cpu().numpy()), np.asarray(confidence.cpu().numpy())

    return label


def _surest(label: Label, frames: ImageFrames) -> UInt8Array:
    """Confidence from which a pixel is among the surest of its class, uint8 (256,), measured on some frames."""
    histograms = np.zeros((256, 256), np.int64)
    for index in evenly_spaced(range(len(frames)), _SAMPLED_FRAMES):
        labels, confidence = label(frames.load(index))
        pairs = labels.astype(np.int64) * 256 + confidence
        histograms += np.bincount(pairs.reshape(-1), minlength=1 << 16).reshape(256, 256)
    left_out = (1 - _KEPT) * histograms.sum(axis=1, keepdims=True)
    return np.asarray((histograms.cumsum(axis=1) > left_out).argmax(axis=1), np.uint8)
