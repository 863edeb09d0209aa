"""Makes tables and picture of docs/results/adaptation.md from benchmarks/results/adaptation.json.

python benchmarks/adaptation/adaptation.py table
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw_bars", "markdown"]

DAY, DUSK = "CamVid day-val", "CamVid dusk, last 20"
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
    return "\n\n".join(_task(task, [run for run in results if run["task"] == task]) for task in tasks)


def scores(runs: Iterable[Run], arm: str, network: str, name: str) -> list[float]:
    """Return the mIoU in per cent of every seed, over the groups that are labelled."""
    return [
        100 * float(np.mean([value or 0.0 for key, value in row["iou"].items() if key not in UNLABELLED.get(name, ())]))
        for run in runs
        if run["arm"] == arm
        for row in run["scores"]
        if (row["network"], row["name"]) == (network, name)
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
    gain, spread = float(np.mean(own) - np.mean(control)), float(max(np.std(own, ddof=1), np.std(control, ddof=1)))
    word = "better" if gain > spread else "worse" if gain < -spread else "no difference to be claimed"
    return f"{TITLES[arm].strip('*')} {gain:+.1f}, spread {spread:.1f}: {word}"


def _mean_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _thin(runs: Sequence[Run], arm: str, name: str) -> str:
    values = [
        100 * np.mean([row["iou"].get(label) or 0.0 for label in THIN])
        for run in runs
        if run["arm"] == arm
        for row in run["scores"]
        if (row["network"], row["name"]) == ("student", name)
    ]
    return f"{np.mean(values):.1f}" if values else "-"


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
        for offset, name, colour in ((0.2, DAY, "#e69f00"), (-0.2, DUSK, "#0072b2")):
            for place, arm in enumerate(arms):
                values = scores(runs, arm, "student", name)
                label = name if place == 0 else None
                axis.barh(place + offset, np.mean(values), 0.36, color=colour, alpha=0.75, label=label)
                axis.plot(values, [place + offset] * len(values), "k.", markersize=4)
        axis.set_yticks(range(len(arms)), [TITLES[arm].strip("*") for arm in arms], fontsize=8)
        axis.set_title(task)
        axis.set_xlabel("mIoU of the 11 CamVid groups, per cent (student; dots: seeds)", fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)
