"""Carries out an adaptation on recordings without labels, as one function that can be resumed.

These are its stages; each leaves its result in the working folder:

    frames      the recordings are scanned; frames to adapt on and frames to judge on are chosen and written as PNG
    source      the labelled images: a pack, or a data set made into one
    instant     BatchNorm statistics of the frames give a candidate, which is also the control of every other one
    own_labels  that candidate labels frames of the recording, for training without a teacher or without a source
    train       training starts from that candidate, and ends with statistics measured like its
    judge       all candidates run on held-out frames and on held-out source images, without labels of the target
    ask         where it is wished, a person decides between the given model and the candidate
    adopt       the chosen bundle goes to its place, with the report; the given model stays if none is better
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrda_core.adaptation.recipe import adaptation_recipe
from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.adopt import adopt_bundle
from hrda_core.adaptation.stages.ask import Ask, Asked, ask_person
from hrda_core.adaptation.stages.frames import Frames, choose_frames
from hrda_core.adaptation.stages.instant import instant_bundle
from hrda_core.adaptation.stages.judge import Judged, judge_bundles
from hrda_core.adaptation.stages.own_labels import own_labels
from hrda_core.adaptation.stages.report import write_adaptation
from hrda_core.adaptation.stages.source import (
    ModelSource,
    Wanted,
    check_source,
    open_or_make_pack,
)
from hrda_core.adaptation.stages.train import adapted_bundle, smallest_size, train
from hrda_core.adaptation.verdict.track_record import read_track_record
from hrda_core.adaptation.verdict.verdict import Verdict
from hrda_core.adaptation.workspace import Workspace
from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.labelled import ImageLabelPairs, pair_folders
from hrda_core.data.packs.pack_folders import DEFAULT_PACK, find_source
from hrda_core.data.packs.source_pack import SourcePack, pack_space
from hrda_core.deploy.network import load_network
from hrda_core.deploy.samples import Samples
from hrda_core.errors import BundleError, HrdaError, RecipeError
from hrda_core.folder_locks import held_folder
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle
from hrda_core.label_matching import same_names, space_difference
from hrda_core.trainer.loop import Watch
from hrda_core.whole_files import check_place

__all__ = ["Count", "Outcome", "adapt"]

Count = Callable[[str, int, int], None]
"""Gets what is counted, done, in all."""


@dataclass(frozen=True)
class Outcome:
    """The result of an adaptation.

    Attributes:
        bundle: the chosen model, in its place.
        report: the HTML file inside it.
        choice: `given`, `instant` or `adapted`.
        chosen_by: `verdict`, `person`, or `option` for a choice of the user.
        judged: measures of all candidates and the verdict, whoever chose.
        asked: what a person said; None = nobody was asked.
        selection: number of frames by what became of them.
        stages: seconds by stage.
    """

    bundle: Path
    report: Path
    choice: str
    chosen_by: str
    judged: Judged
    asked: Asked | None
    selection: Mapping[str, int]
    stages: Mapping[str, float]

    @property
    def verdict(self) -> Verdict:
        """The verdict of the judgement."""
        return self.judged.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "bundle": str(self.bundle),
            "report": str(self.report),
            "choice": self.choice,
            "chosen_by": self.chosen_by,
            "person": None if self.asked is None else self.asked.to_dict(),
            "verdict": self.verdict.choice,
            "sure": read_track_record().sentence(self.verdict.choice),
            "reasons": list(self.verdict.reasons),
            "refusals": {name: list(sentences) for name, sentences in self.verdict.refusals.items()},
            "labels_agree": self.judged.labels_agree,
            "measures": self.judged.judgement.summary(),
            "selection": dict(self.selection),
            "stages": dict(self.stages),
        }


def adapt(request: Request, watch: Watch | None = None, count: Count | None = None, ask: Ask | None = None) -> Outcome:
    """Carry out the adaptation, or continue where an earlier call with the same request stopped.

    Args:
        watch: progress and stop requests of the training.
        count: progress of the other stages.
        ask: puts questions to a person; needed where the request says so.

    Raises:
        HrdaError: an input cannot be used, see the stages, or another process works in the working folder.
        StoppedError: `watch` asked to stop.
    """
    watch, count = watch or Watch(), count or (lambda what, done, total: None)
    given = Bundle.open(request.model)
    load_network(given)  # a model without weights is refused before anything is read
    check_place(request.out, MANIFEST_NAME, error=BundleError)
    labelled = _labelled(request, given)
    request = replace(request, source=_find_source(request, given, watch.say))
    wanted = Wanted(given.label_space, request.label_space)
    check_source(request.source or "", wanted, request.max_megapixels)
    with held_folder(request.work_folder, f"adapting in '{request.work_folder}'", error=RecipeError):
        return _adapt(request, given, labelled, watch, count, ask)


def _adapt(
    request: Request, given: Bundle, labelled: ImageLabelPairs | None, watch: Watch, count: Count, ask: Ask | None
) -> Outcome:
    work = Workspace.open(request.work_folder, request.identity(given), watch.say)
    frames = _frames(request, work, count)
    source = _source(request, given, work, count)
    bundles, run = {"given": given}, None
    with work.stage("instant", "BatchNorm statistics of the recording"):
        bundles["instant"] = instant_bundle(request, given, frames, work.path("instant"), work.say)
    if request.effort.iterations:
        own = _own_labels(request, bundles["instant"], source, frames, work, count)
        run = _train(request, bundles["instant"], source, own, frames, work, watch)
        source = source or own
        bundles["adapted"] = adapted_bundle(request, given, bundles["instant"], run, frames, work.path("adapted"))
    with work.stage("judge", f"{', '.join(bundles)} on {len(frames.held_out)} frames that were held out"):
        known = None if source is None else source.held_out
        judged = judge_bundles(bundles, run, frames, known, labelled, work.folder, request.runtime.threads, count)
    asked = _ask(request, bundles, judged, frames, work, ask, count) if request.ask else None
    choice, chosen_by = _choose(request, judged, asked)
    pack = None if source is None else source.pack
    with work.stage("adopt", f"{_WORDS[choice]} '{request.out}'"):
        report = write_adaptation(request, bundles, choice, chosen_by, judged, asked, pack, frames, run, work)
        facts = _facts(request, choice, chosen_by, judged, asked, pack, given)
        samples = Samples.of(frames.held_out, "They are frames of the recording that the model was chosen on.")
        bundle = adopt_bundle(bundles[choice], request.out, facts, report, samples)
    counts, stages = frames.counts, dict(work.stages)
    return Outcome(bundle.path, bundle.file(report.name), choice, chosen_by, judged, asked, counts, stages)


_WORDS = {
    "given": "the given model is kept: a copy goes to",
    "instant": "the instantly adapted model goes to",
    "adapted": "the adapted model goes to",
}


def _labelled(request: Request, given: Bundle) -> ImageLabelPairs | None:
    """Labelled images of the target; a wrong folder or label shall not wait for the judging to be found."""
    if request.eval_images is None or request.eval_labels is None:
        return None
    pairs = pair_folders(request.eval_images, request.eval_labels, max_megapixels=request.max_megapixels)
    return check_labels(pairs, given.label_space, scored=True).pairs


def _find_source(request: Request, given: Bundle, say: Callable[[str], None]) -> str:
    """What `--source` means; without one the pack that comes with the package, for a model that has its classes."""
    found = find_source(DEFAULT_PACK if request.source is None else request.source)
    if request.source is None and request.label_space is None:
        space = pack_space(Path(found.spec))
        if space is not None and not same_names(space, given.label_space):
            say(
                f"no labelled images: unlike the model, the pack '{DEFAULT_PACK}' "
                f"{space_difference(space, given.label_space)}; give a --source of the model's "
                f"{len(given.label_space)} classes, or --label_space FILE that leads to them"
            )
            return ""
    if found.remark:
        say(found.remark)
    return found.spec


def _frames(request: Request, work: Workspace, count: Count) -> Frames:
    try:
        with work.stage("frames", f"choosing from {', '.join(bag.name for bag in request.bag)}"):
            return choose_frames(
                request.bag,
                request.topic,
                work.path("frames"),
                request.selection,
                work.say,
                count,
                value_range=request.value_range,
                areas=request.areas,
                max_megapixels=request.max_megapixels,
                workers=request.readers,
            )
    except HrdaError:
        work.discard_if_empty()
        raise


def _source(request: Request, given: Bundle, work: Workspace, count: Count) -> ModelSource | None:
    """Labelled images; None where nobody gave any."""
    if not request.source:
        return None
    with work.stage("source", request.source):
        source = open_or_make_pack(
            request.source,
            work.path("source"),
            Wanted(given.label_space, request.label_space),
            seed=request.seed,
            say=work.say,
            progress=lambda done, total: count("source images", done, total),
            command=request.command,
            max_megapixels=request.max_megapixels,
        )
        for line in filter(None, (source.pack.describe(), source.remark)):
            work.say(line)
        return source


def _own_labels(
    request: Request, start: Bundle, source: ModelSource | None, frames: Frames, work: Workspace, count: Count
) -> ModelSource | None:
    """The frames with labels of the model itself; None where a teacher labels them, and others are at hand."""
    if source is not None and request.labelled_by == "teacher":
        return None
    with work.stage("own_labels", f"{start.name} labels frames of the recording"):
        return own_labels(
            start,
            frames.adapt,
            work.path("own_labels"),
            request.runtime,
            lambda done, total: count("frames labelled", done, total),
        )


def _train(
    request: Request,
    start: Bundle,
    source: ModelSource | None,
    own: ModelSource | None,
    frames: Frames,
    work: Workspace,
    watch: Watch,
) -> Path:
    run, effort = work.path("run"), request.effort
    recipe = adaptation_recipe(
        start,
        [part.folder for part in (source, own) if part is not None],
        frames.adapt.folder,
        smallest_size(frames.adapt, start.scale),
        effort,
        name=request.out.name,
        labels=request.labelled_by,
        mic=request.with_mic,
        imagenet=request.imagenet,
        runtime=request.runtime,
        seed=request.seed,
        source_is_pseudo=source is None,
        max_megapixels=request.max_megapixels,
    )
    with work.stage("train", f"{recipe.iterations} steps, crops of {recipe.crop.height} x {recipe.crop.width}"):
        train(recipe, run, watch)
    return run


def _ask(
    request: Request,
    bundles: Mapping[str, Bundle],
    judged: Judged,
    frames: Frames,
    work: Workspace,
    ask: Ask | None,
    count: Count,
) -> Asked | None:
    if ask is None:
        raise RecipeError("a person is to be asked (--ask), and there is nobody who asks: give `ask`")
    with work.stage("ask", "a person decides between the given model and the candidate"):
        asked = ask_person(request, bundles, judged.verdict.choice, frames, work.path("ask"), ask, count)
        work.say("the candidate is the given network, so there is nothing to ask" if asked is None else asked.sentence)
        return asked


def _choose(request: Request, judged: Judged, asked: Asked | None) -> tuple[str, str]:
    """The chosen model, and who chose it. A person who does not decide leaves it to the verdict."""
    if request.choose != "verdict":
        return request.choose, "option"
    if asked is not None and asked.choice:
        return asked.choice, "person"
    return judged.verdict.choice, "verdict"


def _facts(
    request: Request,
    choice: str,
    chosen_by: str,
    judged: Judged,
    asked: Asked | None,
    pack: SourcePack | None,
    given: Bundle,
) -> dict[str, Any]:
    """For the manifest of the chosen bundle."""
    return {
        "choice": choice,
        "chosen_by": chosen_by,
        "person": "not asked" if asked is None else asked.to_dict(),
        "verdict": judged.verdict.choice,
        "reasons": list(judged.verdict.reasons),
        "given": given.name,
        "recordings": [bag.name for bag in request.bag],
        "source": "none" if pack is None else pack.describe(),
        "effort": request.effort.name,
        "seed": request.seed,
        "command": request.command,
    }
