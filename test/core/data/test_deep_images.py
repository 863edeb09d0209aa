"""Images of 10 to 16 bits in folders, data sets and recordings: no picture is near black without a word."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded import IMAGE, SECOND, START, STORE, TOPIC, image_message
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2

from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled, open_unlabelled_layout, pair_folders
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.recordings.thinned_image import decode_thinned
from hrda_core.errors import DataError, ImageError
from hrda_core.labels import CITYSCAPES19
from hrda_core.messages.value_range import ValueRange

SIZE = (24, 32)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))


def _values(highest: int, number: int = 0) -> np.ndarray:
    """Grey values up to one that each picture holds."""
    values = np.random.default_rng(number).integers(0, highest + 1, SIZE).astype(np.uint16)
    values[0, 0] = highest
    return values


def _folder(folder: Path, highest: int, *, suffix: str = ".png", count: int = 3) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / f"{number}{suffix}"), _values(highest, number))
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("highest", "shift"), [(1023, 2), (4095, 4), (16383, 6), (65535, 8), (200, 0)])
def test_a_folder_of_deep_images_is_read_by_the_bits_that_its_values_need(
    tmp_path: Path, suffix: str, highest: int, shift: int
) -> None:
    frames = open_unlabelled(_folder(tmp_path / "images", highest, suffix=suffix))
    for number in range(3):
        expected = np.dstack([(_values(highest, number) >> shift).astype(np.uint8)] * 3)
        np.testing.assert_array_equal(frames.load(number), expected)
    assert f"16-bit pixels: 0..{256 * 2**shift - 1} become 0..255" in frames.describe()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).load(1), frames.load(1))


def test_a_given_range_counts_and_pictures_near_black_are_a_warning(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 4095)
    given = open_unlabelled(folder, value_range=ValueRange(0, 8191))
    assert given.load(0)[0, 0, 0] == 127
    assert "warning" not in given.describe()
    dark = open_unlabelled(folder, value_range=ValueRange(0, 65535))
    assert "warning: pictures of 16-bit pixels are near black" in dark.describe()


def test_a_broken_file_at_the_front_does_not_make_a_set_of_deep_images_dark(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 4095)
    (folder / "0.png").write_bytes(b"broken")
    frames = open_unlabelled(folder)
    np.testing.assert_array_equal(frames.load(1)[..., 0], _values(4095, 1) >> 4)


def test_a_data_set_as_downloaded_takes_the_given_range(tmp_path: Path) -> None:
    image = tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    label = tmp_path / "gtFine" / "val" / "ulm" / "ulm_000000_000019_gtFine_labelIds.png"
    for path, values in ((image, _values(4095)), (label, np.full(SIZE, 7, np.uint8))):
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), values)
    pairs = open_labelled("cityscapes", tmp_path, "val", value_range=ValueRange(0, 8191))
    np.testing.assert_array_equal(pairs.load(0)[0][..., 0], _values(4095) >> 5)
    with pytest.raises(DataError, match="'cityscapes' needs root"):
        open_labelled("cityscapes", None, "val")


def test_folders_of_eight_bits_say_nothing_of_a_range(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    cv2.imwrite(str(folder / "a.png"), picture[..., ::-1])
    frames = open_unlabelled(folder, value_range=ValueRange(0, 4095))
    assert "16-bit" not in frames.describe()
    np.testing.assert_array_equal(frames.load(0), picture)


def test_labelled_images_have_the_range_of_their_own_data_set(tmp_path: Path) -> None:
    parts: list[ImageLabelPairs] = []
    for name, highest in (("ten", 1023), ("twelve", 4095)):
        _folder(tmp_path / name / "images", highest)
        (tmp_path / name / "labels").mkdir()
        for number in range(3):
            ids = np.tile(np.array([0, 1], np.uint8), (24, 16))
            cv2.imwrite(str(tmp_path / name / "labels" / f"{number}.png"), ids)
        parts.append(open_labelled("folders", tmp_path / name, ""))
    ten, twelve = (check_labels(part, CITYSCAPES19).pairs for part in parts)
    np.testing.assert_array_equal(twelve.load(1)[0][..., 0], _values(4095, 1) >> 4)
    np.testing.assert_array_equal(ten.take([2, 1]).load(1)[0][..., 0], _values(1023, 1) >> 2)
    folders = tmp_path / "ten" / "images", tmp_path / "ten" / "labels"
    dark = open_labelled("folders", tmp_path / "ten", "", value_range=ValueRange(0, 65535))
    assert "warning: 16-bit pixels: 0..65535" in check_labels(dark, CITYSCAPES19).audit.table()
    assert "16-bit pixels: 0..1023" in check_labels(pair_folders(*folders), CITYSCAPES19).audit.table()
    target = open_unlabelled_layout("folders", tmp_path / "twelve", "", value_range=ValueRange(0, 8191))
    assert target.load(0)[0, 0, 0] == 127


def _recorded(path: Path, highest: list[int]) -> Path:
    with Writer2(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE)
        for number, top in enumerate(highest):
            values = _values(top, number)
            message = image_message(
                number,
                height=SIZE[0],
                width=SIZE[1],
                encoding="mono16",
                step=2 * SIZE[1],
                data=values.astype("<u2").view(np.uint8).reshape(-1),
            )
            writer.write(connection, (START + number) * SECOND, STORE.serialize_cdr(message, IMAGE))
    return path


def test_a_recording_of_twelve_bits_is_read_as_its_frames_come(tmp_path: Path) -> None:
    recordings = Recordings.open([_recorded(tmp_path / "drive", [4095] * 4)])
    for number, image in enumerate(recordings.images()):
        np.testing.assert_array_equal(image.decode()[..., 0], _values(4095, number) >> 4)
        assert decode_thinned(image, 6).rgb.max() > 200
    assert recordings.value_remarks == (
        f"topic '{TOPIC}': 16-bit pixels with values up to 4095: 0..4095 become 0..255; value_range says otherwise",
    )
    given = Recordings.open([tmp_path / "drive"], value_range=ValueRange(0, 65535))
    assert next(iter(given.images())).decode().max() == 15
    assert "near black" in given.value_remarks[0]


def test_frames_of_a_recording_have_one_range_in_whatever_order_they_are_loaded(tmp_path: Path) -> None:
    frames = open_unlabelled(_recorded(tmp_path / "drive", [1000, 900, 4095, 1000]))
    assert "0..4095 become 0..255" in frames.describe()
    copy = pickle.loads(pickle.dumps(frames))
    for number in (2, 0, 3):
        expected = _values([1000, 900, 4095, 1000][number], number) >> 4
        np.testing.assert_array_equal(frames.load(number)[..., 0], expected)
        np.testing.assert_array_equal(copy.load(number)[..., 0], expected)


def test_a_range_that_makes_no_sense_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="makes no sense"):
        open_unlabelled(_folder(tmp_path / "images", 4095), value_range=ValueRange(4095, 0))
