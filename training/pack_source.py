"""`hrda pack-source`: a compact, class-balanced excerpt of a labelled data set, for adaptation on a robot.

    hrda pack-source --source gta5:/data/gta5 --out packs/gta5
    hrda pack-source --source my_data --label_space my_space.yaml --licence "CC BY 4.0" --out packs/mine --images 100

Images with rare classes are chosen first, by the statistics of Rare Class Sampling; a part is held out for measuring.
The pack is a source of `hrda adapt`, and of a training recipe (its README.md says how).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrda_core.errors import RecipeError, require
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.whole_files import write_json

from .arguments import parse_request
from .progress import ProgressPrinter

if TYPE_CHECKING:
    from hrda_core.data.datasets.source_spec import LabelledSource
    from hrda_core.data.packs.source_pack import SourcePack

__all__ = ["PackRequest", "main"]


@dataclass(frozen=True)
class PackRequest:
    """The data to pack, and how much of it.

    Attributes:
        out: folder of the pack; a pack there is replaced
        source: LAYOUT:ROOT, with a layout of gta5, synthia, cityscapes, acdc, dark_zurich, bdd100k, mapillary, folders;
            or a folder of images/ and labels/
        images: number of images of the pack
        long_side: larger images are shrunk to this, pixels; 0 = never
        held_out: share held out for measuring, 0 to 0.5
        seed: decides between images of equal gain
        split: split of the data set; default: train of a layout, everything of a folder
        images_folder: folder of images, with --labels_folder, instead of --source
        labels_folder: label PNGs with the images' names
        image_suffix: of folders, end of the images' names, such as _leftImg8bit.png; default: every image
        label_suffix: what a label has in its place, such as _gtFine_labelIds.png; default: .png
        label_colors: the labels are pictures in the exact colours of the classes, not in their ids
        label_space: YAML file of your own classes and ids
        names: text file of the images to choose from, one on each line
        max_megapixels: pictures whose header states more million pixels are not decoded
        on_bad: stop = a pair that cannot be used is an error, skip = it is left out and counted
        held_out_names: text file of the images to hold out, instead of a share, for example those of other places
        quality: quality of the JPEGs, 1 to 100
        name: name of the data, for reports and model cards
        licence: licence of the data, for reports and model cards
        attribution: whom the licence says to name, in README.md and reports
        command: the command line, for the record
    """

    out: Path
    source: str = ""
    images: int = 200
    long_side: int = 1024
    held_out: float = 0.1
    seed: int = 0
    split: str | None = None
    images_folder: Path | None = None
    labels_folder: Path | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    label_colors: bool = False
    label_space: Path | None = None
    names: Path | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    on_bad: Literal["stop", "skip"] = "stop"
    held_out_names: Path | None = None
    quality: int = 95
    name: str = ""
    licence: str = ""
    attribution: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        check_limit(self.max_megapixels)
        if self.images < 1:
            raise RecipeError(f"--images is {self.images}; give 1 or more")
        if not 0 <= self.held_out <= 0.5:
            raise RecipeError(f"--held_out is {self.held_out}; give a share from 0 to 0.5")
        if self.long_side and self.long_side < 64:
            raise RecipeError(f"--long_side is {self.long_side}; give 64 or more pixels, or 0 to shrink nothing")
        if not 1 <= self.quality <= 100:
            raise RecipeError(f"--quality is {self.quality}; give 1 to 100")
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"--seed is {self.seed}; give 0 to {2**32 - 1}")
        both = self.images_folder is not None, self.labels_folder is not None
        if bool(self.source) == any(both) or (any(both) and not all(both)):
            raise RecipeError("give the data: --source SPEC, or --images_folder FOLDER and --labels_folder FOLDER")


def main(argv: list[str]) -> int:
    """Parse, choose, write, print the table. Return the exit code."""
    request, json = parse_request(PackRequest, argv, verb="pack-source", about=__doc__)
    begin = time.monotonic()
    pack = _pack(request)
    seconds = time.monotonic() - begin
    print(f"{pack.table()}\npack: {pack.path}, {seconds:.1f} s; rcs_min_pixels of this size: {pack.rcs_min_pixels}")
    if json:
        write_json(json, _result(pack, seconds))
    return 0


def _pack(request: PackRequest) -> SourcePack:
    require("torch", "train")
    from hrda_core.adaptation.stages.source import count_labels, pack_of
    from hrda_core.data.image_files import read_names
    from hrda_core.data.packs.writer import check_replaceable

    check_replaceable(request.out)
    hold = None if request.held_out_names is None else read_names(request.held_out_names)
    source = _source(request)
    with ProgressPrinter() as printer:
        if source.licence == "unknown":
            printer.say("no licence is recorded; say it with --licence TEXT")
        counter = printer.counter("label files counted")
        source, statistics = count_labels(source, printer.say, counter, on_bad=request.on_bad)
        if len(source.pairs) < request.images:
            printer.say(f"the data set has {len(source.pairs)} images only, fewer than the {request.images}")
        return pack_of(
            source,
            statistics,
            request.out,
            images=request.images,
            held_out=request.held_out,
            hold=hold,
            quality=request.quality,
            attribution=request.attribution,
            seed=request.seed,
            long_side=request.long_side,
            command=request.command,
            progress=printer.counter("images written"),
        )


def _source(request: PackRequest) -> LabelledSource:
    from hrda_core.data.datasets.folder_files import FolderFiles
    from hrda_core.data.datasets.source_spec import open_source
    from hrda_core.data.image_files import read_names

    source = open_source(
        request.source,
        split=request.split,
        images=request.images_folder,
        labels=request.labels_folder,
        label_space=request.label_space,
        names=None if request.names is None else read_names(request.names),
        on_bad=request.on_bad,
        files=FolderFiles(request.image_suffix, request.label_suffix, request.label_colors),
        name=request.name,
        licence=request.licence,
        max_megapixels=request.max_megapixels,
    )
    # An image that a list names twice would be trained on and held out.
    rows = sorted({image: row for row, image in enumerate(source.pairs.images)}.values())
    return replace(source, pairs=source.pairs.take(rows))


def _result(pack: SourcePack, seconds: float) -> dict[str, Any]:
    train, held_out = pack.totals("train"), pack.totals("held_out")
    return {
        "pack": str(pack.path),
        "name": pack.name,
        "licence": pack.licence,
        "images_source": pack.whole.images,
        "images_train": train.images,
        "images_held_out": held_out.images,
        "bytes": pack.bytes,
        "scale": pack.scale,
        "rcs_min_pixels": pack.rcs_min_pixels,
        "seconds": round(seconds, 2),
        "classes": [
            {
                "name": name,
                "pixel_share_source": float(pack.whole.shares()[number]),
                "pixel_share_pack": float((train + held_out).shares()[number]),
                "images_source": int(pack.whole.showing[number]),
                "images_train": int(train.showing[number]),
                "images_held_out": int(held_out.showing[number]),
            }
            for number, name in enumerate(pack.space.classes)
        ],
    }
