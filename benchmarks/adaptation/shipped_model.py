"""Scores the shipped models, as they are and with BatchNorm statistics of the place, for docs/results/adaptation.md.

    OMP_NUM_THREADS=1 python benchmarks/adaptation/shipped_model.py    # twenty minutes of one core

Four places: CamVid by day (every third frame of its validation part), CamVid at dusk (the last 20 frames), India (every
second frame of the score part of IDD Lite, 7 groups) and the held-out renderings of packs/streets. All rows see one
tile. AdaBN is what `hrda adapt --effort instant` does, on 48 unlabelled frames of the place. It needs the data that
lies beside developers' clones (../shared), and writes benchmarks/results/shipped_model.json. No fence is labelled at
dusk, and a few predicted pixels make it count as 0: over the 10 labelled groups the mean is 11/10 of the one printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from hrda_core.adaptation.stages.instant import INSTANT_FRAMES, adapt_instantly
from hrda_core.bench.record import ROOT, write_record
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled
from hrda_core.data.frames import UnlabelledFrames
from hrda_core.data.image_files import read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.deploy.network import WEIGHTS_FILE, load_network
from hrda_core.inference import Bundle, predict_logits
from hrda_core.labels import CAMVID11, IDD7, ClassGroups
from hrda_core.metrics import LabelledImages, score
from hrda_core.models import HRDA, Segmenter
from hrda_core.models.class_bias import bias_in, with_bias
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import file_sha256

UInt8Array = npt.NDArray[np.uint8]

DATA = ROOT.parent / "shared" / "data"
MODELS = ROOT / "models"
SHIPPED = ("hrda_lite_source", "hrda_lite")
SPLITS = ROOT / "config" / "splits"
THIN = ("person", "rider", "pole", "traffic sign", "fence")


@dataclass(frozen=True)
class Place:
    """Labelled images that are scored, and unlabelled ones whose statistics AdaBN takes."""

    name: str
    pairs: LabelledImages
    groups: ClassGroups
    unlabelled: UnlabelledFrames


class Every:
    """Every n-th pair."""

    def __init__(self, pairs: ImageLabelPairs, step: int) -> None:
        self._pairs, self._rows = pairs, range(0, len(pairs), step)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int, /) -> tuple[UInt8Array, UInt8Array]:
        """Return an image and its labels."""
        return self._pairs.load(self._rows[index])


def main() -> None:
    """Print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, help="weights of the student of the run that gave hrda_lite")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = {
        "before: renderings only": (MODELS / SHIPPED[0] / WEIGHTS_FILE, True),
        **({"after: student": (options.student, True)} if options.student else {}),
        "after: teacher, as it was trained": (MODELS / SHIPPED[1] / WEIGHTS_FILE, False),
        "after: teacher, as shipped": (MODELS / SHIPPED[1] / WEIGHTS_FILE, True),
    }
    rows = [
        {
            "model": name,
            "adabn": adabn,
            "place": place.name,
            **_scored(file, place, adabn, adjusted),
        }
        for name, (file, adjusted) in weights.items()
        for place in tqdm(places(), desc=name, mininterval=10)
        for adabn in (False, True)
    ]
    print(table(rows))
    models = {name: file_sha256(MODELS / name / WEIGHTS_FILE) for name in SHIPPED}
    print(f"wrote {write_record('shipped_model', figures={'rows': rows}, settings={'models': models, 'threads': 1})}")


def places() -> list[Place]:
    """Return the places that are scored."""
    camvid, india, pack = DATA / "camvid", DATA / "idd_lite", SourcePack.open(ROOT / "packs" / "streets")

    def labelled(split: str) -> ImageLabelPairs:
        names = read_names(SPLITS / f"{split}.txt")
        return open_labelled("folders", None, "", images=camvid / "images", labels=camvid / "labels", names=names)

    def unlabelled(split: str) -> UnlabelledFrames:
        return open_unlabelled(camvid / "images", names=read_names(SPLITS / f"{split}.txt"))

    scored = india / "score"
    score_part = open_labelled("folders", None, "", images=scored / "images", labels=scored / "labels")
    return [
        Place("day", Every(labelled("camvid_day_val"), 3), CAMVID11, unlabelled("camvid_day_train")),
        Place("dusk", labelled("camvid_dusk_score"), CAMVID11, unlabelled("camvid_dusk_adapt")),
        Place("India", Every(score_part, 2), IDD7, open_unlabelled(india / "images")),
        Place("held-out renderings", pack.held_out_pairs(), CAMVID11, open_unlabelled(pack.path / "images")),
    ]


def load_weights(bundle: Bundle, weights: Path, *, adjusted: bool) -> HRDA | Segmenter:
    """Fill the network of the shipped bundle with weights that fit it, with or without their logit adjustment."""
    network = load_network(bundle)
    assert isinstance(network, HRDA | Segmenter)
    bias = () if adjusted else tuple(-value for value in bias_in(weights))
    network.load_state_dict(with_bias(network, load_file(weights), bias))
    return network


def _scored(weights: Path, place: Place, adabn: bool, adjusted: bool) -> dict[str, Any]:
    bundle = Bundle.open(MODELS / SHIPPED[1])
    network = load_weights(bundle, weights, adjusted=adjusted)
    if adabn:
        adapt_instantly(network, bundle, place.unlabelled, INSTANT_FRAMES)

    def predict(rgb: UInt8Array) -> UInt8Array:
        image = torch.from_numpy(normalise(rgb, bundle.mean, bundle.std))[None]
        found: UInt8Array = predict_logits(network, image, "tiles", grid=(1, 1))[0].argmax(0).to(torch.uint8).numpy()
        return found

    found = score(predict, place.pairs, place.groups, boundary=False).to_dict()
    return {key: found[key] for key in ("groups", "images", "mean_iou", "pixel_accuracy", "iou")}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the page: mIoU, pixel accuracy, and IoU of the small classes of every place."""
    lines = ["| model | place | images | mIoU | pixels right | small classes |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = row["model"] + (", AdaBN of the decoder" if row["adabn"] else "")
        small = [f"{label} {100 * iou:.0f}" for label, iou in row["iou"].items() if label in THIN and iou is not None]
        figures = f"{100 * row['mean_iou']:.1f} | {100 * row['pixel_accuracy']:.1f}"
        lines.append(f"| {name} | {row['place']} | {row['images']} | {figures} | {', '.join(small)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "shipped_model"))
