"""`hrda import CHECKPOINT --out BUNDLE`: make a model bundle of an official or other foreign checkpoint.

hrda import iter_40000.pth --out models/hrda_gta2cs                        # DAFormer, HRDA and MIC files, the student
hrda import iter_40000.pth --which teacher --out models/hrda_teacher
hrda import daformer.pth --weights-only daformer.safetensors               # no bundle, the weights under our names
hrda import --convert-trusted iter_40000.pth --out iter_40000.safetensors  # files with more than tensors, in the open
"""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrda_core.errors import BundleError, CheckpointError, RecipeError, require
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.whole_files import check_place, write_json, write_whole

from .arguments import parse

if TYPE_CHECKING:
    from hrda_core.interop import Checkpoint, Guess, LoadReport
    from hrda_core.labels import LabelSpace
    from hrda_core.models import HRDA, Segmenter

__all__ = ["main"]

_LICENCE = (
    "not stated in the file; the weights keep the licence of those who published them, and many were trained on data "
    "for research only (Cityscapes, GTA5, SYNTHIA, ACDC; often CC BY-NC or narrower): checking that is up to you"
)
_LIMITS = "Imported weights: nothing is known here of their quality. Score them with `hrda evaluate` before use."


@dataclass(frozen=True)
class _Imported:
    model: HRDA | Segmenter
    network: Guess
    report: LoadReport
    sha256: str
    classes: tuple[str, ...]


def main(argv: list[str]) -> int:
    """Parse, load, write. Returns the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda import", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?", default=None, help=".pth, .pt or .safetensors file")
    parser.add_argument("--out", type=Path, default=None, help="bundle folder; a bundle there is replaced")
    parser.add_argument("--weights-only", type=Path, default=None, help="write this .safetensors file, no bundle")
    parser.add_argument(
        "--preset", type=str, default="", help="network ('hrda models'); default: guessed from the file"
    )
    parser.add_argument(
        "--which", choices=("student", "teacher"), default="student", help="network of a UDA checkpoint"
    )
    parser.add_argument("--allow-random-backbone", action="store_true", help="accept a file without its encoder")
    parser.add_argument("--sample", type=Path, default=None, help="image for the parity check; default: a made-up one")
    parser.add_argument("--plan", type=str, default="", help="default window plan; default: tiles, or whole")
    parser.add_argument(
        "--long_side", type=int, default=2048, help="larger images are shrunk to this first, pixels; 0 = never"
    )
    parser.add_argument("--json", type=Path, default=None, help="write what was loaded here")
    parser.add_argument(
        "--convert-trusted", type=Path, default=None, help="only rewrite this .pth as safetensors --out"
    )
    options = parse(parser, argv)
    if options.convert_trusted is not None:
        return _convert(options.convert_trusted, options.out)
    _check_options(options)
    imported = _load(options)
    if options.weights_only is not None:
        _write_weights(imported, options.weights_only, options.checkpoint.name)
    else:
        _write_bundle(imported, options)
    if options.json is not None:
        write_json(options.json, _facts(imported, options.checkpoint.name))
    return 0


def _convert(source: Path, out: Path | None) -> int:
    from hrda_core.interop import convert_trusted

    if out is None:
        raise RecipeError("--convert-trusted needs --out FILE.safetensors")
    done = convert_trusted(source, out)
    replaced = f"; replaced by inert stand-ins: {', '.join(done.stand_ins)}" if done.stand_ins else ""
    print(f"{done.tensors} tensors written{replaced}\nweights: {out}\nnext: hrda import {out} --out BUNDLE")
    return 0


def _check_options(options: Any) -> None:
    """All that can go wrong before a gigabyte is read."""
    if options.checkpoint is None:
        raise RecipeError("name the checkpoint: hrda import CHECKPOINT --out BUNDLE")
    if (options.out is None) == (options.weights_only is None):
        raise RecipeError("give either --out BUNDLE or --weights-only FILE.safetensors")
    folder, file = options.out, options.weights_only
    if file is not None and (file.suffix != ".safetensors" or file.exists()):
        reason = "exists" if file.exists() else "does not end in .safetensors"
        raise CheckpointError(f"--weights-only '{file}' {reason}; choose another name")
    if folder is not None:
        check_place(folder, MANIFEST_NAME, error=BundleError)


def _load(options: Any) -> _Imported:
    from hrda_core.inference.bundle import file_record
    from hrda_core.interop import load_mmseg, read_checkpoint
    from hrda_core.models import create_model

    if options.checkpoint.is_file():
        print(f"reading {options.checkpoint} ({options.checkpoint.stat().st_size / 2**20:.0f} MiB)", flush=True)
    checkpoint = read_checkpoint(options.checkpoint)
    network = _network(checkpoint, options.preset, options.which)
    changed = f" with {dict(network.overrides)}" if network.overrides else ""
    print(f"network: {network.preset}{changed}, {network.num_classes} classes", flush=True)
    model = create_model(network.preset, network.num_classes, **network.overrides)
    report = load_mmseg(model, checkpoint, options.which, allow_random_backbone=options.allow_random_backbone)
    print(report, flush=True)
    sha256 = str(file_record(options.checkpoint)["sha256"])
    return _Imported(model.eval(), network, report, sha256, checkpoint.classes)


def _network(checkpoint: Checkpoint, preset: str, which: str) -> Guess:
    """The network that the user named, else the one that fits the file; either way with the file's class count."""
    from hrda_core.interop import Guess, guess_network, take_network
    from hrda_core.interop.guess import count_classes
    from hrda_core.models import resolve_preset

    tensors, _, _ = take_network(checkpoint, which)
    if not preset:
        return guess_network(tensors, checkpoint.name)
    resolve_preset(preset)  # a name that does not exist is a mistake of its own
    try:
        guess = guess_network(tensors, checkpoint.name)
    except CheckpointError:
        return Guess(preset, count_classes(tensors) or 19)
    return guess if guess.preset == preset else Guess(preset, guess.num_classes)


