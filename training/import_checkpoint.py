"""`hrda import CHECKPOINT --out BUNDLE`: make a model bundle of an official or other foreign checkpoint.

hrda import iter_40000.pth --out models/hrda_gta2cs                        # DAFormer, HRDA and MIC files, the student
hrda import iter_40000.pth --which teacher --out models/hrda_teacher
hrda import daformer.pth --weights-only daformer.safetensors               # no bundle, the weights under our names
hrda import --convert-trusted iter_40000.pth --out iter_40000.safetensors  # files that hold more than tensors
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hrda_core.errors import BundleError, CheckpointError, LabelSpaceError, RecipeError
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.label_files import read_label_space
from hrda_core.whole_files import check_place, write_json, write_whole

from .arguments import pair, parse_request

if TYPE_CHECKING:
    from hrda_core.interop import Checkpoint, Guess, LoadReport
    from hrda_core.labels import LabelSpace
    from hrda_core.models import HRDA, Segmenter

__all__ = ["ImportRequest", "main"]

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


@dataclass(frozen=True)
class ImportRequest:
    """The checkpoint to load, and what to make of it.

    Attributes:
        checkpoint: .pth, .pt or .safetensors file
        out: bundle folder; a bundle there is replaced
        weights_only: write this .safetensors file, no bundle
        preset: network ('hrda models'); default: guessed from the file
        which: network of a UDA checkpoint
        allow_random_backbone: accept a file without its encoder
        sample: image for the parity check; default: a synthetic one
        grid: rows x columns of detail tiles, for example 2x2; default: by the encoder
        plan: default window plan; default: tiles, or whole
        long_side: larger images are shrunk to this first, pixels; 0 = never
        label_space: label space file that names the network's classes, in the order of its outputs; default: the names
            in the checkpoint, or Cityscapes' for 19
        convert_trusted: only rewrite this .pth file as safetensors, to --out
    """

    checkpoint: Path | None = None
    out: Path | None = None
    weights_only: Path | None = None
    preset: str = ""
    which: Literal["student", "teacher"] = "student"
    allow_random_backbone: bool = False
    sample: Path | None = None
    grid: tuple[int, int] | None = None
    plan: str = ""
    long_side: int = 2048
    label_space: Path | None = None
    convert_trusted: Path | None = None

    def __post_init__(self) -> None:
        if self.convert_trusted is not None:
            if self.out is None:
                raise RecipeError("--convert-trusted needs --out FILE.safetensors")
            return
        if self.checkpoint is None:
            raise RecipeError("name the checkpoint: hrda import CHECKPOINT --out BUNDLE")
        if (self.out is None) == (self.weights_only is None):
            raise RecipeError("give either --out BUNDLE or --weights-only FILE.safetensors")
        if self.label_space is not None and self.out is None:
            raise RecipeError("--label_space names the classes of a bundle, weights alone have none; give --out BUNDLE")


def main(argv: list[str]) -> int:
    """Parse, load, write. Return the exit code."""
    request, json_file = parse_request(
        ImportRequest,
        argv,
        verb="import",
        about=__doc__,
        positional="checkpoint",
        read={"grid": pair("--grid", "2x2")},
    )
    if request.convert_trusted is not None and request.out is not None:
        return _convert(request.convert_trusted, request.out)
    checkpoint = request.checkpoint
    assert checkpoint is not None
    _check_places(request)
    imported = _load(checkpoint, request)
    if request.weights_only is not None:
        _write_weights(imported, request.weights_only, checkpoint.name)
    elif request.out is not None:
        _write_bundle(imported, request, request.out, checkpoint.name)
    if json_file is not None:
        write_json(json_file, _facts(imported, checkpoint.name))
    return 0


def _convert(source: Path, out: Path) -> int:
    from hrda_core.interop import convert_trusted

    done = convert_trusted(source, out)
    replaced = f"; replaced by inert stand-ins: {', '.join(done.stand_ins)}" if done.stand_ins else ""
    print(f"{done.tensors} tensors written{replaced}\nweights: {out}\nnext: hrda import {out} --out BUNDLE")
    return 0


def _check_places(request: ImportRequest) -> None:
    """All that can go wrong before a gigabyte is read."""
    file = request.weights_only
    if file is not None and (file.suffix != ".safetensors" or file.exists()):
        reason = "exists" if file.exists() else "does not end in .safetensors"
        raise CheckpointError(f"--weights-only '{file}' {reason}; choose another name")
    if request.out is not None:
        check_place(request.out, MANIFEST_NAME, error=BundleError)
    if request.label_space is not None:
        read_label_space(request.label_space)


def _load(path: Path, request: ImportRequest) -> _Imported:
    from hrda_core.inference.bundle import file_record
    from hrda_core.interop import load_mmseg, read_checkpoint
    from hrda_core.models import create_model

    if path.is_file():
        print(f"reading {path} ({path.stat().st_size / 2**20:.0f} MiB)", flush=True)
    checkpoint = read_checkpoint(path)
    network = _network(checkpoint, request.preset, request.which)
    changed = f" with {dict(network.overrides)}" if network.overrides else ""
    print(f"network: {network.preset}{changed}, {network.num_classes} classes", flush=True)
    model = create_model(network.preset, network.num_classes, **network.overrides)
    report = load_mmseg(model, checkpoint, request.which, allow_random_backbone=request.allow_random_backbone)
    print(report, flush=True)
    sha256 = str(file_record(path)["sha256"])
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


def _write_bundle(imported: _Imported, request: ImportRequest, out: Path, source: str) -> None:
    from hrda_core.data.image_files import read_image
    from hrda_core.deploy.export import ExportSpec, export_bundle
    from hrda_core.deploy.samples import Samples
    from hrda_core.input_scale import InputScale

    network, model = imported.network, imported.model
    spec = ExportSpec(
        name=out.name,
        preset=network.preset,
        overrides=dict(network.overrides),
        scale=InputScale(request.long_side),
        provenance=_provenance(imported, source),
        label_space=_label_space(request.label_space, imported.classes, network.num_classes),
        grid=request.grid,
        default_plan=request.plan,
    )
    sample = _made_up_image() if request.sample is None else read_image(request.sample)
    samples = None if request.sample is None else Samples((sample,), f"It is the file '{request.sample.name}'.")
    for name, agreement in export_bundle(model, spec, out, sample, samples=samples, say=print).items():
        print(f"{name}: {100 * agreement.labels:.2f} % of pixels equal to PyTorch")
    print(f"licence: {_LICENCE}\nbundle: {out}")


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


def _label_space(file: Path | None, recorded: tuple[str, ...], count: int) -> LabelSpace:
    """The classes that the user names, else those that the checkpoint records or its number of outputs suggests."""
    from hrda_core.labels import guessed_space

    if file is None:
        return guessed_space(count, recorded)
    space = read_label_space(file)[0]
    if len(space) != count:
        raise LabelSpaceError(
            f"label space file '{file}' has {len(space)} classes, but the network of the checkpoint gives {count}; "
            f"name each of its outputs, in their order"
        )
    return space


def _made_up_image() -> np.ndarray:
    """Coarse colours under fine noise, uint8 (384, 512, 3): the statistics of a picture, roughly."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 200, (12, 16, 3)), np.ones((32, 32, 1)))
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)
