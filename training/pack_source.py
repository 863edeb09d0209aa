"""`hrda pack-source`: a compact, class-balanced excerpt of a labelled data set, for adaptation on a robot.

    hrda pack-source --source gta5:/data/gta5 --out packs/gta5
    hrda pack-source --source my_data --label_space my_space.yaml --licence "CC BY 4.0" --out packs/mine --images 100

Images with rare classes are chosen first, by the statistics of Rare Class Sampling; a part is held out for measuring.
The pack is a source of `hrda adapt`, and of a training recipe (its README.md says how).
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from hrda_core.adaptation.stages.source import count_labels, pack_of
from hrda_core.data.datasets.layouts import layout_names
from hrda_core.data.datasets.source_spec import open_source
from hrda_core.data.image_files import read_names
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.data.packs.writer import check_replaceable
from hrda_core.errors import RecipeError, require
from hrda_core.whole_files import write_json

from .arguments import parse
from .progress import ProgressPrinter

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, choose, write, print the table. Returns the exit code."""
    options = parse(_parser(), argv)
    _check(options)
    begin = time.monotonic()
    check_replaceable(options.out)
    source = open_source(
        options.source,
        split=options.split,
        images=options.images_folder,
        labels=options.labels_folder,
        label_space=options.label_space,
        names=None if options.names is None else read_names(options.names),
        name=options.name,
        licence=options.licence,
    )
    with ProgressPrinter() as printer:
        if source.licence == "unknown":
            printer.say("no licence is recorded; say it with --licence TEXT")
        statistics = count_labels(source, printer.say, printer.counter("label files counted"))
        if len(source.pairs) < options.images:
            printer.say(f"the data set has {len(source.pairs)} images only, fewer than the {options.images}")
        pack = pack_of(
            source,
            statistics,
            options.out,
            images=options.images,
            held_out=options.held_out,
            seed=options.seed,
            long_side=options.long_side,
            command=shlex.join(["hrda", "pack-source", *argv]),
            progress=printer.counter("images written"),
        )
    seconds = time.monotonic() - begin
    print(f"{pack.table()}\npack: {pack.path}, {seconds:.1f} s; rcs_min_pixels of this size: {pack.rcs_min_pixels}")
    if options.json:
        write_json(options.json, _result(pack, seconds))
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda pack-source", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source",
        type=str,
        default="",
        help=f"LAYOUT:ROOT (layouts: {', '.join(layout_names())}), or a folder of images/ and labels/",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the pack; a pack there is replaced")
    parser.add_argument("--images", type=int, default=200, help="images of the pack")
    parser.add_argument("--long_side", type=int, default=1024, help="larger ones are shrunk to this, pixels; 0 = never")
    parser.add_argument("--held_out", type=float, default=0.1, help="share held out for measuring, 0 to 0.5")
    parser.add_argument("--seed", type=int, default=0, help="decides among equals")
    parser.add_argument("--split", type=str, default=None, help="default: train of a layout, everything of a folder")
    parser.add_argument("--images_folder", type=Path, default=None, help="instead of --source, with --labels_folder")
    parser.add_argument("--labels_folder", type=Path, default=None, help="label PNGs with the images' names")
    parser.add_argument("--label_space", type=Path, default=None, help="YAML of own classes and ids")
    parser.add_argument("--names", type=Path, default=None, help="text file of the images to choose from, one a line")
    parser.add_argument("--name", type=str, default="", help="of the data, for reports and model cards")
    parser.add_argument("--licence", type=str, default="", help="of the data, for reports and model cards")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    return parser


def _check(options: Any) -> None:
    if options.images < 1:
        raise RecipeError(f"--images is {options.images}; give 1 or more")
    if not 0 <= options.held_out <= 0.5:
        raise RecipeError(f"--held_out is {options.held_out}; give a share from 0 to 0.5")
    if options.long_side and options.long_side < 64:
        raise RecipeError(f"--long_side is {options.long_side}; give 64 or more pixels, or 0 to shrink nothing")
    if not 0 <= options.seed < 2**32:
        raise RecipeError(f"--seed is {options.seed}; give 0 to {2**32 - 1}")
    both = options.images_folder is not None, options.labels_folder is not None
    if bool(options.source) == any(both) or (any(both) and not all(both)):
        raise RecipeError("give the data: --source SPEC, or --images_folder FOLDER and --labels_folder FOLDER")


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
