"""Makes tables and pictures of docs/results/adaptation.md from the result files of benchmarks/results.

python benchmarks/adaptation/adaptation.py table
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adaptation_tasks import TASKS

__all__ = ["draw_bars", "markdown"]

DAY, DUSK = "CamVid day-val", "CamVid dusk, last 20"
COLOURS = ("#e69f00", "#0072b2", "#009e73")
UNLABELLED = {DUSK: ("fence",)}
"""Groups without a labelled pixel. They stay out of the mean: it would else fall by a tenth for one predicted pixel."""

THIN = ("pole", "traffic sign", "rider", "person")
CONTROLS = (
    "source",
    "source_photometric",
    "source_bn_train",
    "source_photometric_bn_train",
    "source_adabn",
    "source_photometric_adabn",
    "source_decoder_adabn",
    "source_photometric_decoder_adabn",
    "source_bn_train_adabn",
    "source_photometric_bn_train_adabn",
    "source_equal_time",
)
TITLES = {
    "start": "the start",
    "source": "source only",
    "source_photometric": "source only, photometric augmentation",
    "source_adabn": "source only, then AdaBN",
    "source_photometric_adabn": "photometric, then AdaBN",
    "source_decoder_adabn": "source only, then AdaBN of the decoder",
    "source_photometric_decoder_adabn": "photometric, then AdaBN of the decoder",
    "source_bn_train": "source only, encoder BN in train mode",
    "source_bn_train_adabn": "encoder BN in train mode, then AdaBN",
    "source_photometric_bn_train": "photometric, encoder BN in train mode",
    "source_photometric_bn_train_adabn": "photometric, encoder BN in train mode, then AdaBN",
    "source_equal_time": "source only, 3.5 times the iterations",
    "dg": "domain generalization",
    "daformer": "DAFormer",
    "hrda": "**HRDA**",
    "hrda_bn_train": "HRDA, encoder BN in train mode",
    "hrda_mic": "HRDA + MIC",
    "hrda_photometric": "HRDA, photometric source",
    "hrda_large": "HRDA, large crops",
    "daformer_large": "DAFormer, large images, crops of the same memory",
    "target": "target labels (upper bound)",
    "no_rcs": "HRDA without RCS",
    "no_fd": "HRDA without FD",
    "no_warmup": "HRDA without warm-up",
    "no_attention": "HRDA, fixed attention 0.5",
    "no_detail_loss": "HRDA without detail loss",
}

Run = Mapping[str, Any]


def markdown(results: Sequence[Run]) -> str:
    """Return one table for each task, and what may be claimed."""
    tasks = list(dict.fromkeys(run["task"] for run in results))
    tables = {True: _long_task, False: _task}
    return "\n\n".join(
        tables[TASKS[task].long](task, [run for run in results if run["task"] == task]) for task in tasks
    )


def scores(runs: Iterable[Run], arm: str, network: str, name: str, norm: str = "trained") -> list[float]:
    """Return the mIoU in per cent of every seed, over the groups that are labelled.

    Args:
        norm: BatchNorm statistics of the network: `trained`, `decoder` or `all`, as `adaptation_run.py` calls them.
    """
    return [
        100 * float(np.mean([value or 0.0 for key, value in row["iou"].items() if key not in UNLABELLED.get(name, ())]))
        for run in runs
        if run["arm"] == arm
        for row in run["scores"]
        if (row["network"], row["name"], row.get("norm", "trained")) == (network, name, norm)
    ]


def _task(task: str, runs: Sequence[Run]) -> str:
    arms = [arm for arm in TITLES if any(run["arm"] == arm for run in runs)]
    lines = [
        f"**{task}**",
        "",
        "| | seeds | day | dusk | day, teacher | dusk, teacher | thin classes, day / dusk | step, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        cells = [_mean_spread(scores(runs, arm, *column)) for column in _COLUMNS]
        thin = " / ".join(_thin(runs, arm, name) for name in (DAY, DUSK))
        own = [run for run in runs if run["arm"] == arm]
        steps = [run["step_s"] for run in own if run["step_s"] is not None]
        step = f"{np.median(steps):.2f}" if steps else "-"
        lines.append(f"| {TITLES[arm]} | {len(own)} | {' | '.join(cells)} | {thin} | {step} |")
    return "\n".join([*lines, "", *_claims(runs, arms)])


_COLUMNS = (("student", DAY), ("student", DUSK), ("teacher", DAY), ("teacher", DUSK))


def _claims(runs: Sequence[Run], arms: Sequence[str]) -> list[str]:
    """For each adapting arm and domain: whether its mean beats the best control by more than the spread of both."""
    lines = []
    for name in (DAY, DUSK):
        found = {arm: scores(runs, arm, "student", name) for arm in arms if arm in CONTROLS}
        best = max(found, key=lambda arm: float(np.mean(found[arm])))
        for network in ("student", "teacher"):
            verdicts = [
                _verdict(runs, arm, network, name, found[best]) for arm in ("daformer", "hrda", "hrda_mic", "dg")
            ]
            if any(verdicts):
                control = f"{TITLES[best]} ({_mean_spread(found[best])})"
                lines.append(f"- {name}, {network}, against {control}: {'; '.join(v for v in verdicts if v)}.")
    return lines


def _verdict(runs: Sequence[Run], arm: str, network: str, name: str, control: Sequence[float]) -> str:
    own = scores(runs, arm, network, name)
    if not own or len(own) < 2 or len(control) < 2:
        return ""
    return f"{TITLES[arm].strip('*')} {_compared(own, control)}"


def _mean_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _thin(runs: Sequence[Run], arm: str, name: str, network: str = "student", norm: str = "trained") -> str:
    values = [
        100 * np.mean([row["iou"].get(label) or 0.0 for label in THIN])
        for run in runs
        if run["arm"] == arm
        for row in run["scores"]
        if (row["network"], row["name"], row.get("norm", "trained")) == (network, name, norm)
    ]
    return f"{np.mean(values):.1f}" if values else "-"


_LONG_CONTROLS = ("start", "source", "source_photometric")
_LONG_ADAPTING = ("daformer", "hrda", "hrda_mic", "dg", "hrda_large", "daformer_large")
_PAIRS = (("hrda", "daformer"), ("hrda_mic", "hrda"), ("hrda_large", "daformer_large"))
_NETWORKS = {
    ("student", "trained"): "",
    ("student", "decoder"): ", then AdaBN of the decoder",
    ("student", "all"): ", then AdaBN",
    ("teacher", "trained"): ", teacher",
    ("teacher", "decoder"): ", teacher, then AdaBN of the decoder",
}
"""Network and its BatchNorm statistics -> what the tables say behind the arm."""


def _long_task(task: str, runs: Sequence[Run]) -> str:
    """Rows: every arm's networks, as trained and with statistics of the target. Columns: the places."""
    starts, places = {run["start"] for run in runs}, TASKS[task].places
    if len(starts) > 1:
        raise SystemExit(f"the runs of {task} started from {len(starts)} different weights; one table needs one start")
    arms = [arm for arm in TITLES if any(run["arm"] == arm for run in runs)]
    thin = [place for place, name in places.items() if name in (DAY, DUSK)]
    lines = [
        f"**{task}**, from weights {next(iter(starts))[:12]}",
        "",
        f"| | seeds | {' | '.join(places)} | thin classes, {' / '.join(thin)} | step, s |",
        "|---" * (len(places) + 4) + "|",
    ]
    for arm in arms:
        own = [run for run in runs if run["arm"] == arm]
        steps = [run["step_s"] for run in own if run["step_s"] is not None]
        for (network, norm), words in _NETWORKS.items():
            found = [scores(runs, arm, network, name, norm) for name in places.values()]
            if any(found):
                first = (network, norm) == ("student", "trained")
                cells = [f"{TITLES[arm]}{words}", str(len(own)), *map(_mean_spread, found)]
                cells += [" / ".join(_thin(runs, arm, places[place], network, norm) for place in thin)]
                cells += [f"{np.median(steps):.2f}" if steps and first else ""]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_long_claims(runs, places)])


