"""The model card of a bundle: its manifest in words, written anew whenever a score is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CARD_NAME", "model_card"]

CARD_NAME = "MODEL_CARD.md"


def model_card(manifest: Mapping[str, Any]) -> str:
    """Return Markdown text; every figure comes from the manifest, and each score names the command that gave it."""
    provenance: Mapping[str, Any] = manifest.get("provenance", {})
    lines = [
        f"# {manifest['name']}",
        "",
        f"Network preset `{manifest['preset']}`, {len(manifest['label_space']['classes'])} classes "
        f"({manifest['label_space']['name']}), window plans: {', '.join(manifest['graphs'])} "
        f"(default {manifest['default_plan']}).",
        "",
        "## Training",
        "",
    ]
    lines += [
        f"- {key.replace('_', ' ')}: {provenance[key]}" for key in _TRAINING_KEYS if provenance.get(key, "") != ""
    ]
    lines += ["", "## Scores", ""]
    scores: Mapping[str, Any] = provenance.get("scores", {})
    if not scores:
        lines.append("None recorded yet: `hrda evaluate --record NAME` adds them.")
    for name, score in scores.items():
        lines += _score_section(name, score)
    agreement = manifest.get("parity_with_pytorch", {})
    lines += ["", "## Export", ""]
    lines += [
        f"- {plan}: {100 * entry['labels']:.2f} % of pixels equal to PyTorch, "
        f"confidence within {entry['confidence']}/255"
        for plan, entry in agreement.items()
    ]
    lines += ["", "## Limits", "", str(provenance.get("limits", "Not stated.")), ""]
    return "\n".join(lines)


_TRAINING_KEYS = (
    "recipe",
    "method",
    "source_data",
    "source_licence",
    "target_data",
    "target_licence",
    "encoder_weights",
    "started_from",
    "exported_network",
    "logit_adjustment",
    "iterations",
    "seed",
    "deviations",
    "selection",
    "licence",
)


def _score_section(name: str, score: Mapping[str, Any]) -> list[str]:
    classes: Mapping[str, float | None] = score["iou"]
    cells = [(key, "-" if value is None else f"{100 * value:.1f}") for key, value in classes.items()]
    return [
        f"**{name}**: mIoU {100 * score['mean_iou']:.1f} % over {len(classes)} {score['groups']} groups, "
        f"{score['images']} images, window plan {score['plan']}, {score['backend']}",
        "",
        f"`{score['command']}`",
        "",
        "| " + " | ".join(key for key, _ in cells) + " |",
        "|" + "---|" * len(cells),
        "| " + " | ".join(value for _, value in cells) + " |",
        "",
    ]
