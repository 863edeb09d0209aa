"""Draws the pictures of docs/results/adaptation.md: masks before and after adaptation, failures of hrda_lite, and what
labels of one camera add to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from hrda_core.bench.record import ROOT
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled
from hrda_core.data.image_files import read_names
from hrda_core.inference import Predictor, predict_logits
from hrda_core.labels import CAMVID11, CITYSCAPES19
from hrda_core.metrics import Confusion
from hrda_core.models import create_model
from hrda_core.models.presets import resolve_preset
from hrda_core.standard_streams import with_streams

UInt8Array = npt.NDArray[np.uint8]
Predict = Callable[[UInt8Array], UInt8Array]

SETS = ("camvid_day_val", "camvid_dusk_score")


def main() -> int:
    """Draw two frames of each domain, the worst two of each after adaptation, and the first two with labels learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", type=Path, default=ROOT.parent / "shared" / "data" / "camvid")
    parser.add_argument("--before", type=Path, default=ROOT / "models" / "hrda_lite_source" / "model.safetensors")
    parser.add_argument("--after", type=Path, default=ROOT / "models" / "hrda_lite")
    parser.add_argument("--labelled", type=Path, default=ROOT / "models" / "hrda_lite_camvid")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before, after, labelled = _source_network(options.before), _bundle(options.after), _bundle(options.labelled)
    sample, failures, learnt = [], [], []
    for name in SETS:
        pairs = _pairs(options.camvid, name)
        order = np.argsort([_score(after, pairs, index) for index in range(len(pairs))])
        shown = (0, len(pairs) // 2)
        sample += [_row(pairs, index, before, after) for index in shown]
        failures += [_row(pairs, int(index), before, after) for index in order[:2]]
        learnt += [_row(pairs, index, after, labelled) for index in shown]
    adapted = ("before: renderings only", "after")
    for name, rows, models in (
        ("adapted_masks.jpg", sample, adapted),
        ("adapted_failures.jpg", failures, adapted),
        ("labels_of_one_camera.jpg", learnt, (options.after.name, options.labelled.name)),
    ):
        picture = np.vstack([_captions(rows[0].shape[1], ("camera", "label", *models)), *rows])
        cv2.imwrite(str(options.out / name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        print(f"written: {(options.out / name).relative_to(ROOT)}")
    return 0


def _pairs(camvid: Path, name: str) -> ImageLabelPairs:
    names = read_names(ROOT / "config" / "splits" / f"{name}.txt")
    return open_labelled("folders", None, "", images=camvid / "images", labels=camvid / "labels", names=names)


def _bundle(path: Path) -> Predict:
    predictor = Predictor(path, threads=1)
    return lambda rgb: predictor(rgb).labels


def _source_network(weights: Path) -> Predict:
    network, config = create_model("hrda_lite").eval(), resolve_preset("hrda_lite")
    network.load_state_dict(load_file(weights))

    def predict(rgb: UInt8Array) -> UInt8Array:
        image = torch.from_numpy(normalise(rgb, config.mean, config.std))[None]
        labels: UInt8Array = predict_logits(network, image, "tiles", grid=(1, 1))[0].argmax(0).to(torch.uint8).numpy()
        return labels

    return predict


def _score(predict: Predict, pairs: ImageLabelPairs, index: int) -> float:
    table, confusion = CAMVID11.table(), Confusion(len(CAMVID11.groups))
    image, labels = pairs.load(index)
    confusion.add(table[predict(image)], table[labels])
    return confusion.scores().mean_iou


def _row(pairs: ImageLabelPairs, index: int, before: Predict, after: Predict) -> UInt8Array:
    image, labels = pairs.load(index)
    colours = CITYSCAPES19.color_table()
    cells = [image, *(colours[ids] for ids in (labels, before(image), after(image)))]
    return np.hstack([cv2.resize(cell, (320, 240), interpolation=cv2.INTER_AREA) for cell in cells])


def _captions(width: int, texts: Sequence[str]) -> UInt8Array:
    strip = np.full((24, width, 3), 255, np.uint8)
    for place, text in enumerate(texts):
        origin = (place * width // len(texts) + 6, 17)
        cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "adaptation_pictures"))