def _write_weights(imported: _Imported, file: Path, source: str) -> None:
    from safetensors.torch import save

    facts = {key: json.dumps(value) for key, value in _facts(imported, source).items()}
    tensors = {name: value.contiguous() for name, value in imported.model.state_dict().items()}
    write_whole(file, save(tensors, {"format": "pt", **facts, "licence": _LICENCE}))
    print(f"weights: {file}")


def _write_bundle(imported: _Imported, options: Any) -> None:
    from hrda_core.data.datasets.labelled import read_image
    from hrda_core.deploy.export import ExportSpec, export_bundle

    network, model = imported.network, imported.model
    spec = ExportSpec(
        name=options.out.name,
        preset=network.preset,
        overrides=dict(network.overrides),
        long_side=options.long_side,
        provenance=_provenance(imported, options.checkpoint.name),
        label_space=_label_space(imported.classes, network.num_classes),
        default_plan=options.plan,
    )
    sample = _made_up_image() if options.sample is None else read_image(options.sample)
    for name, agreement in export_bundle(model, spec, options.out, sample, say=print).items():
        print(f"{name}: {100 * agreement.labels:.2f} % of pixels equal to PyTorch")
    print(f"licence: {_LICENCE}\nbundle: {options.out}")


def _facts(imported: _Imported, source: str) -> dict[str, Any]:
    report, network = imported.report, imported.network
    return {
        "checkpoint": source,
        "sha256": imported.sha256,
        "network": report.network,
        "preset": network.preset,
        "num_classes": network.num_classes,
        "overrides": dict(network.overrides),
        "used": len(report.used),
        "ignored": {reason: len(names) for reason, names in report.ignored.items()},
        "kept": len(report.kept),
        "random": len(report.random),
    }


def _provenance(imported: _Imported, source: str) -> dict[str, Any]:
    return {
        "started_from": f"{imported.report}, sha256 {imported.sha256}",
        "imported_from": _facts(imported, source),
        "licence": _LICENCE,
        "limits": _LIMITS,
    }


def _label_space(names: tuple[str, ...], count: int) -> LabelSpace:
    """Cityscapes for 19 classes, unless the file records other names; made-up colours for all others."""
    from hrda_core.labels import CITYSCAPES19, LabelSpace

    recorded = names if len(set(names)) == len(names) == count else ()
    if count == len(CITYSCAPES19) and recorded in ((), CITYSCAPES19.classes):
        return CITYSCAPES19
    classes = recorded or tuple(f"class {index}" for index in range(count))
    hues = [colorsys.hsv_to_rgb(0.618 * index % 1, 0.7, 0.9) for index in range(count)]
    palette = tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in hues)
    return LabelSpace("imported", classes, palette)


def _made_up_image() -> np.ndarray:
    """Coarse colours under fine noise, uint8 (384, 512, 3): the statistics of a picture, roughly."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 200, (12, 16, 3)), np.ones((32, 32, 1)))
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)