def _long_claims(runs: Sequence[Run], places: Mapping[str, str]) -> list[str]:
    """What may be said of each place: adapting arms against the best control, and methods against each other."""
    lines = []
    for place, name in places.items():
        controls = {(arm, *key): scores(runs, arm, key[0], name, key[1]) for arm in _LONG_CONTROLS for key in _NETWORKS}
        # The start has no seeds: it is the same network in all runs.
        known = {key: values for key, values in controls.items() if len(values) > 1 or (values and key[0] == "start")}
        if not known:
            continue
        best = max(known, key=lambda key: float(np.mean(known[key])))
        control = f"{TITLES[best[0]]}{_NETWORKS[best[1], best[2]]} ({_mean_spread(known[best])})"
        for key, words in _NETWORKS.items():
            said = [
                f"{TITLES[arm].strip('*')} {_compared(scores(runs, arm, key[0], name, key[1]), known[best])}"
                for arm in _LONG_ADAPTING
                if len(scores(runs, arm, key[0], name, key[1])) > 1
            ]
            if said:
                lines.append(f"- {place}, {key[0] if not words else words[2:]}, against {control}: {'; '.join(said)}.")
        for one, other in _PAIRS:
            for key, words in _NETWORKS.items():
                ours, theirs = (scores(runs, arm, key[0], name, key[1]) for arm in (one, other))
                if min(len(ours), len(theirs)) > 1:
                    titles = f"{TITLES[one].strip('*')} against {TITLES[other].strip('*')}"
                    lines.append(
                        f"- {place}, {key[0] if not words else words[2:]}, {titles}: {_compared(ours, theirs)}."
                    )
    return lines


def _compared(own: Sequence[float], control: Sequence[float]) -> str:
    """The difference of the means, the larger spread of both, and what may be claimed."""
    spread = max(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in (own, control))
    gain = float(np.mean(own) - np.mean(control))
    word = "better" if gain > spread else "worse" if gain < -spread else "no difference to be claimed"
    return f"{gain:+.1f}, spread {spread:.1f}: {word}"


def draw_bars(results: Sequence[Run], path: Path) -> None:
    """Draw the mean mIoU of every arm by domain, with a dot for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(run["task"] for run in results))
    figure, axes = plt.subplots(1, len(tasks), figsize=(6.5 * len(tasks), 5), sharex=True, squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        runs = [run for run in results if run["task"] == task]
        arms = [arm for arm in TITLES if any(run["arm"] == arm for run in runs)][::-1]
        names = list(TASKS[task].places.values())
        width = 0.76 / len(names)
        for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            offset = ((len(names) - 1) / 2 - number) * (width + 0.02)
            for place, arm in enumerate(arms):
                values = scores(runs, arm, "student", name)
                label = name if place == 0 else None
                axis.barh(place + offset, np.mean(values), width, color=colour, alpha=0.75, label=label)
                axis.plot(values, [place + offset] * len(values), "k.", markersize=4)
        axis.set_yticks(range(len(arms)), [TITLES[arm].strip("*") for arm in arms], fontsize=8)
        axis.set_title(task)
        axis.set_xlabel("mIoU of the place's groups, per cent (student; dots: seeds)", fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
