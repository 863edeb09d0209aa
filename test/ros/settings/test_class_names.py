"""Class names in parameters."""

from __future__ import annotations

from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_ros.settings.class_names import names_of, unknown_names

OTHER = LabelSpace("farm", ("field", "cow"))


def test_names_are_split_at_commas_and_misspelt_ones_are_told() -> None:
    names = names_of(" road, traffic light,,")
    assert names == ["road", "traffic light"]
    assert unknown_names(names, CITYSCAPES19, "classes") == ""
    assert unknown_names(["rod"], CITYSCAPES19, "classes").endswith("does not have; did you mean 'road'?")
    assert "names 'a\ufffdb'" in unknown_names(["a\x1bb"], OTHER, "classes"), "it goes into the log"
    assert len(unknown_names([f"{n}" * 1000 for n in range(1000)], OTHER, "classes")) < 4000
    assert "its classes are field, cow" in unknown_names(["zebra crossing"], OTHER, "drivable")
