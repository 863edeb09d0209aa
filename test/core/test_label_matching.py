"""Classes of two label spaces are matched by their names."""

from __future__ import annotations

import numpy as np

from hrda_core.label_matching import ids_by_name, only_in, same_names, some_names, space_difference
from hrda_core.labels import IdTable, LabelSpace

YARD = LabelSpace("yard", ("floor", "robot", "crate"))
TURNED = LabelSpace("turned", ("crate", "floor", "robot"))
OTHER = LabelSpace("other", ("floor", "shelf"))


def test_the_same_classes_in_the_same_order_need_no_table() -> None:
    ids = IdTable.from_ids("yard", {7: 0})
    assert ids_by_name(YARD, None, YARD) is None
    assert ids_by_name(YARD, ids, LabelSpace("copy", YARD.classes)) is ids


def test_another_order_is_followed_by_name() -> None:
    assert same_names(TURNED, YARD)
    table = ids_by_name(TURNED, None, YARD)
    assert table is not None
    assert table.table[[0, 1, 2, 3, 255]].tolist() == [2, 0, 1, 255, 255]
    assert table.known == {0, 1, 2, 255}


def test_native_ids_lead_through_their_own_classes_to_those_that_are_wanted() -> None:
    ids = IdTable.from_ids("other", {7: 0, 8: 1, 9: 255}, known=[3])
    table = ids_by_name(OTHER, ids, YARD)
    assert table is not None
    assert np.flatnonzero(table.table != 255).tolist() == [7]
    assert table.table[7] == 0
    assert table.known == {3, 7, 8, 9, 255}


def test_a_difference_names_the_first_classes_and_counts_the_others() -> None:
    assert not same_names(OTHER, YARD)
    assert space_difference(OTHER, YARD) == "has 'shelf' and lacks 'robot', 'crate'"
    assert space_difference(TURNED, YARD) == ""
    many = LabelSpace("many", (*YARD.classes, *(f"c{number}" for number in range(9))))
    assert space_difference(many, YARD) == "has 'c0', 'c1', 'c2', 'c3' and 5 more"
    assert some_names(["a"]) == "'a'"
    assert only_in(OTHER, YARD) == ["shelf"]
