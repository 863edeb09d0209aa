"""Labelled images of an orchard: own classes, own ids in the label files, nothing of Cityscapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from hrda_core.labels import default_palette

CLASSES = ("soil", "leaf", "fruit", "crate", "picker", "sky", "tractor")
THINGS = ("crate", "picker", "tractor")
STEP = 10
"""The class n has the id STEP * (n + 1) in the label files; 0 is void."""


def write_orchard(folder: Path, classes: Sequence[str] = CLASSES, *, step: int = STEP, count: int = 3) -> Path:
    """Write folder/images, folder/labels and folder/space.yaml; return the last."""
    write_pictures(folder, classes, step=step, count=count)
    ids: dict[Any, str] = {step * (number + 1): name for number, name in enumerate(classes)} | {0: "ignore"}
    space = {"name": f"own{len(classes)}", "classes": list(classes), "ids": ids}
    things = [name for name in classes if name in THINGS]
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(space | ({"things": things} if things else {})))
    return file


def write_pictures(
    folder: Path, classes: Sequence[str] = CLASSES, *, split: str = "", step: int = STEP, count: int = 3
) -> None:
    """Write folder/images/split and folder/labels/split.

    A class is a flat colour in noise; every image shows as many classes as it has cells (48).
    """
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    colours = np.array(((0, 0, 0), *default_palette(len(classes))), np.float32)
    for index in range(count):
        cells = (np.arange(48) + 48 * index) % len(classes) + 1
        labels = np.kron(rng.permutation(cells).reshape(6, 8), np.ones((16, 16), np.int64))
        labels[-4:] = 0
        image = np.clip(colours[labels] + rng.normal(0, 8, (*labels.shape, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / split / f"{index}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / "labels" / split / f"{index}.png"), (step * labels).astype(np.uint8))


def orchard_recipe(folder: Path, overrides: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the values of a recipe for the orchard in a folder; its label space is in the source's file."""
    data = {
        "images": str(folder / "images"),
        "labels": str(folder / "labels"),
        "label_space": str(folder / "space.yaml"),
    }
    return {
        "name": "orchard",
        "method": "supervised",
        "source": {"name": "orchard", "rcs_min_pixels": 100, **data},
        "validation": [{"name": "orchard rows", "split": "", **data}],
        "model": {"preset": "hrda_lite", "overrides": overrides, "imagenet": False, "allow_random_backbone": True},
        "crop": {"height": 64, "width": 64},
        "iterations": 2,
        "runtime": {"threads": 1},
    } | changes
