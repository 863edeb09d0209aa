"""Folders of recordings: links, and names that could rewrite a terminal."""

from __future__ import annotations

import gzip
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest
from mcap.writer import Writer as McapWriter
from recorded import IMAGE, SECOND, START, STORE, record, serialised
from rosbags.rosbag2 import StoragePlugin, Writer

from hrda_core.data.recordings.recording_files import find_recordings
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.errors import DataError, ImageError, shown, some_of
from hrda_core.report.bag_text import bag_text


def test_f7_a_link_that_leaves_the_folder_is_not_followed_and_said(tmp_path: Path) -> None:
    outside = record(tmp_path / "outside", "mcap", range(3))
    inside = record(tmp_path / "drives" / "own", "mcap", range(2))
    (tmp_path / "drives" / "folder").symlink_to(outside.parent)
    (tmp_path / "drives" / "file.mcap").symlink_to(outside)
    (tmp_path / "drives" / "nowhere").symlink_to(tmp_path / "nothing")

    remarks: list[str] = []
    found = find_recordings([tmp_path / "drives"], remarks)

    assert [recording.path for recording in found] == [inside.parent]
    assert [remark.partition(" is a link out of ")[0] for remark in remarks] == [
        f"'{tmp_path}/drives/file.mcap'",
        f"'{tmp_path}/drives/folder'",
    ]
    recordings = Recordings.open([tmp_path / "drives"])
    assert len(list(recordings.images())) == 2
    assert set(remarks) <= set(recordings.remarks)
    shutil.rmtree(tmp_path / "drives" / "own")
    with pytest.raises(DataError, match=r"is a link out of .* and was not followed; give its goal as a path"):
        find_recordings([tmp_path / "drives"])
    (named,) = find_recordings([tmp_path / "drives" / "folder"])
    assert named.files[0].samefile(outside), "a link that the user names is followed"


def test_f7_a_file_of_a_recording_that_is_a_link_out_of_it_is_missing(tmp_path: Path) -> None:
    folder = record(tmp_path / "drive", "mcap", range(3)).parent
    file = next(folder.glob("*.mcap"))
    file.rename(tmp_path / "elsewhere.mcap")
    file.symlink_to(tmp_path / "elsewhere.mcap")

    (recording,) = find_recordings([folder], remarks := [])

    assert recording.files == ()
    assert recording.damage == (f"file '{file.name}' is missing",)
    assert len(remarks) == 1


@pytest.mark.parametrize("prefix", ["drive/", "../", "/var/lib/robot/drive/"])
def test_the_files_that_metadata_name_lie_beside_them_whatever_folder_they_name(tmp_path: Path, prefix: str) -> None:
    folder = record(tmp_path / "drive", "mcap", range(3)).parent
    file, metadata = next(folder.glob("*.mcap")), folder / "metadata.yaml"
    listed = metadata.read_text()
    metadata.write_text(listed.replace(f"- {file.name}", f"- {prefix}{file.name}"))
    assert metadata.read_text() != listed

    # Of two forms of a file the one that is listed counts, such as the packed one beside what was half unpacked.
    half = file.with_suffix(".db3")
    half.write_bytes(b"half")

    (recording,) = find_recordings([folder])

    assert (recording.files, recording.damage) == ((file,), ())
    file.unlink()
    half.unlink()
    (recording,) = find_recordings([folder])
    assert (recording.files, recording.damage) == ((), (f"file '{file.name}' is missing",))


def test_f7_links_inside_the_folder_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    record(tmp_path / "drives" / "own", "mcap", range(2))
    (tmp_path / "drives" / "again").symlink_to(tmp_path / "drives" / "own")
    (tmp_path / "drives" / "own2").mkdir()
    (tmp_path / "drives" / "own2" / "loop").symlink_to(tmp_path / "drives")
    (tmp_path / "drives" / "self").symlink_to("self")

    found = find_recordings([tmp_path / "drives"], remarks := [])

    assert len(found) == 1
    assert remarks == []


