"""Which pixels of a camera count: polygons, PNGs, the largest rectangle, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrda_core.camera_areas import CameraArea, CameraAreas
from hrda_core.errors import DataError, ImageError

FRONT = "/front/image_raw"
LOWER_HALF = "[[0, 4], [12, 4], [12, 8], [0, 8]]"


def write(folder: Path, text: str) -> Path:
    path = folder / "areas.yaml"
    path.write_text(text)
    return path


def area(folder: Path, text: str) -> CameraArea:
    return CameraAreas.read(write(folder, f"{FRONT}: {{size: [12, 8], {text}}}")).of([FRONT])[FRONT]


def png(folder: Path, name: str, picture: np.ndarray) -> None:
    assert cv2.imwrite(str(folder / name), picture)


def test_outside_the_region_and_on_the_ego_vehicle_pixels_do_not_count(tmp_path: Path) -> None:
    hood = np.zeros((8, 12), np.uint8)
    hood[7, 3:9] = 255
    png(tmp_path, "hood.png", hood)
    found = area(tmp_path, f"region: {LOWER_HALF}, ego_vehicle: hood.png").counts
    expected = np.zeros((8, 12), np.uint8)
    expected[4:] = 255
    expected[7, 3:9] = 0
    np.testing.assert_array_equal(found, expected)


def test_several_polygons_add_up_and_a_picture_without_either_counts_as_a_whole(tmp_path: Path) -> None:
    corners = "[[[0, 0], [1, 0], [1, 1], [0, 1]], [[10, 6], [12, 6], [12, 8], [10, 8]]]"
    found = area(tmp_path, f"ego_vehicle: {corners}").counts
    assert (found == 0).sum() == 4 + 4
    assert (area(tmp_path, "").counts == 255).all()


def test_masked_pixels_get_255_and_no_confidence_and_the_arrays_of_the_model_stay(tmp_path: Path) -> None:
    labels, confidence = np.full((8, 12), 7, np.uint8), np.full((8, 12), 200, np.uint8)
    masked, sure = area(tmp_path, f"region: {LOWER_HALF}").mask(labels, confidence)
    assert (masked[:4] == 255).all()
    assert (masked[4:] == 7).all()
    assert (sure[:4] == 0).all()
    assert (sure[4:] == 200).all()
    assert (labels == 7).all()
    assert (confidence == 200).all()


def test_a_pixel_of_a_smaller_mask_counts_if_all_that_it_stands_for_do(tmp_path: Path) -> None:
    found = area(tmp_path, "ego_vehicle: [[0, 5], [12, 5], [12, 8], [0, 8]]")
    assert found.of_size(8, 12) is found
    smaller = found.of_size(4, 6)
    assert (smaller.counts[:2] == 255).all()
    assert (smaller.counts[2:] == 0).all(), "the third row stands for rows 4 and 5, of which one is masked"
    assert found.of_size(4, 6) is smaller


def test_a_topic_is_found_with_and_without_the_suffix_of_its_transport(tmp_path: Path) -> None:
    areas = CameraAreas.read(write(tmp_path, f"{FRONT}: {{size: [12, 8]}}\n/rear/compressed: {{size: [4, 4]}}"))
    found = areas.of([f"{FRONT}/compressed", "/rear", "/left"])
    assert {topic: area.counts.shape for topic, area in found.items()} == {
        f"{FRONT}/compressed": (8, 12),
        "/rear": (4, 4),
    }


def test_the_hash_is_that_of_what_counts_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    picture = np.zeros((8, 12), np.uint8)
    picture[4:] = 255
    png(tmp_path, "half.png", picture)
    texts = (f"region: {LOWER_HALF}", "region: half.png", "ego_vehicle: half.png")
    drawn, painted, other = (
        CameraAreas.read(write(tmp_path, f"{FRONT}: {{size: [12, 8], {text}}}")).digest for text in texts
    )
    assert drawn == painted != other


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_the_rectangle_is_the_largest_in_which_every_pixel_counts(counts: np.ndarray) -> None:
    counts = counts.copy()
    counts[0, 0] = True
    height, width = counts.shape
    sums = np.pad(counts.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    largest = max(
        (bottom - top) * (right - left)
        for top in range(height)
        for bottom in range(top + 1, height + 1)
        for left in range(width)
        for right in range(left + 1, width + 1)
        if sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        == (bottom - top) * (right - left)
    )
    cut = counts[CameraArea((counts * 255).astype(np.uint8)).rectangle]
    assert cut.all()
    assert cut.size == largest


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the picture has 8x12 pixels, but the camera's area is for 12x8") as caught:
        area(tmp_path, "").cut(np.zeros((12, 8, 3), np.uint8))
    assert caught.value.cause == "area"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no camera"),
        ("- 1", "names no camera"),
        ("/a: 3", "must have the keys size, region, ego_vehicle, not 3"),
        ("/a: {sice: [2, 2]}", "has the key 'sice'; did you mean 'size'?"),
        ("/a: {region: [[0, 0], [1, 0], [1, 1]]}", "must have the size of the pictures"),
        ("/a: {size: [0, 8]}", r"found \[0, 8\]"),
        ("/a: {size: [100000, 100000]}", "from 1 to 16384 pixels"),
        ("/a: {size: [12, 8], region: [[0, 0], [1, 1]]}", "is a polygon of at least three points"),
        ("/a: {size: [12, 8], region: [[0, 0], [1, 1], [a, 2]]}", "is a polygon of at least three points"),
        ("/a: {size: [12, 8], region: [[0, 0], [13, 0], [12, 8]]}", r"the point \[13, 0\], which lies outside"),
        ("/a: {size: [12, 8], region: [[0, 0], [.nan, 0], [12, 8]]}", "lies outside the picture of 12x8"),
        ("/a: {size: [12, 8], ego_vehicle: [[0, 0], [12, 0], [12, 8], [0, 8]]}", "leaves no pixel that counts"),
        ("/a: {size: [12, 8], ego_vehicle: absent.png}", "'.*absent.png' cannot be read: No such file"),
        ("/a: {size: [12, 8], ego_vehicle: areas.yaml}", "is no PNG"),
        ("/a: {size: [12, 9], ego_vehicle: hood.png}", "has 12x8 pixels, but the pictures have 12x9"),
        ("/a: {size: [12, 8], ego_vehicle: cut.png}", "is damaged; save it again"),
        ("/a: {size: [12, 8]", "cannot be read: line"),
        ('/a: {size: [12, 8], region: "a\\0.png"}', "cannot be read: embedded null"),
        ("/a: {size: [12, 8], region: pipe}", "'.*pipe' cannot be read: it is not a file"),
        ("/a: {size: [12, 8], region: /dev/zero}", "'/dev/zero' cannot be read: it is not a file"),
        ("/a: {size: [12, 8], region: large.png}", "is larger than 64 MiB"),
        ("/a: {size: [12, 8]}\n/a/compressed: {size: [6, 4]}", "stands there twice, with and without /compressed"),
        ("/a: {size: [16000, 8000]}\n/b: {size: [16000, 8001]}", "/b brings .* more than 256 million pixels together"),
        (f"/a: {{size: [12, 8], region: [{', '.join(['[[0, 0], [1, 1], [2, 2]]'] * 101)}]}}", "has 101 polygons"),
    ],
)
def test_f5_f8_what_makes_no_sense_is_refused_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    png(tmp_path, "hood.png", np.zeros((8, 12), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "hood.png").read_bytes()[:40])
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match=sentence) as caught:
        CameraAreas.read(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_of_other_topics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"camera areas '.*absent.yaml' cannot be read"):
        CameraAreas.read(tmp_path / "absent.yaml")
    areas = CameraAreas.read(write(tmp_path, f"{FRONT}: {{size: [12, 8]}}"))
    with pytest.raises(DataError, match="are for '/front/image_raw', but the images are on '/rear/image_raw'"):
        areas.of(["/rear/image_raw"])
