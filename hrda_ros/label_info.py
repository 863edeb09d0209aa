"""The latched description of the class ids: JSON for everybody, `vision_msgs/LabelInfo` where that package exists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hrda_core.labels import IGNORE_LABEL, LabelSpace

__all__ = ["fill_vision_label_info", "label_info_json"]


def label_info_json(space: LabelSpace, *, model: str, preset: str, plan: str) -> str:
    """The text of `~/label_info`.

    Args:
        space: classes of the mask ids.
        model, preset, plan: what makes the masks, for display.

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


def fill_vision_label_info(message: Any, new_class: Callable[[], Any], space: LabelSpace) -> None:
    """Fill a `vision_msgs/LabelInfo`.

    Args:
        message: the message; its header is left alone.
        new_class: makes an empty `vision_msgs/VisionClass`.
        space: classes of the mask ids.
    """
    message.class_map = []
    for index, name in enumerate(space.classes):
        entry = new_class()
        entry.class_id, entry.class_name = index, name
        message.class_map.append(entry)
    message.threshold = 0.0
