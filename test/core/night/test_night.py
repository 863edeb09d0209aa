"""The loop of `hrda night`: each recording once, whole bundles alone, the same end after any interruption."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from night_world import InterruptionError, Interruptions, World

from hrda_core import whole_files
from hrda_core.errors import BundleError, DataError, HrdaError, RecipeError
from hrda_core.folder_locks import held_folder
from hrda_core.inference.bundle import Bundle
from hrda_core.night import link as links
from hrda_core.night import turn as turns
from hrda_core.night.journal import Store
from hrda_core.night.turn import Reloaded


@pytest.fixture(scope="module", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """Waiting for the disk, as these writers do, is most of the time of these tests, and changes nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "sync", lambda path: None)
        patch.setattr(whole_files, "sync", lambda path: None)
        yield


@pytest.fixture
def world(tmp_path: Path, tiny_bundle: Path) -> World:
    return World(tmp_path / "world", tiny_bundle)


def lines(world: World) -> list[dict[str, object]]:
    return [json.loads(line) for line in (world.store / "journal.jsonl").read_text().splitlines()]


def test_a_better_model_is_adopted_and_the_next_recording_starts_from_it(world: World) -> None:
    world.record("a", "instant", at=1)
    world.record("b", "adapted", at=2)
    assert [entry.outcome for entry in world.night().one_pass()] == ["adopted", "adopted"]
    assert world.goal == "0002_b"
    assert os.readlink(world.link) == "current.nights/bundles/0002_b"  # holds where the folder is mounted elsewhere
    first, second = lines(world)
    assert (first["before"], first["after"]) == (str(world.first), str(world.store / "bundles" / "0001_a"))
    assert (second["before"], second["choice"]) == (first["after"], "adapted")
    assert (world.store / "reports" / "0002_b.html").read_text() == "b from 0001_a"
    assert Bundle.open(world.link).name == "tiny"
    assert not (world.store / "work").exists()
    assert not (world.store / "turn.json").exists()


def test_a_recording_is_adapted_on_once_and_again_when_it_changes(world: World) -> None:
    path = world.record("a", "given")
    assert [entry.outcome for entry in world.night().one_pass()] == ["kept"]
    assert world.night().one_pass() == []
    (path / "a_0.mcap").write_text("instant")
    assert [entry.outcome for entry in world.night().one_pass()] == ["adopted"]
    assert world.adapted == ["a", "a"]
    assert [(line["number"], line["outcome"]) for line in lines(world)] == [(1, "kept"), (2, "adopted")]


def test_a_model_that_is_kept_leaves_its_report_and_no_bundle(world: World) -> None:
    world.record("a", "given")
    world.night().one_pass()
    assert world.goal == "first"
    assert list((world.store / "bundles").iterdir()) == []
    assert lines(world)[0]["report"] == "reports/0001_a.html"
    assert (world.store / "reports" / "0001_a.html").is_file()


def test_a_broken_recording_gets_its_sentence_and_is_not_tried_again_until_it_changes(world: World) -> None:
    path = world.record("a", "broken", at=1)
    world.record("b", "instant", at=2)
    assert [entry.outcome for entry in world.night().one_pass()] == ["broken", "adopted"]
    assert lines(world)[0]["sentence"] == "recording 'a' cannot be read; record again"
    world.night().one_pass()
    assert world.adapted == ["a", "b"]
    os.utime(path / "a_0.mcap", (9, 9))
    world.night().one_pass()
    assert world.adapted == ["a", "b", "a"]


