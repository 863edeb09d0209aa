"""Id tables of public data sets, and label space files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from golden import golden, golden_scalars

from hrda_core.errors import LabelSpaceError
from hrda_core.labels import CITYSCAPES19, CITYSCAPES_IDS, MAPILLARY_IDS, SYNTHIA_IDS, read_label_space

GOOD: dict[str, Any] = {
    "name": "yard",
    "classes": ["floor", "robot"],
    "palette": [[0, 0, 0], [9, 9, 9]],
    "things": ["robot"],
    "ids": {3: "robot", 7: "floor", 9: "floor", 1: "ignore"},
}


@pytest.mark.parametrize(
    ("name", "ids"), [("lut_gta", CITYSCAPES_IDS), ("lut_synthia", SYNTHIA_IDS), ("lut_mapillary", MAPILLARY_IDS)]
)
def test_id_tables_equal_the_reference(name: str, ids: Any) -> None:
    np.testing.assert_array_equal(ids.table, golden("pseudo_label")[name])


def test_cityscapes_table_equals_the_listed_ids() -> None:
    listed = golden_scalars()["cityscapes_id_to_trainid_else_255"]
    assert {int(native): label for native, label in listed.items()} == {
        native: int(label) for native, label in enumerate(CITYSCAPES_IDS.table) if label != 255
    }


def test_the_shipped_cityscapes_file_equals_the_built_in_space(repository: Path) -> None:
    space, ids = read_label_space(repository / "config" / "label_spaces" / "cityscapes19.yaml")
    assert space == CITYSCAPES19
    assert ids is not None
    np.testing.assert_array_equal(ids.table, CITYSCAPES_IDS.table)
    assert ids.known == CITYSCAPES_IDS.known


def test_the_shipped_camvid_file_maps_its_native_ids(repository: Path) -> None:
    space, ids = read_label_space(repository / "config" / "label_spaces" / "camvid11_native.yaml")
    assert len(space) == 11
    assert ids is not None
    assert ids.table[[0, 8, 10, 11, 12]].tolist() == [0, 8, 10, 255, 255]
    assert space.classes[8] == "car"
    assert 11 in ids.known
    assert 12 not in ids.known


def test_several_native_ids_may_become_one_class_and_the_rest_is_ignored(tmp_path: Path) -> None:
    space, ids = read_label_space(_write(tmp_path, {}))
    assert space.things == (1,)
    assert ids is not None
    assert ids.table[[3, 7, 9, 1, 0]].tolist() == [1, 0, 0, 255, 255]
    assert ids.known == {1, 3, 7, 9, 255}


def test_without_ids_the_files_hold_class_ids(tmp_path: Path) -> None:
    path = tmp_path / "yard.yaml"
    path.write_text(yaml.safe_dump({key: GOOD[key] for key in ("classes", "palette")}))
    space, ids = read_label_space(path)
    assert space.name == "yard"
    assert ids is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ids": {3: "robbot"}}, "did you mean 'robot'"),
        ({"ids": {300: "robot"}}, "native id '300'"),
        ({"ids": {"a": "robot"}}, "native id 'a'"),
        ({"ids": ["robot"]}, "must map"),
        ({"things": ["wheel"]}, "things: 'wheel'"),
        ({"classes": "floor"}, "list of names"),
        ({"palette": [[0, 0, 0]]}, "1 colours"),
        ({"pallete": []}, "unknown key 'pallete'"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_the_file(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LabelSpaceError, match=words):
        read_label_space(_write(tmp_path, changes))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(LabelSpaceError, match=r"broken\.yaml") as caught:
        read_label_space(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(LabelSpaceError, match="cannot be read"):
        read_label_space(tmp_path / "absent.yaml")


def _write(folder: Path, changes: dict[str, Any]) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path
