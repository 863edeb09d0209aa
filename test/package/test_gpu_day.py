"""tools/gpu_day.py: the steps of the day run dry, and the runner keeps what became of each, however a call ends."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Tools = SimpleNamespace


@pytest.fixture
def tools(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """The modules `day_steps` and `gpu_day` of the folder tools."""
    pytest.importorskip("numpy")
    monkeypatch.syspath_prepend(str(repository / "tools"))
    before = signal.getsignal(signal.SIGTERM)
    import day_steps
    import gpu_day

    yield SimpleNamespace(runner=day_steps, day=gpu_day)
    signal.signal(signal.SIGTERM, before)
    for name in ("day_steps", "gpu_day"):
        sys.modules.pop(name, None)


def says(text: str, then: str = "") -> list[str]:
    """A command that prints, and then does something."""
    return [sys.executable, "-S", "-c", f"import sys, time\nprint({text!r}, flush=True)\n{then}"]


def writes(path: Path) -> list[str]:
    return [sys.executable, "-S", "-c", f"open({str(path)!r}, 'a').write('1')"]


def run(tools: Tools, tmp_path: Path, steps: list[Any], state: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
    kept: list[str] = []
    tools.runner.run_day(
        steps, state, lambda s: kept.append(json.dumps(s)), seconds=seconds, folder=tmp_path, say=lambda _: None
    )
    assert not kept or json.loads(kept[-1]) == state
    return state


def test_a_step_that_fails_is_recorded_with_its_last_lines_and_the_day_goes_on(tools: Tools, tmp_path: Path) -> None:
    step = tools.runner.Step
    steps = [
        step("bad", "", 30, [says("no kernel image", "sys.exit(3)"), writes(tmp_path / "never")]),
        step("gone", "", 30, [[str(tmp_path / "no_such_program")]]),
        step("good", "", 30, [says("fine")]),
    ]
    state = run(tools, tmp_path, steps, {})
    assert state["bad"]["status"] == "failed"
    assert state["bad"]["why"] == "exit code 3"
    assert state["bad"]["last_lines"] == ["no kernel image"]
    assert not (tmp_path / "never").exists()
    assert state["gone"]["status"] == "failed"
    assert state["gone"]["why"].startswith("it does not start")
    assert state["good"]["status"] == "done"


def test_a_step_beyond_its_time_is_ended_with_all_that_it_started(tools: Tools, tmp_path: Path) -> None:
    child = "import subprocess; subprocess.Popen(['sleep', '300']); print(1, flush=True); time.sleep(300)"
    state = run(tools, tmp_path, [tools.runner.Step("slow", "", 1.5, [says("begun", child)])], {})
    assert state["slow"]["status"] == "timed out"
    assert state["slow"]["last_lines"][0] == "begun"
    assert state["slow"]["seconds"] < 60


def test_a_step_that_can_go_on_is_stopped_and_begun_again_by_the_next_call(tools: Tools, tmp_path: Path) -> None:
    train = tools.runner.Step("training", "", 1.5, [says("step 1", "time.sleep(300)")], goes_on=True)
    state = run(tools, tmp_path, [train], {})
    assert state["training"]["status"] == "stopped"
    again = tools.runner.Step("training", "", 30, [says("step 2")], goes_on=True)
    assert run(tools, tmp_path, [again], state)["training"]["status"] == "done"


def test_without_time_or_with_a_reason_a_step_is_skipped_and_says_so(tools: Tools, tmp_path: Path) -> None:
    step = tools.runner.Step
    command = [writes(tmp_path / "never")]
    state = run(tools, tmp_path, [step("late", "", 30, command)], {}, seconds=0.5)
    assert state["late"] == {"status": "skipped", "why": "no time is left; call again to go on"}
    state = run(tools, tmp_path, [step("absent", "", 30, command, why_not=lambda: "rclpy is absent")], {})
    assert state["absent"] == {"status": "skipped", "why": "rclpy is absent"}
    assert not (tmp_path / "never").exists()


def test_figures_are_read_also_after_a_failure_and_never_from_an_earlier_call(tools: Tools, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text('{"old": 1}')
    step = tools.runner.Step
    assert "result" not in run(tools, tmp_path, [step("silent", "", 30, [says("")], out)], {})["silent"]
    write = says("", f"open({str(out)!r}, 'w').write('{{\"p50\": 2}}'); sys.exit(1)")
    assert run(tools, tmp_path, [step("half", "", 30, [write], out)], {})["half"]["result"] == {"p50": 2}
    write = says("", f"open({str(out)!r}, 'w').write('{{\"p5')")
    assert "result" not in run(tools, tmp_path, [step("torn", "", 30, [write], out)], {})["torn"]


def test_a_step_finds_no_folder_of_an_earlier_call(tools: Tools, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "half").touch()
    step = tools.runner.Step("export", "", 30, [says("", f"__import__('os').mkdir({str(bundle)!r})")], leaves=bundle)
    assert run(tools, tmp_path, [step], {})["export"]["status"] == "done"
    assert not (bundle / "half").exists()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_call_that_ends_during_any_step_goes_on_there(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    names = ("first", "second", "third")
    steps = [tools.runner.Step(name, "", 30, [writes(tmp_path / name)]) for name in names]
    record = tmp_path / "state.json"
    call, calls = tools.runner._call, iter(range(9))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return call(*arguments)

    keep: Callable[[Any], object] = lambda state: record.write_text(json.dumps(state))  # noqa: E731
    options = {"seconds": 60.0, "folder": tmp_path, "say": lambda _: None}
    with monkeypatch.context() as patch:
        patch.setattr(tools.runner, "_call", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tools.runner.run_day(steps, {}, keep, **options)
    state = json.loads(record.read_text())
    assert [state.get(name, {}).get("status") for name in names[: at + 1]] == ["done"] * at + ["interrupted"]
    tools.runner.run_day(steps, state, keep, **options)
    assert [(tmp_path / name).read_text() for name in names] == ["1", "1", "1"]
    assert {entry["status"] for entry in json.loads(record.read_text()).values()} == {"done"}


def test_ctrl_c_ends_the_running_command_too(tools: Tools, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = says("", f"open({str(begun)!r}, 'w').write(str(__import__('os').getpid())); time.sleep(300)")
    script = (
        "import day_steps, pathlib\n"
        f"step = day_steps.Step('slow', '', 200, [{command!r}])\n"
        f"day_steps.run_day([step], {{}}, lambda s: None, seconds=200, folder=pathlib.Path({str(tmp_path)!r}))\n"
    )
    path = f"{Path(tools.runner.__file__).parent}:{Path(__file__).resolve().parents[2]}"
    process = subprocess.Popen([sys.executable, "-c", script], env={"PYTHONPATH": path}, stderr=subprocess.PIPE)
    while not (begun.exists() and begun.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not Path(f"/proc/{begun.read_text()}").exists()


def day(tools: Tools, tmp_path: Path, steps: list[Any], *options: str) -> int:
    arguments = ["--dry", "--work", str(tmp_path), *options]
    code: int = tools.day.main(arguments, steps=lambda _: steps)
    return code


def test_a_second_call_keeps_what_is_finished_and_repeats_what_is_asked_for(tools: Tools, tmp_path: Path) -> None:
    count = tmp_path / "count"
    steps = [tools.runner.Step("one", "a | b", 30, [writes(count)])]
    assert day(tools, tmp_path, steps) == 0
    assert day(tools, tmp_path, steps) == 0
    assert count.read_text() == "1"
    assert day(tools, tmp_path, steps, "--again", "one") == 0
    assert count.read_text() == "11"
    assert "| one | a \\| b | done |" in (tmp_path / "gpu_dry.md").read_text()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{}", (), "is not the record of a GPU day"),
        ('{"settings": {"name": "x"}, "figures": {"steps": {}}}', (), "give another --name"),
        ("{", (), "gpu_dry.json"),
        (None, ("--only", "nothing"), "there is no step 'nothing'; choose of one"),
        (None, ("--name", "../x"), "is not one for files"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    tools: Tools,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    options: tuple[str, ...],
    message: str,
) -> None:
    record = tmp_path / "gpu_dry.json"
    if content is not None:
        record.write_text(content)
    steps = [tools.runner.Step("one", "", 30, [writes(tmp_path / "never")])]
    assert day(tools, tmp_path, steps, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (record.read_text() if content is not None else None) == content
    assert not (tmp_path / "never").exists()


def test_without_a_gpu_the_day_says_so(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", blind)
    assert tools.day.main(["--work", str(tmp_path)]) == 2
    assert "PyTorch sees no NVIDIA GPU here" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert tools.day.main(["--work", str(tmp_path)]) == 2
    assert "PyTorch is not installed" in capsys.readouterr().err


def test_the_dry_day_measures_peaks_and_parity_and_says_why_it_skips_the_rest(tools: Tools, tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed here")
    cheap = ["peaks", "golden_parity", "plans_hrda_mitb5", "tensorrt_fp16", "node", "training"]
    assert tools.day.main(["--dry", "--work", str(tmp_path), "--only", *cheap]) == 0
    steps = json.loads((tmp_path / "gpu_dry.json").read_text())["figures"]["steps"]
    assert steps["peaks"]["result"]["tflops"]["bf16"] > 0
    assert steps["golden_parity"]["result"]["fp32"]["reached"]
    skipped = [name for name, entry in steps.items() if entry["status"] == "skipped"]
    assert skipped == cheap[2:]
    assert all(steps[name]["why"].startswith("a dry day: ") for name in skipped)
    assert "golden_parity" in (tmp_path / "gpu_dry.md").read_text()


class AcceptedError(Exception):
    """The parser took a command; nothing is done about it."""


def test_the_parser_takes_every_hrda_command(tools: Tools, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    from hrda_training.__main__ import main

    parse = jsonargparse.ArgumentParser.parse_args

    def parse_and_stop(self: object, *arguments: object, **options: object) -> None:
        parse(self, *arguments, **options)
        raise AcceptedError

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.chdir(repository)
    steps = tools.day.steps_of(tools.day.Day(repository / "runs" / "gpu_day" / "x", False))
    commands = [command[3:] for step in steps for command in step.commands if command[1:3] == ["-m", "hrda_training"]]
    assert len(commands) == 8  # ONNX Runtime, three precisions of two, training
    for command in commands:
        with pytest.raises(AcceptedError):
            print(command, "exit code", main(command))


def test_every_script_and_option_of_a_step_exists(tools: Tools, tmp_path: Path) -> None:
    for dry in (True, False):
        for step in tools.day.steps_of(tools.day.Day(tmp_path, dry)):
            for command in step.commands:
                scripts = [word for word in command if word.endswith(".py")]
                text = "".join(Path(script).read_text(encoding="utf-8") for script in scripts)
                named = [word for word in command if word.startswith("--")]
                assert not [word for word in named if scripts and f'"{word}"' not in text]
