"""Counts and audits labelled images before they are used, and leaves out bad pairs where that is wanted.

Training, validation, `hrda evaluate` and source packs all come through here, so that bad labels are found before the
first step and never after the last one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hrda_core.data.datasets.audit import BadPair, ClassDraws, LabelAudit, audit, bad_pairs
from hrda_core.data.datasets.class_statistics import ClassStatistics, class_statistics, statistics_key
from hrda_core.data.datasets.labelled import ImageLabelPairs, OnBad
from hrda_core.errors import DataError
from hrda_core.labels import LabelSpace
from hrda_core.whole_files import cache_folder, write_whole

__all__ = ["CheckedLabels", "check_labels"]

Say = Callable[[str], None]
Count = Callable[[int, int], None]
Draws = Callable[[ImageLabelPairs, ClassStatistics], ClassDraws | None]

_NAMED = 3  # files that a sentence names; all stand in a list


@dataclass(frozen=True, eq=False)
class _CountedLabels:
    """A data set that is counted, without the pairs that are left out.

    Attributes:
        pairs: the pairs that remain.
        statistics: their statistics.
        left_out: sentences on those that do not.
        listed: where the bad pairs that remain are listed; empty = there is none.
    """

    pairs: ImageLabelPairs
    statistics: ClassStatistics
    left_out: tuple[str, ...] = ()
    listed: str = ""


@dataclass(frozen=True, eq=False)
class CheckedLabels:
    """A data set that passed its audit."""

    pairs: ImageLabelPairs
    statistics: ClassStatistics
    audit: LabelAudit


def check_labels(
    pairs: ImageLabelPairs,
    space: LabelSpace,
    *,
    on_bad: OnBad = "stop",
    scored: bool = False,
    draws: Draws | None = None,
    say: Say = lambda text: None,
    count: Count = lambda done, total: None,
) -> CheckedLabels:
    """Count, audit, and refuse what cannot be used.

    Args:
        pairs: the data set.
        space: the classes of the labels.
        on_bad: `"stop"` = a bad pair is an error, `"skip"` = it is left out and counted.
        scored: the labels are only scored on, see `audit`.
        draws: returns how usable labels are drawn, for the table.
        say: takes a line of text: the table of the audit.
        count: called with label files counted and in all.

    Raises:
        DataError: the audit stops on the labels; all bad files are listed in a file that the sentence names.
    """
    counted = _counted(pairs, space, on_bad, say, count)
    checked = audit(counted.pairs, counted.statistics, space, scored=scored, left_out=counted.left_out)
    if counted.pairs.remark:
        checked = replace(checked, warnings=(*checked.warnings, counted.pairs.remark))
    drawn = draws(counted.pairs, counted.statistics) if draws is not None and not checked.stop else None
    checked = checked if drawn is None else checked.with_draws(drawn)
    say(checked.table())
    if checked.stop:
        listed = f"; all bad files are listed in '{counted.listed}'" if counted.listed else ""
        raise DataError(f"{checked.stop[0]}{listed}" + "".join(f"; {sentence}" for sentence in counted.left_out[:1]))
    return CheckedLabels(counted.pairs, counted.statistics, checked)


def _counted(pairs: ImageLabelPairs, space: LabelSpace, on_bad: OnBad, say: Say, count: Count) -> _CountedLabels:
    """Count classes, and leave out the bad pairs with `on_bad` `"skip"`, and those that are known from publications."""
    statistics = class_statistics(pairs, len(space), progress=count)
    if statistics.warning:
        say(statistics.warning)
    bad = bad_pairs(pairs, statistics, space)
    known = [pair for pair in bad if pair.unequal and pair.image in pairs.known_unequal]
    skipped = known if on_bad == "stop" else bad
    gone = {pair.row for pair in skipped}
    rest = [pair for pair in bad if pair.row not in gone]
    left_out = (pairs.left_out,) if pairs.left_out else ()
    counted = _CountedLabels(pairs, statistics, left_out, _write_list(pairs, rest, space) if rest else "")
    if not gone:
        return counted
    kept = [row for row in range(len(pairs)) if row not in gone]
    return replace(
        counted,
        pairs=pairs.take(kept),
        statistics=statistics.take(kept),
        left_out=(*left_out, *_left_out(pairs, known, [pair for pair in skipped if pair not in known], space)),
    )


def _left_out(
    pairs: ImageLabelPairs, known: Sequence[BadPair], others: Sequence[BadPair], space: LabelSpace
) -> list[str]:
    sentences = []
    if known:
        sentences.append(f"{len(known)} of {len(pairs)} pairs, of unequal size as published")
    if others:
        first = "; ".join(f"'{pair.image}': {pair.reason}" for pair in others[:_NAMED])
        where = _write_list(pairs, others, space) if len(others) > _NAMED else ""
        sentences.append(
            f"{len(others)} of {len(pairs)} pairs that cannot be used (on_bad: skip): {first}"
            + (f"; all are listed in '{where}'" if where else "")
        )
    return sentences


def _write_list(pairs: ImageLabelPairs, bad: Sequence[BadPair], space: LabelSpace) -> str:
    """Write all bad pairs as the `exclude` of a recipe; returns the path, or nothing where it cannot be written."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", pairs.name).strip("_")[-60:]
    path = cache_folder() / "bad_files" / f"{name}-{statistics_key(pairs, len(space))[:8]}.yaml"
    names = pairs.names
    lines = [f"  - {json.dumps(names[pair.row], ensure_ascii=False)}  # {pair.reason}" for pair in bad]
    head = f"# {len(bad)} of {len(pairs)} pairs of {pairs.name} cannot be used. As part of a recipe's data set:"
    try:
        write_whole(path, "\n".join([head, "exclude:", *lines, ""]))
    except DataError:
        return ""
    return str(path)
