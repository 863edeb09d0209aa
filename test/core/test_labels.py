"""Label spaces and evaluation groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden import golden_scalars

from hrda_core.errors import LabelSpaceError
from hrda_core.labels import CAMVID11, CITYSCAPES19, IDD7, IGNORE_LABEL, LabelSpace


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


NAME_CITYSCAPES = {
    "hrda_core/labels.py": "the classes themselves",
    "hrda_core/label_files.py": "the default of a file of ids alone, and the groups by name",
    "hrda_core/trainer/spaces.py": "the default of a recipe, and the layouts of public data sets",
    "hrda_core/data/datasets/labelled.py": "the default of a command, and the layouts of public data sets",
    "hrda_core/data/datasets/source_spec.py": "the default of a command, and the layouts of public data sets",
    "hrda_core/data/datasets/servers.py": "test servers that score these classes",
}
"""File -> why it may name the classes of Cityscapes. Everything else takes the classes from recipe, data or bundle."""


def test_only_defaults_and_public_layouts_name_the_classes_of_cityscapes(repository: Path) -> None:
    files = [path for room in ("hrda_core", "hrda_ros", "training") for path in (repository / room).rglob("*.py")]
    naming = {str(path.relative_to(repository)) for path in files if "CITYSCAPES19" in path.read_text(encoding="utf-8")}
    assert naming == set(NAME_CITYSCAPES)


def test_a_label_space_survives_the_manifest() -> None:
    assert LabelSpace.from_dict(CITYSCAPES19.to_dict()) == CITYSCAPES19


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"palette": [[0, 0, 0]]}, "colours"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"palette": [[0, 0, 0], [0, 0, 256]]}, "0 to 255"),
        ({"things": [2]}, "thing"),
        ({"classes": [], "palette": []}, "0 classes; expected 2 to 255"),
        ({"palette": [1, 2]}, "RGB"),
        ({"palette": [[0, 0, float("inf")], [0, 0, 1]]}, "RGB"),
        ({"name": 60_000 * "x"}, "too long"),
        ({"classes": ["a", "b\x1b[2J"]}, "no terminal prints"),
    ],
)
def test_p8_f6_a_contradiction_is_named(changes: dict[str, object], word: str) -> None:
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


def test_the_groups_of_indian_roads_are_those_of_their_label_files() -> None:
    table = IDD7.table()
    stored = {"drivable": 0, "other ground": 1, "living": 11, "vehicles": 13, "roadside": 4, "far": 2, "sky": 10}
    assert {name: int(table[label]) for name, label in stored.items()} == {n: i for i, n in enumerate(IDD7.names)}
    assert sorted(np.unique(table[:19])) == list(range(7))
    road, terrain, sidewalk, pole, vegetation, building = 0, 9, 1, 5, 8, 2
    assert table[terrain] == table[sidewalk] != table[road]
    assert table[vegetation] == table[building] != table[pole]
