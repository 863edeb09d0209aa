"""Writes source packs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrda_core.data.image_files import UInt8Array, encoded
from hrda_core.data.packs.format import (
    FIRST_LINE,
    FORMAT_VERSION,
    HELD_OUT,
    IMAGES,
    LABELS,
    MANIFEST,
    README,
    TRAIN,
    PackImage,
    is_pack,
    shown_from,
)
from hrda_core.errors import DataError, require
from hrda_core.labels import IGNORE_LABEL, LabelSpace
from hrda_core.resizing import resize_image, shrunk
from hrda_core.whole_files import file_sha256, replaced_folder, write_whole

__all__ = ["QUALITY", "PackWriter", "check_replaceable", "pack_writer"]

QUALITY = 95
"""Quality of the JPEGs where none is asked for: nothing of it is seen, and the packs of most data sets stay small."""

_OURS = {MANIFEST, README, IMAGES, LABELS, f"{TRAIN}.txt", f"{HELD_OUT}.txt"}


def check_replaceable(out: Path) -> None:
    """Refuse to write a pack where something else is.

    Raises:
        DataError: `out` exists and is neither empty nor a pack, or holds files that do not belong to a pack.
    """
    if not out.exists():
        return
    there = {entry.name for entry in out.iterdir()} if out.is_dir() else {out.name}
    if there and not is_pack(out):
        raise DataError(f"'{out}' exists and is not a source pack; choose another folder for the pack")
    if foreign := sorted(there - _OURS):
        raise DataError(f"the pack '{out}' would be replaced, but it also holds '{foreign[0]}'; move that away first")


@contextmanager
def pack_writer(
    out: Path,
    space: LabelSpace,
    *,
    long_side: int,
    quality: int = QUALITY,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[PackWriter]:
    """Yield the writer of a pack that replaces `out` if the block ends well.

    Args:
        out: where the pack goes.
        space: classes of the labels.
        long_side: larger images are shrunk to this, pixels; 0 = never.
        quality: quality of the JPEGs, 1 to 100.
        settings: what the pack is made of: an interrupted block with the same settings is continued; None = never.

    Raises:
        DataError: `out` must not be replaced (see `check_replaceable`), or cannot be written; an older pack stays.
    """
    check_replaceable(out)
    resume = settings is not None
    with replaced_folder(out, MANIFEST, about=settings, resume=resume, keep=resume) as folder:
        yield PackWriter(folder, space, long_side, quality)


class PackWriter:
    """Writes the files of an unfinished pack; see `pack_writer`.

    Attributes:
        folder: folder of the unfinished pack.
    """

    def __init__(self, folder: Path, space: LabelSpace, long_side: int, quality: int) -> None:
        self.folder, self._space, self._long_side, self._quality = folder, space, long_side, quality

    def add(self, name: str, part: str, rgb: UInt8Array, labels: UInt8Array) -> PackImage:
        """Write an image and its labels.

        Args:
            name: name of the files, unique in the pack.
            part: `"train"` or `"held_out"`.
            rgb: uint8 (H, W, 3).
            labels: uint8 (H, W), class ids of the label space or 255.

        Raises:
            DataError: an id is no class, or the files cannot be written.
        """
        native = labels.shape
        rgb, labels = _shrink(rgb, labels, self._long_side)
        histogram = np.bincount(labels.reshape(-1), minlength=256)
        if outside := [int(i) for i in np.flatnonzero(histogram[:IGNORE_LABEL]) if i >= len(self._space)]:
            raise DataError(
                f"the labels of '{name}' hold ids {outside[:5]}; expected classes of '{self._space.name}' "
                f"(0..{len(self._space) - 1}) or {IGNORE_LABEL}"
            )
        image_path = self.folder / IMAGES / f"{name}.jpg"
        label_path = self.folder / LABELS / f"{name}.png"
        write_whole(image_path, encoded(rgb, ".jpg", self._quality))
        write_whole(label_path, encoded(labels))
        return PackImage(
            name=name,
            part=part,
            size=(labels.shape[0], labels.shape[1]),
            native_size=(native[0], native[1]),
            pixels=tuple(int(count) for count in histogram[: len(self._space)]),
            ignored=int(histogram[IGNORE_LABEL]),
            image_bytes=image_path.stat().st_size,
            label_bytes=label_path.stat().st_size,
            image_sha256=file_sha256(image_path),
            label_sha256=file_sha256(label_path),
        )

    def finish(self, images: Sequence[PackImage], facts: Mapping[str, Any]) -> None:
        """Write lists, README and `pack.yaml`.

        Args:
            images: images of the pack, in its order.
            facts: entries of `pack.yaml`: kind, name, licence, origin, whole, notes, command.

        Raises:
            DataError: a file cannot be written.
        """
        scales = [image.size[1] / image.native_size[1] for image in images]
        areas = [image.size[0] * image.size[1] for image in images]
        manifest = {
            "format_version": FORMAT_VERSION,
            **facts,
            "label_space": self._space.to_dict(),
            "long_side": self._long_side,
            "quality": self._quality,
            "scale": round(float(np.median(scales)), 6),
            "rcs_min_pixels": shown_from(areas),
            "images": [image.to_dict() for image in images],
        }
        for part in (TRAIN, HELD_OUT):
            names = [f"{image.name}.jpg" for image in images if image.part == part]
            write_whole(self.folder / f"{part}.txt", "\n".join(names or ["# no image"]) + "\n")
        write_whole(self.folder / README, _readme(manifest))
        yaml = require("yaml", "train")
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(
            manifest, Dumper=dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
        )
        write_whole(self.folder / MANIFEST, f"{FIRST_LINE}\n{text}")


def _shrink(rgb: UInt8Array, labels: UInt8Array, long_side: int) -> tuple[UInt8Array, UInt8Array]:
    height, width = shrunk(labels.shape[0], labels.shape[1], long_side)
    if labels.shape == (height, width):
        return rgb, labels
    # The exact variant samples at pixel centres, as the area average does; the plain one shifts by half a pixel.
    labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return resize_image(rgb, height, width, "area"), labels


def _readme(manifest: Mapping[str, Any]) -> str:
    held_out = sum(image["part"] == HELD_OUT for image in manifest["images"])
    count, origin = len(manifest["images"]), manifest["origin"]
    kind = (
        "Labels are a model's own predictions where it was sure, and 255 (not labelled) elsewhere."
        if manifest["kind"] == "pseudo"
        else f"Labels are class ids of `{manifest['label_space']['name']}`; 255 = not labelled."
    )
    side = f"shrunk to at most {manifest['long_side']} pixels" if manifest["long_side"] else "of original size"
    facts = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in origin.items())
    notes = "".join(f"\n{note}\n" for note in manifest["notes"])
    return f"""# {manifest["name"]}

A source pack of hrda_ros: {count} images, {held_out} of them held out for measuring. {kind}

{facts}
- images: JPEG of quality {manifest["quality"]}, {side}; factor {manifest["scale"]:g}
- command: `{manifest["command"] or "none"}`
{notes}
**Licence of the images and labels:** {manifest["licence"]}. A pack is an excerpt: the terms of its origin hold for it.

`pack.yaml` lists every image with its sizes, class counts and sha256. As the source of a training recipe:

```yaml
source:
  name: {json.dumps(manifest["name"], ensure_ascii=False)}
  images: PACK/images
  labels: PACK/labels
  names: PACK/train.txt
  licence: {json.dumps(manifest["licence"], ensure_ascii=False)}
  rcs_min_pixels: {manifest["rcs_min_pixels"]}
```
"""
