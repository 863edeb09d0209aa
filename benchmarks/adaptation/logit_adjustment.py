"""Chooses the strength of the logit adjustment of hrda_lite, on frames that its scores are not reported on.

    OMP_NUM_THREADS=1 python benchmarks/adaptation/logit_adjustment.py    # five minutes of one core

Scored are every fourth of 305 day frames of CamVid and every second of 42 dusk frames, whose images were among the
unlabelled ones of the training, and the held-out renderings of packs/streets. Class shares are counted from the labels
of the two sources of config/recipes/hrda_lite.yaml. It needs the data that lies beside developers' clones (../shared),
and writes benchmarks/results/logit_adjustment.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from shipped_model import DATA, MODELS, SPLITS, THIN, Every, load_weights
from tqdm import tqdm

from hrda_core.bench.record import ROOT, write_record
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.datasets.class_statistics import class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled
from hrda_core.data.image_files import read_names
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.inference import Bundle, predict_logits
from hrda_core.labels import CAMVID11, CITYSCAPES19
from hrda_core.metrics import Confusion, LabelledImages
from hrda_core.models.class_bias import class_bias
from hrda_core.standard_streams import with_streams
from hrda_core.trainer.class_shares import class_shares

STRENGTHS = (0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
SOURCE_SHARES = {"packs/streets": 2, "synth_streets": 1}
"""Shares of the draws, as in the recipe."""


def main() -> None:
    """Print the table and write the record."""
    torch.set_num_threads(1)
    shares = source_shares()
    rows = [
        {"place": name, "images": len(pairs), **row}
        for name, pairs in places().items()
        for row in scores(pairs, shares, name)
    ]
    print(table(rows))
    figures = {"rows": rows, "class_shares": dict(zip(CITYSCAPES19.classes, shares, strict=True))}
    print(f"wrote {write_record('logit_adjustment', figures=figures, settings={'threads': 1})}")


def source_shares() -> tuple[float, ...]:
    """Return the share of each class of the labelled pixels of the training's two sources."""
    synth = DATA / "synth_streets"
    sources = {
        "packs/streets": SourcePack.open(ROOT / "packs" / "streets").train_pairs(),
        "synth_streets": _labelled(synth / "images" / "train", synth / "labels" / "train"),
    }
    counted = [(SOURCE_SHARES[name], class_statistics(pairs, len(CITYSCAPES19))) for name, pairs in sources.items()]
    return class_shares(len(CITYSCAPES19), counted)


def places() -> dict[str, LabelledImages]:
    """Return the labelled images that the strength is chosen on."""
    images, labels = DATA / "camvid" / "images", DATA / "camvid" / "labels"
    return {
        "other day frames": Every(_labelled(images, labels, "camvid_day_train"), 4),
        "other dusk frames": Every(_labelled(images, labels, "camvid_dusk_adapt"), 2),
        "held-out renderings": SourcePack.open(ROOT / "packs" / "streets").held_out_pairs(),
    }


def _labelled(images: Any, labels: Any, split: str = "") -> ImageLabelPairs:
    names = read_names(SPLITS / f"{split}.txt") if split else None
    return open_labelled("folders", None, "", images=images, labels=labels, names=names)


def scores(pairs: LabelledImages, shares: tuple[float, ...], name: str) -> list[dict[str, Any]]:
    """Score the shipped network, without its own adjustment, with each strength."""
    bundle = Bundle.open(MODELS / "hrda_lite")
    network = load_weights(bundle, MODELS / "hrda_lite" / "model.safetensors", adjusted=False)
    table = CAMVID11.table()
    found = {strength: Confusion(len(CAMVID11.names)) for strength in STRENGTHS}
    biases = {
        strength: np.array(class_bias(strength, shares) or (0.0,) * len(shares), np.float32)[:, None, None]
        for strength in STRENGTHS
    }
    for index in tqdm(range(len(pairs)), desc=name, mininterval=10):
        rgb, label = pairs.load(index)
        with torch.no_grad():
            image = torch.from_numpy(normalise(rgb, bundle.mean, bundle.std))[None]
            logits: npt.NDArray[np.float32] = predict_logits(network, image, "tiles", grid=(1, 1))[0].numpy()
        for strength, matrix in found.items():
            matrix.add(table[(logits + biases[strength]).argmax(0)], table[label])
    return [{"strength": strength, **_row(matrix)} for strength, matrix in found.items()]


def _row(matrix: Confusion) -> dict[str, Any]:
    result = matrix.scores()
    iou = {
        name: None if np.isnan(value) else float(value) for name, value in zip(CAMVID11.names, result.iou, strict=True)
    }
    return {"mean_iou": float(result.mean_iou), "pixel_accuracy": float(result.pixel_accuracy), "iou": iou}


def table(rows: list[dict[str, Any]]) -> str:
    """Return mIoU, pixels right and the small classes' IoU of every place and strength as Markdown."""
    lines = ["| place | strength | mIoU | pixels right | small classes |", "|---|---|---|---|---|"]
    for row in rows:
        small = [f"{name} {100 * row['iou'][name]:.0f}" for name in THIN if row["iou"][name] is not None]
        figures = f"{100 * row['mean_iou']:.1f} | {100 * row['pixel_accuracy']:.1f}"
        lines.append(f"| {row['place']}, {row['images']} | {row['strength']} | {figures} | {', '.join(small)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "logit_adjustment"))