def test_a_recording_that_is_not_finished_is_left_and_told_once(world: World) -> None:
    path = world.record("a", "instant")
    metadata = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").unlink()
    night = world.night()
    assert night.one_pass() == night.one_pass() == []
    (told,) = world.said
    assert "ros2 bag reindex" in told
    (path / "metadata.yaml").write_text(metadata[: len(metadata) // 2])
    assert night.one_pass() == []
    (path / "metadata.yaml").write_text(metadata.replace("a_0.mcap", "a_0.mcap, a_1.mcap"))
    assert night.one_pass() == []
    assert "a_1.mcap' is missing" in world.said[-1]
    (path / "metadata.yaml").write_text(metadata)
    assert [entry.outcome for entry in night.one_pass()] == ["adopted"]


def test_a_recording_whose_files_still_change_is_left(world: World) -> None:
    world.record("a", "instant", at=1_000)
    assert world.night(settle_s=30.0, clock=lambda: 1_020.0).one_pass() == []
    # A clock that was set back after the recording must not hold it up for ever.
    assert len(world.night(settle_s=30.0, clock=lambda: 900.0).one_pass()) == 1


def test_the_node_reloads_after_the_link_has_moved_and_what_it_says_is_noted(world: World) -> None:
    world.record("a", "instant")
    seen = []

    def reload() -> Reloaded:
        seen.append(world.goal)
        return Reloaded(False, "model 'tiny' serves after 0.1 s")

    world.night(reload=reload).one_pass()
    assert seen == ["0001_a"]
    assert lines(world)[0]["reload"] == "model 'tiny' serves after 0.1 s"


def test_a_refusal_of_the_node_moves_the_link_back_and_is_noted(world: World) -> None:
    world.record("a", "instant")
    (entry,) = world.night(reload=lambda: Reloaded(True, "no memory")).one_pass()
    assert (entry.outcome, world.goal) == ("refused", "first")
    assert entry.sentence.endswith("the link leads back: no memory")
    assert world.night().one_pass() == []


def test_a_bundle_that_is_not_whole_is_never_linked(world: World) -> None:
    world.record("a", "instant")
    adapt = world.adapt

    def damaged(recording: Path, given: Path, out: Path, work: Path) -> object:
        decision = adapt(recording, given, out, work)
        (out / "model.onnx").write_bytes(b"half")
        return decision

    (entry,) = world.night(adapt=damaged).one_pass()
    assert (entry.outcome, world.goal) == ("broken", "first")
    assert "does not open" in entry.sentence


def test_a_link_that_somebody_moves_meanwhile_stays_where_it_is(world: World) -> None:
    world.record("a", "instant")
    other = Path(shutil.copytree(world.first, world.first.with_name("other")))
    adapt = world.adapt

    def moved(recording: Path, given: Path, out: Path, work: Path) -> object:
        world.link.unlink()
        world.link.symlink_to(other)
        return adapt(recording, given, out, work)

    (entry,) = world.night(adapt=moved).one_pass()
    assert (entry.outcome, world.goal) == ("kept", "other")
    assert entry.after == str(other)


def test_going_back_is_a_move_of_the_link_and_the_page_says_how(world: World) -> None:
    world.record("a", "instant")
    world.night().one_pass()
    page = (world.store / "nights" / "2026-11-29.html").read_text()  # the night that began on the evening before
    assert f"ln -sfn {world.first} {world.link}" in page
    assert "2026-11-29" in (world.store / "index.html").read_text()
    world.link.unlink()
    world.link.symlink_to(world.first)
    world.record("b", "instant", at=2_000)
    (entry,) = world.night().one_pass()
    assert entry.before == str(world.first)


def test_what_a_page_shows_of_a_recording_is_text(world: World) -> None:
    world.record("<script>x", "given")
    world.night().one_pass()
    assert "<script>" not in (world.store / "nights" / "2026-11-29.html").read_text()
    assert (world.store / "reports" / "0001__script_x.html").is_file()


def test_old_bundles_go_and_those_of_the_link_and_before_stay(world: World) -> None:
    for number in range(5):
        world.record(f"r{number}", "instant", at=number + 1)
    world.night(keep=2).one_pass()
    assert sorted(path.name for path in (world.store / "bundles").iterdir()) == ["0004_r3", "0005_r4"]
    world.record("r9", "given", at=99)
    world.night(keep=0).one_pass()
    assert [path.name for path in (world.store / "bundles").iterdir()] == ["0005_r4"]


def test_what_stands_in_the_way_of_all_does_not_count_against_a_recording(world: World) -> None:
    world.record("a", "instant")

    def full() -> None:
        raise RecipeError("the disk is full; make room")

    with pytest.raises(RecipeError, match="disk is full"):
        world.night(check=full).one_pass()
    assert [entry.outcome for entry in world.night().one_pass()] == ["adopted"]


def test_two_at_once_the_second_is_told_which_process_it_is(world: World) -> None:
    world.store.mkdir()
    with held_folder(world.store, "running the nights"), pytest.raises(RecipeError, match=f"process {os.getpid()} is"):
        world.night().one_pass()
    assert world.adapted == []


def test_a_link_that_is_a_bundle_or_leads_to_none_is_refused_before_anything_is_written(world: World) -> None:
    for link, sentence in ((world.first, "is a bundle itself"), (world.watch, "is no link to a bundle")):
        with pytest.raises(BundleError, match=sentence):
            world.night(link=link).one_pass()
    world.link.unlink()
    world.link.symlink_to("nowhere")
    with pytest.raises(BundleError, match="which is no bundle"):
        world.night().one_pass()
    with pytest.raises(RecipeError, match="is not a folder"):
        (world.link.unlink(), world.link.symlink_to("first"), world.night(watch=world.link / "x").one_pass())
    assert not world.store.exists()


def test_a_damaged_journal_is_named_with_its_line_and_nothing_is_done(world: World) -> None:
    world.record("a", "instant")
    world.store.mkdir()
    (world.store / "journal.jsonl").write_text('{"number": 1}\n')
    with pytest.raises(DataError, match="line 1 of journal"):
        world.night().one_pass()
    assert world.adapted == []


def test_a_recording_that_goes_while_it_is_adapted_on_is_forgotten(world: World) -> None:
    path = world.record("a", "instant")

    def interrupted(*places: Path) -> object:
        raise InterruptionError

    with pytest.raises(InterruptionError):
        world.night(adapt=interrupted).one_pass()
    shutil.rmtree(path)
    assert world.night().one_pass() == []
    assert Store.open(world.store).turn is None
    assert "has changed or gone" in world.said[-1]


STEPS = ("move_link", "write_json", "write_night_pages", "write_whole", "remove_unfinished", "_keep_report")


@pytest.fixture(scope="module")
def places() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(world: World, refused: bool, interruptions: Interruptions) -> None:
    """A pass that is interrupted somewhere, or not."""
    wrap = interruptions.wrap
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(turns, name, wrap(getattr(turns, name)))
        for name in ("begin", "note", "end"):
            patch.setattr(Store, name, wrap(getattr(Store, name)))
        reload = wrap(lambda: Reloaded(refused, "so it is"))
        world.night(adapt=wrap(world.adapt), reload=reload).one_pass()


@settings(max_examples=8)
@given(
    recordings=st.lists(st.sampled_from(["given", "instant", "broken"]), min_size=1, max_size=2),
    refused=st.booleans(),
    ends=st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=3),
)
def test_after_any_interruptions_journal_link_and_pages_are_as_without_them(
    places: Path, tiny_bundle: Path, recordings: list[str], refused: bool, ends: list[tuple[int, bool]]
) -> None:
    found = []
    for name, interruptions in (("whole", []), ("interrupted", ends)):
        shutil.rmtree(places / name, ignore_errors=True)
        world = World(places / name, tiny_bundle)
        for number, recording in enumerate(recordings):
            world.record(f"r{number}", recording, at=number + 1)
        for at, after in interruptions:
            with suppress(InterruptionError):
                run(world, refused, Interruptions(at, after))
            Bundle.open(world.link)
        run(world, refused, Interruptions(0, False))
        found.append((world.goal, world.files))
    assert found[0] == found[1]
    assert len({line.split('"recording": ')[1] for line in found[0][1]["journal.jsonl"].splitlines()}) == len(
        recordings
    )


def test_an_error_of_the_disk_in_the_middle_is_gone_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record("a", "instant")

    def full(*arguments: object) -> None:
        raise DataError("cannot be written; free space")

    with monkeypatch.context() as patch:
        patch.setattr(turns, "write_night_pages", full)
        with pytest.raises(HrdaError, match="free space"):
            world.night().one_pass()
    assert [entry.outcome for entry in world.night().one_pass()] == ["adopted"]
    assert len(lines(world)) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"number": "7"}, "number is 7"),
        ({"number": 0}, "number is 0"),
        ({"night": "../../x"}, "isoformat"),
        ({"outcome": "lost"}, "outcome is one of adopted, kept, refused, broken"),
        ({"before": None}, "before is None"),
        ({"reasons": "abc"}, "reasons is abc"),
        ({"colour": 1}, "it has the key 'colour'"),
    ],
)
def test_f5_a_line_of_the_journal_with_other_values_is_refused_with_its_number(
    world: World, changes: dict[str, object], sentence: str
) -> None:
    world.record("a", "given")
    world.night().one_pass()
    journal = world.store / "journal.jsonl"
    journal.write_text(json.dumps({**json.loads(journal.read_text()), **changes}) + "\n")
    with pytest.raises(DataError, match=f"line 1 of journal .*{sentence}.*; mend or remove that line"):
        world.night().one_pass()


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"number": 1}'])
def test_f5_a_note_of_the_turn_that_makes_no_sense_is_refused_and_nothing_is_removed(world: World, text: str) -> None:
    world.store.mkdir()
    (world.store / "turn.json").write_text(text)
    with pytest.raises(DataError, match=r"turn.json' cannot be read .*; remove it: the recording is then begun again"):
        world.night().one_pass()


