"""The stage `judge` of an adaptation: measures all candidates on held-out frames and source images, and decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.verdict.judgement import GIVEN, Judgement, judge
from hrda_core.adaptation.verdict.predictors import as_candidates
from hrda_core.adaptation.verdict.verdict import Verdict, agreement_with_labels, decide
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.image_files import read_image
from hrda_core.inference.bundle import Bundle
from hrda_core.labels import coarse_groups
from hrda_core.whole_files import read_json, write_json

__all__ = ["Judged", "judge_bundles"]

JUDGEMENT_NAME = "judgement.json"


@dataclass(frozen=True)
class Judged:
    """The result of the judging stage.

    Attributes:
        judgement: measures of all candidates.
        verdict: what follows from them, without labels of the target.
        labels_agree: whether labels of the target say the same; None without labels.
    """

    judgement: Judgement
    verdict: Verdict
    labels_agree: bool | None


def judge_bundles(
    bundles: Mapping[str, Bundle],
    run: Path | None,
    frames: Frames,
    source: ImageLabelPairs | None,
    labelled: ImageLabelPairs | None,
    folder: Path,
    threads: int,
    count: Callable[[str, int, int], None],
) -> Judged:
    """Measure the candidates, or read what an earlier call measured, and decide.

    Args:
        bundles: `given`, `instant` and perhaps `adapted`.
        run: training run of the adapted one.
        source: held-out source images; None = forgetting cannot be measured.
        labelled: labelled images of the target; None = none. They do not enter the verdict.
        folder: where the measures are kept.
        threads: CPU threads of inference; 0 = all cores but one.
        count: called with what is counted, the number done, and the number of all.

    Raises:
        DataError: a frame or label cannot be read.
    """
    path, space = folder / _file_name(labelled), bundles[GIVEN].label_space
    if path.is_file():
        judgement = Judgement.from_dict(read_json(path))
    else:
        later = partial(read_image_later, max_megapixels=frames.held_out.max_megapixels)
        held_out = [frames.held_out.folder / file for file in frames.held_out.files]
        judgement = judge(
            as_candidates(bundles, run, threads),
            [later(path) for path in held_out],
            [(later(first), later(second)) for first, second in frames.pairs],
            source,
            labelled,
            space,
            coarse_groups(space),
            progress=lambda done, total: count("images judged", done, total),
        )
        write_json(path, judgement.to_dict())
    agrees: Any = None if labelled is None else agreement_with_labels(judgement)
    return Judged(judgement, decide(judgement), agrees)


def _file_name(labelled: ImageLabelPairs | None) -> str:
    """Measures against other labels are others."""
    if labelled is None:
        return JUDGEMENT_NAME
    files = "\n".join(str(path.resolve()) for path in (*labelled.images, *labelled.labels))
    return f"labelled_{hashlib.sha256(files.encode()).hexdigest()[:12]}_{JUDGEMENT_NAME}"


def read_image_later(path: Path, max_megapixels: int) -> Callable[[], Any]:
    """Return a function that reads the image when it is called: the frames of a drive do not fit into memory."""
    return lambda: read_image(path, max_megapixels=max_megapixels)
