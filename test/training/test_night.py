"""`hrda night` as a user meets it, and the processes that it starts."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_bag import write_made_bag
from night_world import World

from hrda_core.errors import DataError, RecipeError, missing_text
from hrda_core.night.turn import BrokenError, Decision
from hrda_core.whole_files import replaced_folder, write_whole
from hrda_training import night, night_processes
from hrda_training.__main__ import _refusal, main
from hrda_training.night_processes import adapt_by_process, reload_by_process

RESULT = {"choice": "instant", "reasons": ["gains 3 points"], "refusals": {"adapted": ["masks flicker"]}}
ADAPTS = f"""
import json, sys
from pathlib import Path
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
Path(words["--work"]).mkdir(exist_ok=True)
Path(words["--json"]).write_text(json.dumps({RESULT!r}))
Path(words["--work"], "words.json").write_text(json.dumps(words))
"""


def program(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def adapt(folder: Path, code: str, check: object = lambda: None) -> Decision:
    return adapt_by_process(
        ["--effort", "instant"],
        check,  # type: ignore[arg-type]
        folder / "drive",
        folder / "given",
        folder / "out",
        folder,
        program=program(code),
    )


def test_an_adaptation_gets_its_places_and_its_verdict_becomes_the_decision(tmp_path: Path) -> None:
    decision = adapt(tmp_path, ADAPTS)
    assert decision.choice == "instant"
    assert decision.sentence == "the model with statistics of the recording is better: gains 3 points"
    assert decision.reasons == ("gains 3 points", "not adapted: masks flicker")
    words = json.loads((tmp_path / "adapt" / "words.json").read_text())
    assert words["--bag"] == str(tmp_path / "drive")
    assert (words["--model"], words["--out"]) == (str(tmp_path / "given"), str(tmp_path / "out"))
    assert words["--effort"] == "instant"


def refusals_of_the_system(place: Path) -> list[str]:
    """Sentences in which a command says so, as it makes them."""
    place.write_text("no folder")
    with pytest.raises(DataError) as in_a_file:
        write_whole(place / "file", "")
    with pytest.raises(DataError) as in_a_folder, replaced_folder(place / "folder", "result.json"):
        pass
    errors = [OSError(number, "") for number in (errno.ENOSPC, errno.EFBIG, errno.EMFILE)]
    errors.append(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"))
    package = missing_text("torch", "train", ImportError("libtorch_cpu.so: failed to map segment"))
    return [str(in_a_file.value), str(in_a_folder.value), *(str(_refusal(error)) for error in errors), package]


def test_a_recording_does_not_answer_for_what_the_system_refuses_and_what_is_done_stays(tmp_path: Path) -> None:
    for sentence in refusals_of_the_system(tmp_path / "file"):
        (tmp_path / "adapt").mkdir(exist_ok=True)
        (tmp_path / "adapt" / "begun").touch()
        code = f"import sys; print('hrda adapt: error: ' + {sentence!r}, file=sys.stderr); sys.exit(2)"
        with pytest.raises(DataError, match=re.escape(f"drive' cannot be adapted on now: {sentence}")):
            adapt(tmp_path, code)
        assert (tmp_path / "adapt" / "begun").exists()


def test_a_recording_does_not_answer_for_a_model_that_was_replaced_while_it_was_adapted(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    manifest = tmp_path / "given" / "manifest.yaml"
    manifest.write_text("of one model")
    replaced = (
        "from pathlib import Path; import sys\n"
        f"manifest = Path({str(manifest)!r})\n"
        "if manifest.read_text() == 'of one model':\n"
        "    manifest.write_text('of another')\n"
        "    print('hrda adapt: error: the model was changed since it was opened', file=sys.stderr)\n"
        "    sys.exit(2)\n"
    )
    assert adapt(tmp_path, replaced + ADAPTS).choice == "instant"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import sys; print('hrda adapt: error: no image; record again', file=sys.stderr); sys.exit(2)",
            "no image; record again",
        ),
        (
            "import sys; print('ZeroDivisionError', file=sys.stderr); sys.exit(1)",
            "ended with exit code 1 (ZeroDivisionError)",
        ),
        ("import os; os.kill(os.getpid(), 9)", "runs out of memory"),
    ],
)
def test_an_adaptation_that_fails_tells_why(tmp_path: Path, code: str, sentence: str) -> None:
    with pytest.raises(BrokenError, match=re.escape(sentence)):
        adapt(tmp_path, code)


def test_what_an_adaptation_does_is_passed_on_and_its_advice_to_a_caller_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapt(tmp_path, ADAPTS + "print('judging', file=sys.stderr); print('the same command with --ask')")
    told = capfd.readouterr()
    assert "judging" in told.err
    assert "--ask" not in told.out + told.err


def test_a_failure_of_the_machine_is_not_one_of_the_recording(tmp_path: Path) -> None:
    def full() -> None:
        raise RecipeError("no space; make room")

    with pytest.raises(RecipeError, match="no space"):
        adapt(tmp_path, "import sys; sys.exit(2)", full)


def test_an_interrupted_adaptation_interrupts_the_night_and_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        adapt(tmp_path, "import sys; sys.exit(130)")


def test_what_an_interrupted_adaptation_left_and_cannot_be_gone_on_with_is_begun_afresh(tmp_path: Path) -> None:
    (tmp_path / "adapt").mkdir()
    (tmp_path / "adapt" / "options.json").write_text("of another release")
    refuses = "import os, sys\nif os.path.exists(sys.argv[sys.argv.index('--work') + 1]): sys.exit(2)\n"
    assert adapt(tmp_path, refuses + ADAPTS).choice == "instant"


def test_when_the_night_is_killed_its_adaptation_ends_too(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hrda_training.night_processes import adapt_by_process\n"
        "child = 'import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)'\n"
        "folder = Path(sys.argv[1])\n"
        "adapt_by_process([], lambda: None, folder, folder, folder, folder,"
        " program=[sys.executable, '-S', '-c', child])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    child = int(parent.stderr.readline())
    parent.kill()
    parent.wait()
    parent.stderr.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and _state(child) != "Z":
        assert time.monotonic() < deadline, "the adaptation goes on without the night"
        time.sleep(0.05)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_what_the_process_says_that_calls_the_node_is_taken_and_its_death_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = {"refused": True, "message": "no memory"}
    answers = iter([(0, f"a library\n{json.dumps(says)}\n"), (-11, "")])

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-m", "hrda_ros.start.reload_call", "/n", str(tmp_path)]
        code, out = next(answers)
        return subprocess.CompletedProcess(command, code, out)

    monkeypatch.setattr(subprocess, "run", run)
    first, second = reload_by_process("/n", tmp_path), reload_by_process("/n", tmp_path)
    assert (first.refused, first.message) == (True, "no memory")
    assert (second.refused, second.message) == (
        False,
        "not reloaded, the process that calls ROS ended with exit code -11",
    )


@pytest.fixture
def world(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A made-up world whose adaptation the command takes."""
    world = World(tmp_path / "world", tiny_bundle)
    monkeypatch.setattr(night_processes, "adapt_by_process", lambda options, check, *places: world.adapt(*places))
    monkeypatch.setattr(night, "_check", lambda request: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.chdir(tmp_path)
    return world


def test_one_pass_ends_with_0_and_writes_what_it_did(world: World, tmp_path: Path) -> None:
    world.record("a", "instant")
    words = ["night", "--watch", "world/drives", "--model", "world/current", "--once", "--json", "did.json"]
    assert main(words) == 0
    assert world.goal == "0001_a"
    did = json.loads((tmp_path / "did.json").read_text())
    assert did["store"] == str(world.store)
    assert [(entry["recording"], entry["outcome"]) for entry in did["entries"]] == [("a", "adopted")]
    assert main(words) == 0
    assert json.loads((tmp_path / "did.json").read_text())["entries"] == []


def test_the_options_of_the_adaptation_go_on_to_it(tmp_path: Path) -> None:
    given = {"topic": ("/front", "/rear"), "source": "none", "camera_areas": tmp_path / "areas.yaml"}
    words = night.NightRequest(tmp_path, tmp_path, **given).adapt_options  # type: ignore[arg-type]
    pairs = dict(zip(words[:-3:2], words[1:-3:2], strict=True))
    assert (pairs["--source"], pairs["--camera_areas"]) == ("none", str(tmp_path / "areas.yaml"))
    assert words[-3:] == ["--topic", "/front", "/rear"]


def test_what_stands_in_the_way_later_is_waited_for_and_said_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([RecipeError("full; make room"), RecipeError("full; make room"), [], KeyboardInterrupt()])
    said: list[str] = []

    def one_pass() -> object:
        end = next(ends)
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(night, "_say", said.append)
    with pytest.raises(KeyboardInterrupt):
        night._go_on(one_pass, 0.0)
    assert said == ["waiting: full; make room"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--reload", "segment_node"], "--reload is the full name of a node"),
        (["--held_out", "0.9"], "--held_out is a share"),
        (["--keep", "-1"], "--keep is 0 or more"),
        (["--every_s", "1e300"], "--every_s and --settle_s are at most 86400 seconds"),
        (["--effort", "fast"], "instant, quick, normal, full"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence(
    world: World, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["night", "--watch", "world/drives", "--model", "world/current", "--once", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not world.store.exists()


def test_a_model_without_weights_or_a_package_that_is_missing_is_told_before_a_recording_is_begun(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path / "world", tiny_bundle)
    world.record("a", "instant")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    words = ["night", "--watch", str(world.watch), "--model", str(world.link), "--once"]
    assert main(words) == 2
    assert "has no model.safetensors" in capsys.readouterr().err
    find = night.importlib.util.find_spec
    monkeypatch.setattr(night.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert main(words) == 2
    assert "'torch' is needed here" in capsys.readouterr().err
    assert not (world.store / "turn.json").exists()


@pytest.mark.parametrize("option", ["--camera_areas", "--label_space"])
def test_a_file_of_an_option_that_is_missing_is_told_before_a_recording_is_begun(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    world = World(tmp_path / "world", tiny_bundle)
    (world.first / "model.safetensors").write_bytes(b"weights")
    world.record("a", "instant")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    words = ["night", "--watch", str(world.watch), "--model", str(world.link), "--once", option, "absent.yaml"]
    assert main(words) == 2
    assert "absent.yaml" in capsys.readouterr().err
    assert not (world.store / "turn.json").exists()


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not os.environ.get("HRDA_NIGHT_TESTS"), reason="minutes on a busy machine: HRDA_NIGHT_TESTS=1 runs it"
)
def test_a_real_adaptation_of_a_small_recording_ends_in_the_journal_with_its_report(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from network_bundle import write_network_bundle

    write_network_bundle(tmp_path / "first")
    (tmp_path / "current").symlink_to("first")
    (tmp_path / "drives").mkdir()
    rng = np.random.default_rng(0)
    write_made_bag(tmp_path / "drives" / "noon", (_street(rng, number) for number in range(24)), hz=1.0)
    broken = write_made_bag(tmp_path / "drives" / "torn", (_street(rng, 0) for _ in range(2)))
    next(broken.glob("*.mcap")).write_bytes(b"no recording")
    options = ["--watch", "drives", "--model", "current", "--once", "--settle_s", "0", "--source", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "hrda_training", "night", *options, "--threads", "1"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "current.nights" / "journal.jsonl").read_text().splitlines()]
    # Without labelled images the verdict cannot be sure, and keeps the model.
    assert {line["recording"]: line["outcome"] for line in lines} == {"noon": "kept", "torn": "broken"}
    (noon,) = (line for line in lines if line["recording"] == "noon")
    assert "Adaptation of" in (tmp_path / "current.nights" / noon["report"]).read_text()
    assert os.readlink(tmp_path / "current") == "first"


def _street(rng: np.random.Generator, number: int) -> np.ndarray:
    from two_domains import draw_street

    return draw_street(rng, (64, 96), target=True)[0]