def test_f5_a_note_of_the_turn_cannot_have_a_folder_removed_that_is_not_of_the_store(world: World) -> None:
    turn = {"number": 1, "recording": "a", "fingerprint": "x", "given": "x", "began": "x", "night": "2026-11-29"}
    world.store.mkdir()
    (world.store / "turn.json").write_text(json.dumps({**turn, "bundle": str(world.first)}))
    with pytest.raises(DataError, match="which is not this store's"):
        world.night().one_pass()
    assert world.first.is_dir()


@pytest.mark.parametrize("text", ["[]", "{}", '{"choice": "evil", "sentence": "", "reasons": []}'])
def test_f5_a_decision_that_makes_no_sense_is_refused_and_adopts_nothing(world: World, text: str) -> None:
    world.record("a", "given")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "_carry_out", Interruptions(1, after=False).wrap(turns._carry_out))
        with pytest.raises(InterruptionError):
            world.night().one_pass()
    (world.store / "work" / "decision.json").write_text(text)
    with pytest.raises(DataError, match=r"decision.json' holds no decision; remove it"):
        world.night().one_pass()
    assert world.goal == "first"


def test_f7_a_name_that_is_no_text_holds_up_none_of_the_other_recordings(world: World) -> None:
    (world.watch / os.fsdecode(b"\xff.bag")).write_text("")
    os.utime(world.watch / os.fsdecode(b"\xff.bag"), (1, 1))
    inside = world.record("a", "given", at=2)
    (inside / os.fsdecode(b"\xff.txt.mcap")).write_text("")
    world.record("b", "given", at=3)
    entries = world.night().one_pass()
    assert sorted(entry.recording for entry in entries) == ["a", "b"]
    assert any("has a name that is not UTF-8; rename it" in line for line in world.said)


def test_f7_what_the_file_system_refuses_is_a_sentence_and_the_next_pass_goes_on(world: World) -> None:
    world.record("a", "given")
    world.store.mkdir()
    (world.store / "work").write_text("a file where a folder must be")
    with pytest.raises(RecipeError, match=r"work' cannot be used \(Not a directory\)"):
        world.night().one_pass()
    (world.store / "work").unlink()
    assert [entry.outcome for entry in world.night().one_pass()] == ["kept"]
