"""How often the verdict of `hrda adapt` is right: pairs of a given model and a candidate on drives with labels.

    OMP_NUM_THREADS=1 python benchmarks/verdict.py            # resumable; a quarter of an hour of one core

Labels are seen by this bench alone. For each pair they say better, worse, or no difference beyond the spread (block
bootstrap over time of the mIoU), and `decide` says adopted or not. Rules may be fitted to the half `fit`
(`--half fit` shows it); the half `report` shares no base network, training or frame with it. The figures go to
benchmarks/results/verdict.json, and those of `report` to the file that ships with the package
(hrda_core/adaptation/verdict/track_record.json), from which reports say how sure the verdict is.

Each model runs once on each frame; all else is computed from its masks, which are kept. It needs the data that lies
beside developers' clones. Models and drives are in benchmarks/verdict_models.py.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from verdict_models import FIT, MAIN, PACK, REPORT, Drive, Model, Zoo, drives, read, source_part
from verdict_predictions import Kept, Runner, Session, UInt8Array, stacked

from hrda_core.adaptation.verdict.judgement import GIVEN, CandidateMeasures, Judgement, expect
from hrda_core.adaptation.verdict.measures import joint_classes, seen_below, sureness
from hrda_core.adaptation.verdict.track_record import TrackRecord, rules_hash, write_track_record
from hrda_core.adaptation.verdict.verdict import decide, label_verdicts
from hrda_core.bench.record import ROOT, write_record
from hrda_core.data.image_files import read_labels
from hrda_core.inference import Prediction
from hrda_core.labels import CAMVID11, CITYSCAPES19, ClassGroups
from hrda_core.metrics import Confusion
from hrda_core.resizing import resize_image, resize_map
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import file_sha256

VERSION = 2
"""Another one makes all predictions anew."""

CANDIDATE = "candidate"


@dataclass(frozen=True)
class Pair:
    """A case of the bench, with what labels and the verdict say of it."""

    half: str
    drive: str
    given: str
    candidate: str
    kind: str
    difference: float
    low: float
    high: float
    labels: str
    adopted: bool
    reasons: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """The row of the table that it counts in."""
        return f"{'adopted' if self.adopted else 'kept'}_{'equal' if self.labels == 'undecided' else self.labels}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "verdict")
    parser.add_argument("--half", choices=(FIT, REPORT, "both"), default="both", help="one half writes no record")
    parser.add_argument("--pairs", action="store_true", help="print every pair")
    options = parser.parse_args()
    torch.set_num_threads(1)
    halves = (FIT, REPORT) if options.half == "both" else (options.half,)
    folder = options.cache / _fingerprint()
    for half in halves:
        predict(folder, half)
    pairs = [pair for half in halves for pair in compare(folder, half)]
    if options.pairs:
        for pair in pairs:
            points = f"{100 * pair.difference:+5.1f} [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
            print(
                f"{pair.drive:18} {pair.given} -> {pair.candidate}: {points} {pair.outcome} {'; '.join(pair.reasons)}"
            )
    print(table(pairs))
    if options.half != "both":
        return 0
    counts = {half: Counter(pair.outcome for pair in pairs if pair.half == half) for half in halves}
    names = ("adopted_better", "adopted_equal", "adopted_worse", "kept_better")
    reported = {name: counts[REPORT][name] for name in names}
    write_track_record(TrackRecord(rules=rules_hash(), cases=sum(counts[REPORT].values()), **reported))
    rows = [{**vars(pair), "reasons": list(pair.reasons)} for pair in pairs]
    models = {name: file_sha256(ROOT / "models" / name / "model.safetensors") for name in MAIN.values()}
    split = {half: [drive.name for drive in drives() if drive.half == half] for half in halves}
    settings = {"rules": rules_hash(), "models": models, "drives": split, "main": MAIN, "threads": 1}
    figures = {"counts": {half: dict(found) for half, found in counts.items()}, "pairs": rows}
    print(f"wrote {write_record('verdict', figures=figures, settings=settings)}")
    return 0


def _fingerprint() -> str:
    """Other base networks or another source make other models of all."""
    files = [ROOT / "models" / name / "model.safetensors" for name in MAIN.values()] + [PACK / "pack.yaml"]
    return hashlib.sha256("".join([str(VERSION), *map(file_sha256, files)]).encode()).hexdigest()[:12]


# Predictions.


def predict(folder: Path, half: str) -> None:
    """Run every model of a half on every frame that it is for, once."""
    runner, zoo = Runner(), Zoo(folder / "weights", half)
    for model in tqdm(zoo.models(), desc=f"models of '{half}'", mininterval=10):
        todo = [
            drive
            for drive in (*zoo.drives, None)
            if (drive is None or model.drive in ("", drive.name)) and not _file(folder, half, drive, model).exists()
        ]
        if not todo:
            continue
        session = runner.open(model.make())
        for drive in todo:
            images = _source_images() if drive is None else [read(path) for path in drive.judged]
            rows = [_views(session, rgb, alone=drive is None) for rgb in images]
            stacked(rows).write(_file(folder, half, drive, model))


def _file(folder: Path, half: str, drive: Drive | None, model: Model) -> Path:
    """None = source images."""
    return folder / half / _plain("source" if drive is None else drive.name) / f"{_plain(model.name)}.npz"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")


@lru_cache(1)
def _source_images() -> list[UInt8Array]:
    return [read(path) for path in source_part(train=False)[0][::2]]


def _views(session: Session, rgb: UInt8Array, alone: bool) -> dict[str, Any]:
    """A frame as the verdict sees it, mirrored and smaller too; source images alone."""
    found, scalars, gram = session.all(rgb)
    height, width = rgb.shape[:2]
    mirrored = smaller = found.labels[:0]
    if not alone:
        mirrored = session(np.ascontiguousarray(rgb[:, ::-1])).labels[:, ::-1]
        small = session(resize_image(rgb, round(0.75 * height), round(0.75 * width), "area")).labels
        smaller = resize_map(small, height, width)
    return {
        "labels": found.labels,
        "confidence": found.confidence,
        "mirrored": mirrored,
        "smaller": smaller,
        "scalars": scalars,
        "gram": gram,
    }


# Pairs.


def compare(folder: Path, half: str) -> list[Pair]:
    """Let labels and the verdict judge all pairs of a half."""
    zoo, found = Zoo(folder / "weights", half), []
    for drive in zoo.drives:
        models = {model.name: model for model in zoo.models() if model.drive in ("", drive.name)}
        measures = {
            name: measure(
                Kept.load(_file(folder, half, drive, model)), Kept.load(_file(folder, half, None, model)), drive
            )
            for name, model in tqdm(models.items(), desc=f"'{drive.name}'", mininterval=10)
        }
        for given, candidate, kind in tqdm(list(pairs_of(models, half, drive)), desc="pairs", mininterval=10):
            found.append(_judged(half, drive, given, candidate, kind, measures))
    return found


def pairs_of(models: Mapping[str, Model], half: str, drive: Drive) -> Iterator[tuple[str, str, str]]:
    """Yield given model, candidate and kind, in both directions."""
    main, instant = MAIN[half], f"instant ({drive.name})"
    found = [(main, name, model.kind) for name, model in models.items() if name != main]
    found += [(instant, name, "another training") for name in ("other", "labelled")]
    found += [(instant, name, model.kind) for name, model in models.items() if model.kind == "own labels"]
    found.append((f"instant of other ({drive.name})", "other", "instant"))
    for one, two, kind in found:
        yield one, two, kind
        yield two, one, kind


def measure(kept: Kept, source: Kept, drive: Drive) -> CandidateMeasures:
    """Compute from kept masks what `hrda_core.adaptation.verdict.judgement.judge` measures."""
    classes, found = len(CITYSCAPES19), CandidateMeasures()
    joint = np.zeros((classes, classes), np.int64)
    for labels, confidence, mirrored, smaller in zip(
        kept.labels, kept.confidence, kept.mirrored, kept.smaller, strict=True
    ):
        found.confidence.append(float(confidence.mean()) / 255)
        found.flip.append(float((mirrored == labels).mean()))
        found.scale.append(float((smaller == labels).mean()))
        joint += joint_classes(labels, mirrored, classes) + joint_classes(labels, smaller, classes)
        found.counts.append(sureness(Prediction(labels, confidence), classes).tolist())
        found.changed.append(0.0)  # only reports read it
    found.joint = joint.tolist()
    for mask, path in zip(kept.labels, drive.labels, strict=True):
        found.labelled.append(_overlaps(mask, resize_map(read_labels(path), *mask.shape), drive.groups))
    table, count = CAMVID11.table(), len(CAMVID11.groups)
    seen = np.zeros((count, classes, 8), np.int64)
    for mask, confidence, truth in zip(source.labels, source.confidence, _source_labels(), strict=True):
        found.source.append(_overlaps(mask, truth, CAMVID11))
        seen += seen_below(Prediction(mask, confidence), table[truth], classes, count)
    expect(found, seen, CAMVID11)
    return found


@lru_cache(1)
def _source_labels() -> list[UInt8Array]:
    sizes = [rgb.shape[:2] for rgb in _source_images()]
    paths = source_part(train=False)[1][::2]
    return [resize_map(read_labels(path), *size) for path, size in zip(paths, sizes, strict=True)]


def _overlaps(mask: UInt8Array, truth: UInt8Array, groups: ClassGroups) -> list[list[int]]:
    confusion, table = Confusion(len(groups.groups)), groups.table()
    confusion.add(table[mask], table[truth])
    counts = confusion.counts
    rows = counts.diagonal(), counts[:, : len(groups.groups)].sum(axis=0), counts.sum(axis=1)
    return [row.tolist() for row in rows]


def _judged(
    half: str, drive: Drive, given: str, candidate: str, kind: str, measures: Mapping[str, CandidateMeasures]
) -> Pair:
    candidates = {GIVEN: measures[given], CANDIDATE: measures[candidate]}
    judgement = Judgement(candidates, len(drive.judged), CAMVID11.names, CITYSCAPES19.classes)
    verdict, difference = decide(judgement), label_verdicts(judgement)[CANDIDATE]
    return Pair(
        half,
        drive.name,
        given,
        candidate,
        kind,
        difference.value,
        difference.low,
        difference.high,
        difference.verdict,
        verdict.choice == CANDIDATE,
        verdict.refusals.get(CANDIDATE, ()),
    )


def table(pairs: list[Pair]) -> str:
    """Return the table of the page, by half and kind of candidate."""
    lines = [
        "| half | kind | pairs | adopted, better | adopted, no difference | adopted, worse | better, not adopted | "
        "kept, no difference | kept, worse |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = ("adopted_better", "adopted_equal", "adopted_worse", "kept_better", "kept_equal", "kept_worse")
    for half in sorted({pair.half for pair in pairs}):
        mine = [pair for pair in pairs if pair.half == half]
        for kind in (*sorted({pair.kind for pair in mine}), "all"):
            counts = Counter(pair.outcome for pair in mine if kind in (pair.kind, "all"))
            cells = [half, kind, str(sum(counts.values())), *(str(counts[name]) for name in names)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "verdict"))
