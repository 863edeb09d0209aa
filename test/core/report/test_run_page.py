"""The report of a run, of a made run folder."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrda_core.errors import DataError
from hrda_core.labels import CAMVID11
from hrda_core.report.run_page import write_report

NAME = "made <script>alert(1)</script> run"
FILES = ("recipe.yaml", "environment.json", "log.jsonl", "evaluations.jsonl", "panels", "model.safetensors")


def _log_line(iteration: int, iterations: int) -> dict[str, object]:
    metrics = {"pseudo_weight": iteration / iterations}
    if iteration % 10 == 0:
        metrics["source.accuracy"] = 0.5
    return {
        "iteration": iteration,
        "iterations": iterations,
        "losses": {"source.fused": 2 / iteration, "feature_distance": 0.01},
        "metrics": metrics,
        "learning_rate": 6e-5,
        "seconds": 0.5,
        "wait_seconds": 0.25,
    }


def _evaluation(iteration: int, network: str, mean_iou: float) -> dict[str, object]:
    return {
        "iteration": iteration,
        "network": network,
        "name": "camvid day",
        "groups": "camvid11",
        "images": 101,
        "iou": {name: None if name == "pole" else mean_iou for name in CAMVID11.names},
        "mean_iou": mean_iou,
        "pixel_accuracy": 0.8123,
        "boundary_f": 0.4567,
        "confusion": np.eye(11, 12, dtype=int).tolist(),
    }


def _write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_run(folder: Path, *, done: int = 40, iterations: int = 40, panels: int = 2) -> Path:
    (folder / "panels").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"name: {NAME}\niterations: {iterations}\noptim: {{lr: 0.1234}}\n")
    environment = {
        "versions": {"torch": "9.8.7"},
        "machine": {"cores": 2},
        "commit": "abc1234",
        "command": "hrda train <made> --run here",
        "device": "cpu",
        "weights": {"source": "encoder.pth", "loaded": 41, "of": 42},
        "deviations": ["batch 1 instead of <2>"],
        "audit": "road 31.6 %",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    _write_lines(folder / "log.jsonl", [_log_line(i, iterations) for i in range(1, done + 1)])
    scores = [
        _evaluation(20, "student", 0.1111),
        _evaluation(40, "student", 0.3456),
        _evaluation(40, "teacher", 0.3789),
    ]
    _write_lines(folder / "evaluations.jsonl", scores)
    for index in range(panels):
        picture = np.full((8, 8, 3), 10 * index, np.uint8)
        cv2.imwrite(str(folder / "panels" / f"iteration_{20 * (index + 1):06d}.jpg"), picture)
    if done == iterations:
        (folder / "model.safetensors").touch()
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a whole run."""
    return write_report(_write_run(tmp_path_factory.mktemp("run") / "made")).read_text()


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, which take most of the time, in tests of what stands around them."""
    for name in ("draw_curves", "draw_bars", "draw_confusion"):
        monkeypatch.setattr(f"hrda_core.report.run_page.{name}", lambda *_, **__: b"picture")


def test_the_report_holds_the_last_scores_of_each_network(finished: str) -> None:
    for value in ("34.6", "37.9", "81.2", "45.7", "101 images", "camvid day, student", "camvid day, teacher"):
        assert value in finished
    assert "11.1" not in finished  # an earlier score; the curve shows it
    assert re.search(r"<td>pole</td><td class=\"number\">–</td><td class=\"number\">–</td>", finished)


def test_the_report_says_what_the_run_was(finished: str) -> None:
    assert '<span class="state finished">' in finished
    assert "40 of 40 iterations" in finished
    for value in ("lr: 0.1234", "9.8.7", "abc1234", "41 of 42 tensors from encoder.pth", "road 31.6 %"):
        assert value in finished
    assert re.search(r'<p class="warning">Weights', finished)
    assert "batch 1 instead of &lt;2&gt;" in finished


def test_the_report_says_where_the_time_went(finished: str) -> None:
    assert "20.0 s" in finished  # 40 steps of 0.5 s
    assert "10.0 s, 33 %" in finished
    assert "runtime.workers" in finished


def test_f11_names_and_commands_are_escaped(finished: str) -> None:
    assert "<script" not in finished
    assert "&lt;script&gt;alert(1)" in finished
    assert "hrda train &lt;made&gt;" in finished


def test_the_report_needs_nothing_beside_it(finished: str) -> None:
    assert not re.search(r"https?://|//[a-z]+\.|@import|<link|url\(", re.sub(r"base64,[^\"]+", "", finished))
    sources = re.findall(r'src="([^"]*)"', finished)
    assert len(sources) == 4 + 1 + 2 + 2  # curves, bars, confusions, panels
    for source in sources:
        kind, _, content = source.partition(";base64,")
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        assert kind in ("data:image/png", "data:image/jpeg")
        assert picture is not None


@pytest.mark.usefixtures("quick_figures")
def test_the_newest_panel_comes_first_and_old_ones_are_counted(tmp_path: Path) -> None:
    text = write_report(_write_run(tmp_path / "run", panels=14)).read_text()
    shown = [int(value) for value in re.findall(r"<h3>Iteration (\d+)</h3>", text)]
    assert shown == [20 * index for index in range(14, 2, -1)]
    assert "2 older ones" in text


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_leaves_its_part_out(tmp_path: Path, name: str) -> None:
    run = _write_run(tmp_path / "run")
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = write_report(run).read_text()
    if name == "model.safetensors":
        assert "can be resumed" in text
    else:
        assert re.search(rf"<li>The run folder has no [a-z ]*{name}", text)
    assert ("34.6" in text) == (name != "evaluations.jsonl")


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json", "log.jsonl", "evaluations.jsonl"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    run = _write_run(tmp_path / "run")
    text = (run / name).read_text()
    damage = {"recipe.yaml": "a: [", "environment.json": text[:40]}
    (run / name).write_text(damage.get(name, text + text.splitlines()[0][:30] + '\n[1]\n{"iteration": "x"}\n'))
    report = write_report(run).read_text()
    assert re.search(rf"<li>.*{name}.*</li>", report)
    assert ("3 damaged line(s)" in report) == name.endswith("jsonl")


def test_an_empty_folder_has_a_report_too(tmp_path: Path) -> None:
    text = write_report(tmp_path).read_text()
    assert tmp_path.name in text
    assert "No steps are logged." in text


@pytest.mark.usefixtures("quick_figures")
def test_a_run_that_ended_early_says_so(tmp_path: Path) -> None:
    stopped, failed = (_write_run(tmp_path / name, done=15) for name in ("stopped", "failed"))
    (failed / "bad_batch.safetensors").touch()
    for run, words in ((stopped, "15 of 40 iterations; the run was interrupted"), (failed, "A loss was not finite")):
        text = write_report(run).read_text()
        assert f'<span class="state {run.name}">' in text
        assert words in text


@pytest.mark.parametrize("count", [float("inf"), float("nan")])
def test_a_number_of_iterations_that_is_none_does_not_stop_the_report(tmp_path: Path, count: float) -> None:
    run = _write_run(tmp_path / "run", done=15)
    (run / "log.jsonl").write_text(json.dumps(_log_line(16, 40) | {"iterations": count}) + "\n")
    assert "16 of 40" in write_report(run).read_text()  # as the recipe says


def test_losses_that_are_not_finite_do_not_stop_the_report(tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run", done=15)
    line = _log_line(16, 40) | {"losses": {"source.fused": float("nan"), "feature_distance": float("inf")}}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert "16 of 40" in write_report(run).read_text()


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        write_report(tmp_path / "absent")
