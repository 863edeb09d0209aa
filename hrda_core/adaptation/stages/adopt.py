"""Writes the models that an adaptation chooses among as bundles, and puts the chosen one in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.data.image_files import UInt8Array
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.deploy.samples import Samples
from hrda_core.errors import BundleError
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, file_record, write_manifest
from hrda_core.inference.model_card import CARD_NAME, model_card
from hrda_core.models.class_bias import ClassBias
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.plain_files import copy_file
from hrda_core.whole_files import replaced_folder

__all__ = ["adopt_bundle", "export_candidate", "provenance", "silent"]


def export_candidate(
    network: HRDA | Segmenter,
    given: Bundle,
    folder: Path,
    sample: UInt8Array,
    *,
    name: str,
    overrides: Mapping[str, Any],
    provenance: Mapping[str, Any],
    bias: ClassBias,
    say: Callable[[str], None],
) -> Bundle:
    """Write a network as a bundle like the given one: same classes, input size and window plans.

    Args:
        overrides: overrides of the preset with which the network was built.
        provenance: values that differ from the given model's provenance.
        bias: what of the network's logits is adjustment, see `hrda_core.models.class_bias`.

    Raises:
        BundleError: an exported graph does not agree with PyTorch.
    """
    spec = ExportSpec.like(given, name, overrides, provenance, bias)
    export_bundle(network, spec, folder, sample, say=say)
    return Bundle.open(folder)


def adopt_bundle(
    chosen: Bundle, out: Path, adaptation: Mapping[str, Any], report: Path | None, samples: Samples
) -> Bundle:
    """Copy the chosen bundle to `out` with the report and the decision; an old bundle there is replaced whole.

    Args:
        adaptation: plain values for the manifest's `provenance.adaptation`.
        report: HTML file that goes into the bundle.
        samples: images that go with the bundle.

    Raises:
        BundleError: `out` holds something that is not a bundle, or cannot be written, or a file of the chosen bundle is
            another one than when it was opened.
    """
    with replaced_folder(out, MANIFEST_NAME, error=BundleError) as part:
        for name, record in chosen.manifest["files"].items():
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(chosen.file(name), target)
            if file_record(target)["sha256"] != record["sha256"]:
                raise BundleError(
                    f"model bundle '{chosen.path}': {name} was changed since the bundle was opened; start again when "
                    f"nothing writes there"
                )
        if report is not None:
            copy_file(report, part / "report.html")
        manifest = {key: value for key, value in chosen.manifest.items() if key not in ("format_version", "files")}
        manifest["provenance"] = {**manifest.get("provenance", {}), "adaptation": dict(adaptation)}
        (part / CARD_NAME).write_text(model_card(manifest), encoding="utf-8")
        write_manifest(part, manifest)
        samples.write(part)
    return Bundle.open(out)


def provenance(request: Request, given: Bundle, frames: Frames, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given model's provenance without its scores, with how it was trained on and what it is adapted to."""
    before = {
        key: value for key, value in given.manifest.get("provenance", {}).items() if key not in ("scores", "adaptation")
    }
    return {
        **before,
        **trained,
        "started_from": given.name,
        "target_data": f"{len(frames.adapt)} frames of {', '.join(bag.name for bag in request.bag)}: no labels",
        "target_licence": "as the recording",
        "seed": request.seed,
    }


def silent(text: str) -> None:
    """Ignore the lines of an export, since the export of a candidate is no news for the user."""
