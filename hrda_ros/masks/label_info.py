"""The node's information about its masks: class names, and which model made them from which frame on.

The text about the classes is `hrda_core.inference.label_info`; the node adds `model_id` and `first_stamp` to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.inference.label_info import label_info_json
from hrda_core.labels import LabelSpace
from hrda_ros.model.segmenter import ModelInfo, Segmenter

__all__ = ["fill_vision_label_info", "model_id", "served_label_info"]

_ID_DIGITS = 12


def model_id(model: ModelInfo) -> str:
    """Return the id of a model: the first 12 hex digits of the sha256 of its manifest file.

    The manifest holds the sha256 of every other file of the bundle. The id is empty for a model without a folder.
    """
    folder = getattr(model, "path", None)
    if folder is None:
        return ""
    return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()[:_ID_DIGITS]


def served_label_info(segmenter: Segmenter, identity: str, first_stamp: tuple[int, int] | None) -> str:
    """Return the text of `~/label_info`.

    Args:
        segmenter: the model that makes the masks.
        identity: its `model_id`.
        first_stamp: seconds and nanoseconds in the header of its first mask since activation; None before that.

    Returns:
        JSON object as of `hrda_core.inference.label_info.label_info_json`, with `model_id` and `first_stamp`, an
        object with `sec` and `nanosec`, or null.
    """
    bundle = segmenter.bundle
    text = label_info_json(bundle.label_space, model=bundle.name, preset=bundle.preset, plan=segmenter.plan)
    stamp = None if first_stamp is None else dict(zip(("sec", "nanosec"), first_stamp, strict=True))
    return json.dumps({**json.loads(text), "model_id": identity, "first_stamp": stamp})


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
