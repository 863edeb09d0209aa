"""The report of an adaptation: gathers what the stages left for `hrda_core.report.adaptation_page`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.ask import Asked
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.stages.judge import Judged
from hrda_core.adaptation.verdict.judgement import GIVEN
from hrda_core.adaptation.workspace import Workspace
from hrda_core.data.image_files import read_image
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
    given = bundles[GIVEN]
    verdict = judged.verdict
    report = AdaptationReport(
        title=f"Adaptation of {given.name} to {', '.join(bag.name for bag in request.bag)}",
        command=request.command,
        model=f"{given.name}, manifest {file_record(given.file(MANIFEST_NAME))['sha256'][:12]}",
        out=str(request.out.resolve()),
        judgement=judged.judgement.summary(),
        verdict={
            "choice": choice,
            "verdict": verdict.choice,
            "chosen_by": chosen_by,
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
        settings={key: value for key, value in request.identity(given).items() if key != "model_files"},
        label_space=given.label_space,
    )
    return write_adaptation_report(work.path(REPORT_NAME), report)


def _most_changed(bundles: Mapping[str, Bundle], choice: str, judged: Judged, frames: Frames) -> list[ChangedFrame]:
    """Held-out frames on which the chosen model (else the last candidate) differs most from the given one."""
    compared = choice if choice != GIVEN else list(bundles)[-1]
    changed = judged.judgement.candidates[compared].changed
    chosen = np.argsort(changed, kind="stable")[::-1][:_MOST_CHANGED]
    predictors = {name: Predictor(bundle) for name, bundle in bundles.items()}
    begin = frames.selection["begin_ns"]
    found = []
    for index in chosen:
        file = frames.held_out.files[int(index)]
        rgb = read_image(frames.held_out.folder / file)
        labels = {name: predict(rgb).labels for name, predict in predictors.items()}
        found.append(ChangedFrame(_caption(file, begin), rgb, labels, float(changed[int(index)])))
    return found


def _caption(file: str, begin_ns: int) -> str:
    """Camera and second of a frame, from the name of its file: TOPIC_STAMP.png, or TOPIC_STAMP_NUMBER.png."""
    found = re.fullmatch(r"(.+?)_(\d{9,})(?:_\d+)?", Path(file).stem)
    if found is None:
        return file
    return f"/{found[1].replace('-', '/')}, {(int(found[2]) - begin_ns) / 1e9:.1f} s"


def _notes(request: Request, pack: SourcePack | None, run: Path | None) -> list[str]:
    """What was given up, and what departs from the paper."""
    notes: list[Any] = []
    if pack is None or pack.kind == "pseudo":
        notes.append(
            "No labelled source was given: forgetting was not measured, and limits on drift were stricter."
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
        "The verdict was made without labels of the target. It rests on what masks of other views tell about a frame, "
        "and on flicker: one of the two improved with accuracy on the drives that this was tried on. It is evidence, "
        "not proof."
    )
    return notes
