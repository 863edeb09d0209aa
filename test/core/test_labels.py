"""Label spaces and evaluation groups."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden_scalars

from hrda_core.errors import LabelSpaceError
from hrda_core.labels import CAMVID11, CITYSCAPES19, IGNORE_LABEL, LabelSpace


def test_cityscapes_has_19_named_and_coloured_classes() -> None:
    assert len(CITYSCAPES19) == 19
    assert CITYSCAPES19.classes[13] == "car"
    assert [CITYSCAPES19.classes[thing] for thing in CITYSCAPES19.things][:3] == [
        "traffic light",
        "traffic sign",
        "person",
    ]


def test_names_and_palette_equal_the_reference() -> None:
    golden = golden_scalars()
    assert list(CITYSCAPES19.classes) == golden["classes"]
    assert [list(colour) for colour in CITYSCAPES19.palette] == golden["palette_rgb"]


def test_unknown_ids_are_drawn_black() -> None:
    table = CITYSCAPES19.color_table()
    assert table.shape == (256, 3)
    assert not table[19:].any()
    assert table[13].tolist() == [0, 0, 142]


def test_a_label_space_survives_the_manifest() -> None:
    assert LabelSpace.from_dict(CITYSCAPES19.to_dict()) == CITYSCAPES19


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"palette": [[0, 0, 0]]}, "colours"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"palette": [[0, 0, 0], [0, 0, 256]]}, "0 to 255"),
        ({"things": [2]}, "thing"),
        ({"classes": [], "palette": []}, "0 classes"),
        ({"palette": [1, 2]}, "RGB"),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, object], word: str) -> None:
    values = {"name": "two", "classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]], "things": [1], **changes}
    with pytest.raises(LabelSpaceError, match=word):
        LabelSpace.from_dict(values)


def test_camvid_groups_merge_the_classes_that_camvid_does_not_tell_apart() -> None:
    table = CAMVID11.table()
    wall, building, truck, car, bicycle, rider = 3, 2, 14, 13, 18, 12
    assert table[wall] == table[building]
    assert table[truck] == table[car]
    assert table[bicycle] == table[rider]
    assert table[IGNORE_LABEL] == IGNORE_LABEL
    assert sorted(np.unique(table[:19])) == list(range(11))
