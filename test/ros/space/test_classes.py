"""Class names that come with the masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hrda_core.errors import LabelSpaceError
from hrda_core.inference.label_info import label_info_json
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_ros.space.classes import ServedClasses, check_ids

OTHER = LabelSpace("farm", ("field", "cow"))


def info(space: LabelSpace, first: tuple[int, int] | None) -> str:
    values = json.loads(label_info_json(space, model="m", preset="p", plan="whole"))
    stamp = None if first is None else {"sec": first[0], "nanosec": first[1]}
    return json.dumps({**values, "first_stamp": stamp})


def test_the_classes_are_those_of_the_model_with_colours_and_things() -> None:
    served = ServedClasses()
    assert served.at((1, 0)) is None
    assert served.offer(info(CITYSCAPES19, None)) == CITYSCAPES19
    assert served.at((1, 0)) == CITYSCAPES19


def test_masks_before_the_first_of_a_new_model_keep_the_classes_of_the_old_one() -> None:
    served = ServedClasses()
    served.offer(info(CITYSCAPES19, (5, 0)))
    assert served.at((5, 0)) == CITYSCAPES19
    served.offer(info(OTHER, None))
    assert served.at((8, 0)) == CITYSCAPES19
    served.offer(info(OTHER, (9, 500)))
    assert served.at((9, 499)) == CITYSCAPES19
    assert served.at((9, 500)) == OTHER
    assert served.at((2, 0)) == OTHER, "a bag that starts over is in the new classes"


def test_a_clock_that_starts_over_while_nobody_listens_does_not_bring_old_classes_back() -> None:
    served = ServedClasses()
    served.offer(info(CITYSCAPES19, (5, 0)))
    served.offer(info(OTHER, (100, 0)))
    served.settle()
    assert served.at((5, 0)) == OTHER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"label_space": "x", "classes": 3}',
        '{"label_space": "x", "classes": [{"id": 4}]}',
        "null",
        '{"label_space": "x", "classes": [{"id": 1e999, "name": "a", "color": [1, 2, 3]}]}',
        '{"label_space": "x", "classes": [{"id": 0, "name": "a", "color": [1e999, 2, 3]}]}',
        '{"label_space": "x", "classes": [{"id": 0.5, "name": "a", "color": [1, 2, 3]},'
        '{"id": 1.5, "name": "b", "color": [1, 2, 3]}]}',
        "[" * 100_000,
    ],
)
def test_a_text_that_is_no_label_information_is_refused(text: str) -> None:
    served = ServedClasses()
    served.offer(info(OTHER, None))
    with pytest.raises(LabelSpaceError, match="label_info is not what segment_node publishes"):
        served.offer(text)
    assert served.at((0, 0)) == OTHER


def test_ids_with_a_gap_are_refused() -> None:
    values = json.loads(info(OTHER, None))
    values["classes"][1]["id"] = 2
    with pytest.raises(LabelSpaceError, match="ids must be 0, 1, 2"):
        ServedClasses().offer(json.dumps(values))


def test_a_mask_with_an_id_that_has_no_class_is_of_another_model_and_255_is_of_any() -> None:
    labels = np.array([[0, 1, 255], [1, 255, 0]], np.uint8)
    check_ids(labels, OTHER)
    labels[0, 0] = 2
    with pytest.raises(LabelSpaceError, match=r"the class id 2, but label_info names 2 classes \('farm'\); remap"):
        check_ids(labels, OTHER)


def test_information_that_says_nothing_of_a_first_mask_counts_at_once() -> None:
    served = ServedClasses()
    served.offer(info(CITYSCAPES19, (5, 0)))
    served.offer(label_info_json(OTHER, model="m", preset="p", plan="whole"))
    assert served.at((6, 0)) == OTHER
