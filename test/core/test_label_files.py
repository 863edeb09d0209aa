"""Id tables of public data sets, label space files, and files of groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from golden import golden, golden_scalars

from hrda_core.errors import LabelSpaceError
from hrda_core.label_files import find_groups, label_space_values, read_label_space
from hrda_core.labels import CAMVID11, CITYSCAPES19, CITYSCAPES_IDS, MAPILLARY_IDS, SYNTHIA_IDS, LabelSpace

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
        ({"ids": {-1: "robot"}}, "native id '-1'"),
        ({"ids": {3.5: "robot"}}, "native id '3.5'"),
        ({"ids": {True: "robot"}}, "native id 'True'"),
        ({"ids": {10**30: "robot"}}, "native id '1000000"),
        ({"ids": {None: "robot"}}, "native id 'None'"),
        ({"ids": {3: 1}}, "'1' is not one of"),
        ({"ids": {"robot": [3, -4]}}, "native id '-4'"),
        ({"ids": {"robot": "3"}}, "robot"),
        ({"ids": {"robot": [[3]]}}, "native id"),
        ({"ids": ["robot"]}, "must map"),
        ({"things": ["wheel"]}, "things: 'wheel'"),
        ({"classes": "floor"}, "list of names"),
        ({"palette": [[0, 0, 0]]}, "1 colours"),
        ({"pallete": []}, "unknown key 'pallete'"),
        ({"classes": ["floor"], "palette": None, "things": None}, r"space\.yaml.* 1 classes; expected 2 to 255"),
        ({"classes": [f"c{i}" for i in range(256)], "palette": None, "things": None}, "256 classes; expected 2 to 255"),
        ({"classes": ["robot", "robot"], "ids": None}, "names the class 'robot' twice"),
        ({"classes": ["floor", "ignore"], "things": None, "ids": None}, "cannot be called 'ignore'"),
        ({"ids": {"robot": [3, 4], "floor": [4]}}, "native id 4 belongs to 'floor' and 'robot'"),
    ],
)
def test_p8_f6_a_mistake_in_a_file_is_named_with_the_file(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LabelSpaceError, match=words):
        read_label_space(_write(tmp_path, changes))


def test_f6_an_id_that_is_given_twice_is_refused_and_not_the_last_taken(tmp_path: Path) -> None:
    path = tmp_path / "yard.yaml"
    path.write_text("classes: [floor, robot]\nids: {3: robot, 4: floor, 3: floor}\n")
    with pytest.raises(LabelSpaceError, match="gives '3' twice"):
        read_label_space(path)


def test_f6_an_id_that_is_listed_for_two_classes_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, {"ids": {"floor": [7, 3], "robot": [3]}})
    with pytest.raises(LabelSpaceError, match="the native id 3 belongs to 'floor' and 'robot'; an id has one class"):
        read_label_space(path)


def test_ids_may_be_listed_by_class(tmp_path: Path) -> None:
    by_class = {"floor": [7, 9], "robot": [3], "ignore": [1]}
    ids = read_label_space(_write(tmp_path, {"ids": by_class}))[1]
    by_id = read_label_space(_write(tmp_path, {}))[1]
    assert ids is not None
    assert by_id is not None
    np.testing.assert_array_equal(ids.table, by_id.table)
    assert ids.known == by_id.known


def test_a_file_of_ids_alone_leads_to_the_classes_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text("ids: {1: robot, 2: robot, 3: floor}\n")
    yard = LabelSpace("yard", ("floor", "robot"))
    space, ids = read_label_space(path, yard)
    assert space == yard
    assert ids is not None
    assert ids.table[[1, 2, 3, 4]].tolist() == [1, 1, 0, 255]
    with pytest.raises(LabelSpaceError, match="'robot' is not one of the classes"):
        read_label_space(path)
    path.write_text("things: [robot]\n")
    with pytest.raises(LabelSpaceError, match="'things' but no 'classes'"):
        read_label_space(path, yard)


def test_colours_and_things_need_not_be_given(tmp_path: Path) -> None:
    classes = [f"c{i}" for i in range(255)]
    space, _ = read_label_space(_write(tmp_path, {"classes": classes, "palette": None, "things": None, "ids": None}))
    assert space.things == ()
    assert len(set(space.palette)) == 255
    assert (0, 0, 0) not in space.palette


def test_a_space_and_its_ids_survive_as_plain_values(tmp_path: Path) -> None:
    space, ids = read_label_space(_write(tmp_path, {}))
    stored = json.loads(json.dumps(label_space_values(space, ids)))
    again, table = read_label_space(stored)
    assert again == space
    assert ids is not None
    assert table is not None
    np.testing.assert_array_equal(table.table, ids.table)
    assert table.known == ids.known


def test_groups_come_from_a_name_or_a_file(tmp_path: Path) -> None:
    yard = LabelSpace("yard", ("floor", "robot", "crate"))
    assert find_groups("", yard).names == yard.classes
    assert find_groups("camvid11", CITYSCAPES19) is CAMVID11
    path = tmp_path / "coarse.yaml"
    path.write_text("groups: {ground: [floor], objects: [robot, crate]}\nunscored: [ground]\n")
    groups = find_groups(str(path), yard)
    assert (groups.name, groups.names, groups.scored) == ("coarse", ("ground", "objects"), (1,))
    assert groups.table()[:4].tolist() == [0, 1, 1, 255]
    path.write_text("groups: {1: [floor], 2: [robot, crate]}\nunscored: [1]\n")
    assert find_groups(str(path), yard).unscored == ("1",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("groups: [floor]", "must map names of groups"),
        ("groups: {a: [flor]}", "did you mean 'floor'"),
        ("groups: {a: [floor], b: [floor]}", "in the groups 'a' and 'b'"),
        ("groups: {a: [floor]}\nunscored: [c]", "'c' is no group"),
        ("grups: {a: [floor]}", "unknown key 'grups'"),
        ("groups: {a: [floor], a: [robot]}", "gives 'a' twice"),
        ("groups: {a: [floor]}\nunscored: 5", "'unscored' must be a list"),
        ("groups: {a: [floor]}\nunscored: [[1]]", "is no group"),
    ],
)
def test_a_mistake_in_a_file_of_groups_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "coarse.yaml"
    path.write_text(text)
    with pytest.raises(LabelSpaceError, match=words):
        find_groups(str(path), LabelSpace("yard", ("floor", "robot")))


def test_groups_of_other_classes_are_refused() -> None:
    yard = LabelSpace("yard", ("floor", "robot"))
    with pytest.raises(LabelSpaceError, match="groups of the classes of cityscapes19"):
        find_groups("camvid11", yard)
    with pytest.raises(LabelSpaceError, match="not known and no such file"):
        find_groups("camvid12", yard)


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
