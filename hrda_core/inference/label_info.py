"""The description of the class ids that accompanies masks: one JSON text for the node, for recordings and for files."""

from __future__ import annotations

import json

from hrda_core.labels import IGNORE_LABEL, LabelSpace

__all__ = ["label_info_json"]


def label_info_json(space: LabelSpace, *, model: str, preset: str, plan: str) -> str:
    """Return the text of the node's `~/label_info`.

    Args:
        space: classes of the mask ids.
        model, preset, plan: model, network and window plan that make the masks, for display.

    Returns:
        JSON object with `label_space`, `ignore_label`, `model`, `preset`, `plan` and `classes`, a list of objects with
        `id`, `name`, `color` (RGB 0 to 255) and `thing` (countable object).
    """
    classes = [
        {"id": index, "name": name, "color": list(color), "thing": index in space.things}
        for index, (name, color) in enumerate(zip(space.classes, space.palette, strict=True))
    ]
    return json.dumps(
        {
            "label_space": space.name,
            "ignore_label": IGNORE_LABEL,
            "model": model,
            "preset": preset,
            "plan": plan,
            "classes": classes,
        }
    )
