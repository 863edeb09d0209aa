"""The report of an adaptation: gathers what the stages left for `hrda_core.report.adaptation_page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.ask import Asked
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.stages.judge import Judged
from hrda_core.adaptation.verdict.judgement import GIVEN
from hrda_core.adaptation.verdict.track_record import read_track_record
from hrda_core.adaptation.workspace import Workspace
from hrda_core.data.frame_selection.selected_frames import HELD_OUT
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.inference import Predictor
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, file_record
from hrda_core.report.adaptation_page import AdaptationReport, ChangedFrame, write_adaptation_report
from hrda_core.trainer.loading import load_recipe

__all__ = ["write_adaptation"]

REPORT_NAME = "report.html"

_MOST_CHANGED = 4


def write_adaptation(
    request: Request,
    bundles: Mapping[str, Bundle],
    choice: str,
    chosen_by: str,
    judged: Judged,
    asked: Asked | None,
    pack: SourcePack | None,
    frames: Frames,
    run: Path | None,
    work: Workspace,
) -> Path:
    """Write `report.html` into the working folder and return its path.

    Raises:
        DataError: it cannot be written.
        MissingPackageError: jinja2 or matplotlib is not installed.
    """
    given, space = bundles[GIVEN], bundles[GIVEN].label_space
    manifest = file_record(given.file(MANIFEST_NAME))["sha256"]
    verdict = judged.verdict
    report = AdaptationReport(
        title=f"Adaptation of {given.name} to {', '.join(bag.name for bag in request.bag)}",
        command=request.command,
        model=f"{given.name}, manifest {manifest[:12]}, {len(space)} classes of '{space.name}'",
        out=str(request.out.resolve()),
        judgement=judged.judgement.summary(),
        verdict={
            "choice": choice,
            "verdict": verdict.choice,
            "chosen_by": chosen_by,
            "sure": read_track_record().sentence(verdict.choice),
            "person": None if asked is None else asked.result,
            "reasons": list(verdict.reasons),
            "refusals": {name: list(sentences) for name, sentences in verdict.refusals.items()},
            "labels_agree": judged.labels_agree,
        },
        selection=frames.selection,
        selection_picture=None if frames.picture is None else frames.picture.read_bytes(),
        changed=_most_changed(bundles, choice, judged, frames),
        run=run,
        notes=_notes(request, pack, run),
        stages=list(work.stages.items()),
        settings={
            key: value for key, value in request.identity(given).items() if key not in ("model_files", "classes")
        },
        label_space=space,
    )
    return write_adaptation_report(work.path(REPORT_NAME), report)


def _most_changed(bundles: Mapping[str, Bundle], choice: str, judged: Judged, frames: Frames) -> list[ChangedFrame]:
    """Held-out frames on which the chosen model (else the last candidate) differs most from the given one."""
    compared = choice if choice != GIVEN else list(bundles)[-1]
    changed = judged.judgement.candidates[compared].changed
    chosen = np.argsort(changed, kind="stable")[::-1][:_MOST_CHANGED]
    predictors = {name: Predictor(bundle) for name, bundle in bundles.items()}
    captions = {row["file"]: f"{row['topic']}, {row['at_s']:.1f} s" for row in frames.selection["rows"]}
    found = []
    for index in chosen:
        file = frames.held_out.files[int(index)]
        rgb = frames.held_out.load(int(index))
        labels = {name: predict(rgb).labels for name, predict in predictors.items()}
        found.append(ChangedFrame(captions.get(f"{HELD_OUT}/{file}", file), rgb, labels, float(changed[int(index)])))
    return found


def _notes(request: Request, pack: SourcePack | None, run: Path | None) -> list[str]:
    """What was given up, and what departs from the paper."""
    notes: list[Any] = []
    if pack is None or pack.kind == "pseudo":
        notes.append(
            "No labelled source was given: mIoU could not be estimated and forgetting was not measured, so the "
            "verdict could not be sure."
            + (
                " The model learnt from its own sure predictions: mistakes of which it is sure are learnt again, and "
                "classes of which it is never sure are forgotten. A pack of hrda pack-source takes both away."
                if pack is not None
                else ""
            )
        )
    if pack is not None:
        notes += [str(note) for note in pack.manifest.get("notes") or ()]
    if run is not None:
        notes += load_recipe(run).paper
    notes.append(
        "The verdict was made without labels of the target. It rests on how often each model is right on labelled "
        "source images where it gives a class with a certain confidence. It is evidence, not proof: 'hrda compare' "
        "decides."
    )
    return notes
