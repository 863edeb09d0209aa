"""Labelled images in the classes of the model: a difference is refused by name, or a file leads across."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from street_images import CAR, ROAD, SKY, write_street_images

from hrda_core.adaptation.stages.source import ModelSource, Wanted, check_source, open_or_make_pack
from hrda_core.errors import DataError, HrdaError, LabelSpaceError
from hrda_core.label_files import label_space_values
from hrda_core.labels import CITYSCAPES19, LabelSpace

YARD = LabelSpace("yard", ("ground", "air", "vehicle"))
TO_YARD = {"ids": {"ground": ["road", "sidewalk"], "air": ["sky"], "vehicle": ["car", "truck", "bus"]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """folders/ with images of road, sky and car, and pack/, made of them."""
    folder = tmp_path_factory.mktemp("source")
    write_street_images(folder / "folders", count=12)
    _open(str(folder / "folders"), folder / "pack", Wanted(CITYSCAPES19))
    return folder


def _open(spec: str, folder: Path, wanted: Wanted, said: list[str] | None = None) -> ModelSource:
    say = (lambda text: None) if said is None else said.append
    return open_or_make_pack(spec, folder, wanted, seed=0, say=say, progress=lambda done, total: None, command="test")


def _file(folder: Path, **values: Any) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def _ids(source: ModelSource) -> list[int]:
    assert source.held_out is not None
    return np.unique(source.held_out.load(0)[1]).tolist()  # type: ignore[no-any-return]


def test_a_pack_of_the_models_classes_is_taken_as_it_is(data: Path, tmp_path: Path) -> None:
    check_source(str(data / "pack"), Wanted(CITYSCAPES19))
    source = _open(str(data / "pack"), tmp_path / "unused", Wanted(CITYSCAPES19))
    assert source.ids is source.folder.label_space is None
    assert source.folder.config.rcs_temperature == 0.01  # as in the paper
    assert _ids(source) == [ROAD, SKY, CAR]
    assert not (tmp_path / "unused").exists()


def test_a_pack_of_other_classes_is_refused_with_the_difference(data: Path) -> None:
    nearly = LabelSpace("nearly", (*CITYSCAPES19.classes[:-1], "tricycle"))
    with pytest.raises(DataError, match=r"the 19 of 'nearly': it has 'bicycle' and lacks 'tricycle'; .*--label_space"):
        check_source(str(data / "pack"), Wanted(nearly))
    with pytest.raises(DataError, match="it has 'road', 'sidewalk', 'building', 'wall' and 15 more and lacks 'ground'"):
        check_source(str(data / "pack"), Wanted(YARD))


def test_a_pack_of_the_same_classes_in_another_order_is_read_by_name(data: Path, tmp_path: Path) -> None:
    turned = LabelSpace("turned", CITYSCAPES19.classes[::-1])
    source = _open(str(data / "pack"), tmp_path / "unused", Wanted(turned))
    assert _ids(source) == [18 - CAR, 18 - SKY, 18 - ROAD]


def test_a_file_leads_from_the_finer_classes_of_a_pack_to_those_of_the_model(data: Path, tmp_path: Path) -> None:
    file = _file(tmp_path, **TO_YARD)
    check_source(str(data / "pack"), Wanted(YARD, file))
    source = _open(str(data / "pack"), tmp_path / "unused", Wanted(YARD, file))
    assert _ids(source) == [0, 1, 2]
    assert source.ids is not None
    assert source.folder.label_space == label_space_values(YARD, source.ids)
    assert source.ids.table[[0, 1, 10, 13, 14, 2]].tolist() == [0, 0, 1, 2, 2, 255]
    assert "maps no 'building', 'wall', 'fence', 'pole' and 9 more of folders" in source.remark
    one_by_one = {name: label for label, names in TO_YARD["ids"].items() for name in names}
    again = _open(str(data / "pack"), tmp_path / "unused", Wanted(YARD, _file(tmp_path, ids=one_by_one)))
    assert again.ids is not None
    np.testing.assert_array_equal(again.ids.table, source.ids.table)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ids": {"carr": "vehicle"}}, r"classes of 'cityscapes19': 'carr' is not one .* did you mean 'car'"),
        ({"ids": {"car": "vehicles"}}, "'vehicles' is not one of the classes; did you mean 'vehicle'"),
        ({"ids": {"car": "vehicle", 13: "air"}}, "native id 13 belongs to 'air' and 'vehicle'"),
        (
            {"classes": ["ground", "air"], "ids": {0: "ground"}},
            r"has other classes than the model.* it lacks 'vehicle'; write the model's classes",
        ),
        ({"classes": ["ground", "air", "air"]}, "names the class 'air' twice"),
        ({"classes": [f"c{number}" for number in range(256)]}, "256 classes; expected 2 to 255"),
    ],
)
def test_a_file_that_does_not_lead_to_the_model_is_one_sentence(
    data: Path, tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    for spec in ("pack",) if "car" in str(values.get("ids")) else ("pack", "folders"):
        with pytest.raises(HrdaError, match=words) as caught:
            check_source(str(data / spec), Wanted(YARD, _file(tmp_path, **values)))
        assert "\n" not in str(caught.value)


def test_names_of_classes_are_no_ids_of_plain_folders(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match="native id 'road' is not a whole number"):
        check_source(str(data / "folders"), Wanted(YARD, _file(tmp_path, **TO_YARD)))


def test_ids_in_folders_that_are_no_classes_of_the_model_are_refused_at_once(data: Path) -> None:
    with pytest.raises(
        DataError, match=re.escape("hold ids 10, 13, expected classes of 'yard' (0..2) or 255")
    ) as caught:
        check_source(str(data / "folders"), Wanted(YARD))
    assert "--label_space FILE" in str(caught.value)


def test_a_data_set_becomes_a_pack_of_the_models_classes(data: Path, tmp_path: Path) -> None:
    classes = list(YARD.classes[::-1])
    file = _file(tmp_path, classes=classes, ids={ROAD: "ground", SKY: "air", CAR: "vehicle"})
    check_source(str(data / "folders"), Wanted(YARD, file))
    said: list[str] = []
    source = _open(str(data / "folders"), tmp_path / "made", Wanted(YARD, file), said)
    assert source.pack.space == YARD
    assert _ids(source) == [0, 1, 2]
    assert source.pack.totals("train").pixels.min() > 0


def test_a_public_data_set_has_the_classes_of_its_layout(tmp_path: Path) -> None:
    for kind, image in (("images", np.zeros((64, 96, 3), np.uint8)), ("labels", np.full((64, 96), 7, np.uint8))):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "00001.png"), image)
    spec = f"gta5:{tmp_path}"
    check_source(spec, Wanted(CITYSCAPES19))
    with pytest.raises(DataError, match=r"it has 'road', 'sidewalk', .* and lacks 'ground', 'air', 'vehicle'"):
        check_source(spec, Wanted(YARD))
    check_source(spec, Wanted(YARD, _file(tmp_path, ids={7: "ground", 26: "vehicle"})))
