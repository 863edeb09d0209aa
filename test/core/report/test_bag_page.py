"""Text and page of `hrda bag info`."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_bag import write_made_bag
from made_scan import camera, quality, scan_of, street

from hrda_core.data.recordings.recording_files import find_recordings
from hrda_core.data.recordings.recordings import Recordings, Salvage
from hrda_core.data.scan.scan import Scan, scan
from hrda_core.data.scan.summary import summarise
from hrda_core.report.bag_page import write_bag_page
from hrda_core.report.bag_text import bag_text, clock, size_text, sparkline


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scan]:
    path = write_made_bag(tmp_path_factory.mktemp("bag") / "drive", (street(20 * n) for n in range(30)))
    return path, scan(Recordings.open([path]), pictures=6)


def _pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in found]


def test_the_text_has_recordings_topics_and_cameras(bag: tuple[Path, Scan]) -> None:
    text = bag_text(summarise(bag[1], find_recordings([bag[0]])))

    assert "mcap" in text
    assert "30 images" in text
    assert re.search(r"/camera/image_raw +sensor_msgs/msg/Image +30 +2\.0\d Hz", text)
    assert "160x120, rgb8" in text
    assert "gaps        none" in text


def test_gaps_jumps_and_failures_are_named(bag: tuple[Path, Scan]) -> None:
    times = [0.0, 0.5, 1.0, 1.5, 9.5, 10.0, 4.0, 4.5]
    made = scan_of(camera([quality(number) for number in range(7)] + [None], times=times))

    text = bag_text(summarise(made, find_recordings([bag[0]])) | {"topics": summarise(bag[1], [])["topics"]})

    assert "gaps        8.00 s at 0:02" in text
    assert "clock back  6.00 s at 0:10" in text
    assert "undecodable 1 of the analysed: short 1" in text


def test_damage_is_said_in_text_and_page(bag: tuple[Path, Scan], tmp_path: Path) -> None:
    whole = bag[1]
    salvage = (Salvage(bag[0], 30, None, "cut off"), Salvage(bag[0], 3, 7, "overwritten"))
    damaged = Scan(whole.recordings, whole.cameras, whole.topics, salvage)
    summary = summarise(damaged, find_recordings([bag[0]]))

    page = write_bag_page(tmp_path / "page.html", summary, damaged).read_text()

    for text in (bag_text(summary), page):
        assert "unknown number" in text
        assert "7 lost: overwritten" in " ".join(text.split())


def test_the_page_stands_alone_with_a_sheet_and_curves_a_camera(bag: tuple[Path, Scan], tmp_path: Path) -> None:
    path, found = bag

    page = write_bag_page(tmp_path / "page.html", summarise(found, find_recordings([path])), found).read_text()

    pictures = _pictures(page)
    assert len(pictures) == 2
    assert all(picture.shape[1] > 1000 for picture in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_camera_without_a_picture_is_said_to_have_none(tmp_path: Path) -> None:
    made = scan_of(camera([None] * 5))

    page = write_bag_page(tmp_path / "page.html", summarise(made, []), made).read_text()

    assert "No frame of this camera decodes." in page


def test_f11_names_are_escaped(tmp_path: Path) -> None:
    made = scan_of(camera([quality()] * 3, topic="/<script>"))

    page = write_bag_page(tmp_path / "page.html", summarise(made, []), made).read_text()

    assert "<script>" not in page


def test_a_sparkline_shows_levels_and_pauses() -> None:
    assert sparkline([0, 1, 2, 3], [0, 100, 200, 255]) == "▁▄▇█"
    assert " " in sparkline([0, 1, 2, 9], [255, 255, 255, 255])
    assert sparkline([], []) == ""
    assert len(sparkline(list(range(500)), [10.0] * 500)) == 60


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3725, "1:02:05"), (-3, "-0:03")])
def test_times_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(12, "12 B"), (1_500_000, "2 MB"), (12_300_000_000, "12.3 GB")])
def test_sizes_have_a_unit_that_fits(size: int, text: str) -> None:
    assert size_text(size) == text