def test_f11_names_from_a_recording_are_printed_without_control_characters_and_cut(tmp_path: Path) -> None:
    evil = "/front\x1b[2J\x07\r/" + "x" * 5000
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in (evil, "/rear"):
            writer.write(writer.add_connection(topic, IMAGE, typestore=STORE), START * SECOND, serialised(0, "mcap"))
    with pytest.raises(DataError) as caught:
        Recordings.open([tmp_path / "drive"])
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    topics = [{"name": evil, "message_type": evil, "count": 1, "rate_hz": None}]
    page = bag_text({"recordings": [], "topics": topics, "cameras": [], "salvage": [], "remarks": []})
    assert all(line.isprintable() and len(line) < 300 for line in page.splitlines())
    assert str(ImageError("encoding 'a\x1b]0;title\x07b' is\nnot known")) == "encoding 'a]0;titleb' is\nnot known"
    assert shown("größe/ä") == "größe/ä"
    assert some_of(["a"] * 25) == ", ".join(["a"] * 20) + " and 5 more"


def test_f7_three_thousand_image_topics_take_seconds(tmp_path: Path) -> None:
    file = tmp_path / "drive.mcap"
    with file.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(IMAGE, "ros2msg", b"uint8 x")
        for number in range(3000):
            channel = writer.register_channel(f"/t{number}/image", "cdr", schema)
            writer.add_message(channel, START * SECOND + number, serialised(0, "mcap"), START * SECOND)
        writer.finish()
    begin = time.process_time()
    with pytest.raises(DataError, match=r"/t1014/image and 2980 more") as caught:
        Recordings.open([file])
    assert time.process_time() - begin < 5
    assert len(str(caught.value)) < 1000


def test_f8_f9_gzip_is_read_nowhere_and_refused_in_a_sentence(tmp_path: Path) -> None:
    stored = record(tmp_path / "drive", "mcap", range(3))
    bomb = gzip.compress(bytes(64 << 20))  # of 64 KB
    (tmp_path / "folder").mkdir()
    paths = {name: tmp_path / name for name in ("drive.mcap.gz", "drive.tar.gz", "drive.TGZ", "folder/drive.mcap.gz")}
    lying = {name: tmp_path / name for name in ("l.mcap", "l.db3", "l.bag", "l.mcap.zstd")}
    for path in (*paths.values(), *lying.values()):
        path.write_bytes(bomb)
    sentences = {}
    tracemalloc.start()
    try:
        for name, path in {**paths, **lying, "folder": tmp_path / "folder"}.items():
            with pytest.raises(DataError) as caught:
                Recordings.open([path])
            sentences[name] = str(caught.value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, "the 64 MB are not unpacked"
    assert all("is no recording by its name" in sentences[name] for name in paths)
    assert all(sentences[name].endswith("unpack it first") for name in paths)
    assert sentences["folder"].endswith(
        "holds no recording (.mcap, .db3, .mcap.zstd, .db3.zstd, .bag, .bag.active); "
        "unpack 'drive.mcap.gz' and others first"
    )
    assert all("cannot be read" in sentences[name] for name in lying)
    assert all("\n" not in sentence for sentence in sentences.values())
    assert stored.is_file()


def test_f9_a_chunk_that_says_it_is_packed_with_gzip_is_damage(tmp_path: Path) -> None:
    path = record(tmp_path / "drive", "zstd", range(3))
    content, name = path.read_bytes(), b"\x04\x00\x00\x00zstd"
    assert content.count(name) >= 2, "in a chunk and in the index"
    path.write_bytes(content.replace(name, name[:4] + b"gzip"))
    recordings = Recordings.open([path])
    assert list(recordings.images()) == []
    (salvage,) = recordings.salvage()
    assert "chunk compression 'gzip'" in salvage.reason
