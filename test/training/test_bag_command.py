"""`hrda bag info` from the command line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from made_bag import STORE, TOPIC, write_made_bag
from made_scan import street
from rosbags.rosbag2 import StoragePlugin, Writer

from hrda_training.__main__ import main

IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_bag(tmp_path_factory.mktemp("bag") / "drive", (street(20 * n) for n in range(12)))


def test_info_prints_and_writes_what_the_recording_holds(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page = tmp_path / "info.json", tmp_path / "info.html"

    assert main(["bag", "info", str(bag), "--json", str(result), "--out", str(page)]) == 0

    output = capsys.readouterr().out
    assert TOPIC in output
    assert str(page) in output
    values = json.loads(result.read_text())
    assert values["cameras"][0]["images"] == 12
    assert values["recordings"][0]["storage"] == "mcap"
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("steps_s", "told"), [((0.0, 1.7e9), "jumped by 472222:"), ((40.0, 0.0), "clock back")])
def test_a_jump_of_the_clock_is_no_time_of_the_drive_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps_s: tuple[float, float], told: str
) -> None:
    path, result, page = tmp_path / "drive", tmp_path / "info.json", tmp_path / "info.html"
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE)
        for number in range(12):
            stamp = round(1e9 * (100 + number + steps_s[number >= 4]))
            log = stamp if steps_s[1] else round(1e9 * (100 + number))
            rgb = street(20 * number)
            time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=0)
            header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
            height, width = rgb.shape[:2]
            message = STORE.types[IMAGE](header, height, width, "rgb8", 0, 3 * width, rgb.reshape(-1))
            writer.write(connection, log, STORE.serialize_cdr(message, IMAGE))

    assert main(["bag", "info", str(path), "--json", str(result), "--out", str(page)]) == 0

    output, values = capsys.readouterr().out, json.loads(result.read_text())
    assert told in output
    assert values["recordings"][0]["duration_s"] == (10 if steps_s[1] else 11)
    (camera,) = values["cameras"]
    assert camera["gaps"] == []
    assert camera["curves"]["time_s"] == list(range(12))
    (jump,) = camera["jumps_forward"] + camera["jumps_back"]
    assert jump["at_s"] == 3
    assert values["topics"][0]["rate_hz"] == pytest.approx(12 / values["recordings"][0]["duration_s"], abs=1e-3)
    assert ("jumped by" in page.read_text()) == bool(steps_s[1])


def test_a_recording_that_is_cut_off_is_shown_with_what_was_kept(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = next(bag.glob("*.mcap")).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[: len(content) * 6 // 10])

    assert main(["bag", "info", str(cut)]) == 0

    output = capsys.readouterr().out
    assert "damaged" in output
    assert "images kept" in output


@pytest.mark.parametrize("arguments", [["bag"], ["bag", "--help"], ["bag", "info", "--help"]])
def test_help_is_given(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # the option parser's way to end
        assert main(arguments) == 0

    assert "hrda bag info" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["bag", "show"], "no subcommand"),
        (["bag", "info", "nowhere"], "nowhere"),
        (["bag", "info"], "paths"),
        (["bag", "info", "BAG", "--topic", "/rear"], "no image topic '/rear'"),
        (["bag", "info", "BAG", "--analyse_hz", "0"], "above 0"),
        (["bag", "info", "BAG", "--out", "/dev/null/page.html"], "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(
    bag: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([str(bag) if argument == "BAG" else argument for argument in arguments])

    assert status == 2
    assert word in capsys.readouterr().err
