"""A folder like a fresh clone, with small made-up things in the place of what the pages call the reader's own.

docs/README.md lists the names. `../shared/data` lies beside developers' clones; the small recipes look there.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from made_bag import write_made_bag
from orchard import write_pictures
from two_domains import CLASSES, draw_street

LINKED = ("benchmarks", "config", "demo", "docs", "hrda_core", "hrda_ros", "launch", "setup.py", "training")
CITYSCAPES_IDS = {"road": 7, "building": 11, "pole": 17, "vegetation": 21, "sky": 23, "person": 24, "car": 26}
SMALL, LARGE = (120, 160), (360, 480)

Street = tuple[np.ndarray, np.ndarray]


def write_clone(folder: Path, repository: Path) -> Path:
    """Write the folder and what lies beside it; returns the folder. Its environment is the one that runs the tests."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(repository / name)
    for name in ("models", "packs"):
        (folder / name).mkdir()
    (folder / "packs" / "streets").symlink_to(repository / "packs" / "streets")
    for bundle in ("hrda_lite", "hrda_lite_source"):
        (folder / "models" / bundle).symlink_to(repository / "models" / bundle)
    shutil.copytree(repository / "models" / "hrda_lite", folder / "models" / "mine", ignore=lambda *_: {"engines"})
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "tools").mkdir()
    (folder / "tools" / "in_venv").write_text("#!/bin/sh\nexit 0\n")
    (folder / "tools" / "in_venv").chmod(0o755)
    rng = np.random.default_rng(0)
    _write_own(folder, [draw_street(rng, SMALL, target=True) for _ in range(16)])
    _write_downloads(folder / "data", [draw_street(rng, SMALL, target=False) for _ in range(10)])
    splits = repository / "config" / "splits"
    names = {
        data: (splits / f"{listed}_adapt.txt").read_text(encoding="utf-8").split()
        for data, listed in (("camvid", "camvid"), ("real_mix", "real_mix"))
    }
    names["boston_rear"] = ["000001.jpg"]
    _write_shared(folder.parent / "shared" / "data", names, [draw_street(rng, LARGE, target=False) for _ in range(4)])
    return folder


def _write_own(folder: Path, streets: list[Street]) -> None:
    (folder / "drives").mkdir()
    write_made_bag(folder / "drives" / "night", (image for image, _ in streets), hz=1.0, jpeg=True)
    for number, (image, labels) in enumerate(streets):
        _picture(folder / "frames" / f"{number:03d}.jpg", image)
        _picture(folder / "labels" / f"{number:03d}.png", labels)
    _picture(folder / "street.jpg", streets[0][0])
    for split in ("train", "val"):
        write_pictures(folder / "orchard", split=split)


def _write_downloads(data: Path, streets: list[Street]) -> None:
    """GTA5 and Cityscapes' validation split, with their file names and ids."""
    ids = np.zeros(256, np.uint8)
    for name, label in CLASSES.items():
        ids[label] = CITYSCAPES_IDS[name]
    for number, (image, labels) in enumerate(streets, start=1):
        _picture(data / "gta" / "images" / f"{number:05d}.png", image)
        _picture(data / "gta" / "labels" / f"{number:05d}.png", ids[labels])
        stem, cities = f"ulm_{number:06d}_000019", data / "cityscapes"
        _picture(cities / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png", image)
        _picture(cities / "gtFine" / "val" / "ulm" / f"{stem}_gtFine_labelIds.png", ids[labels])


def _write_shared(data: Path, names: dict[str, list[str]], streets: list[Street]) -> None:
    for number, (image, labels) in enumerate(streets):
        _picture(data / "synth_streets" / "images" / "train" / f"{number}.png", image)
        _picture(data / "synth_streets" / "labels" / "train" / f"{number}.png", labels)
    for path in [data / place / "images" / name for place, listed in names.items() for name in listed]:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(data / "synth_streets" / "images" / "train" / "0.png", path.with_suffix(".png"))


def _picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
