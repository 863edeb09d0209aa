"""The report of an adaptation, of made-up measures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19
from hrda_core.report.adaptation_measures import MEASURES
from hrda_core.report.adaptation_page import AdaptationReport, ChangedFrame, write_adaptation_report

SIZE = (48, 64)
HOSTILE = "$\\no_formula$<script>alert('x')</script>\"><img src=http://evil.example/x>"


def _measures(gain: float) -> dict[str, Any]:
    shares = np.zeros(19)
    shares[[0, 2, 10]] = (0.5 - gain, 0.3, 0.2 + gain)
    values = {measure.key: 0.6 + gain for measure in MEASURES}
    iou = {"road": 0.9 - gain, "rider": None}
    return {**values, "flicker": 0.1 - gain, "histogram": shares.tolist(), "source_iou": iou, "eval_iou": iou}


def _frame(name: str = "/camera/front 12.3 s") -> ChangedFrame:
    rng = np.random.default_rng(0)
    given = np.full(SIZE, 2, np.uint8)
    adapted = given.copy()
    adapted[:, :32] = 10
    rgb = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    return ChangedFrame(name, rgb, {"given": given, "instant": given, "adapted": adapted}, 0.5)


def _report(choice: str = "adapted", **changes: Any) -> AdaptationReport:
    whole = AdaptationReport(
        title="Adaptation of made",
        command="hrda adapt --bag drive",
        model="made, 0123456789ab",
        out="models/night",
        judgement={
            "frames": 20,
            "candidates": {"given": _measures(0), "instant": _measures(-0.01), "adapted": _measures(0.05)},
        },
        verdict={
            "choice": choice,
            "chosen_by": "verdict",
            "reasons": ["consistency rose"],
            "refusals": {"instant": ["no gain beyond chance"]},
            "labels_agree": None,
        },
        selection={"counts": {"kept": 30, "blurred": 4}, "frames": 34, "cameras": ["/front"], "span_s": 61.0},
        selection_picture=cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes(),
        changed=[_frame()],
        run=None,
        notes=["No labelled source was given."],
        stages=[("frames", 12.0), ("train", 240.0)],
        settings={"seed": 7, "model_files": {"model.onnx": "ab12"}},
        label_space=CITYSCAPES19,
    )
    return replace(whole, **changes)


def _page(folder: Path, report: AdaptationReport) -> str:
    return write_adaptation_report(folder / "report.html", report).read_text(encoding="utf-8")


def _pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in found]


def _row(page: str, name: str) -> str:
    found = re.search(rf"<tr><td[^>]*><b>{name}</b>.*?</tr>", page, re.DOTALL)
    assert found
    return found.group(0)


def _write_run(folder: Path, panels: int) -> Path:
    (folder / "panels").mkdir(parents=True)
    lines = [
        {"iteration": step, "iterations": 9, "losses": {"source": 1 / step}, "metrics": {"pseudo_weight": 0.1}}
        for step in range(1, 10)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in range(panels):
        cv2.imwrite(str(folder / "panels" / f"iteration_{step:06d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("choice", "headline"),
    [
        ("adapted", "The adapted model is better: adopt it"),
        ("instant", "Instant adaptation is enough"),
        ("given", "Keep the old model"),
    ],
)
def test_every_choice_has_its_headline(choice: str, headline: str, tmp_path: Path) -> None:
    page = _page(tmp_path, _report(choice))
    assert headline in page
    assert "Consistency rose." in page
    assert "No gain beyond chance." in page


def test_the_swap_is_given_for_a_new_model_only_and_works_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = _page(tmp_path, _report(out="my models/night"))
    assert f"ros2 param set /segment_node model &#39;{tmp_path}/my models/night&#39;" in page
    assert "ros2 service call /segment_node/reload std_srvs/srv/Trigger" in page
    assert "ros2 service call" not in _page(tmp_path, _report("given"))


def test_a_choice_by_option_is_not_called_better(tmp_path: Path) -> None:
    verdict = {"choice": "adapted", "chosen_by": "option", "reasons": [], "refusals": {"adapted": ["it forgot"]}}
    page = _page(tmp_path, _report(verdict=verdict))
    assert "was chosen by option" in page
    assert "adopt it" not in page
    assert "The measurements speak against this choice" in page


@pytest.mark.parametrize(("agree", "text"), [(True, "They bear it out."), (False, "contradict the verdict")])
def test_labels_that_were_given_are_heard(agree: bool, text: str, tmp_path: Path) -> None:
    report = _report()
    assert text in _page(tmp_path, replace(report, verdict={**report.verdict, "labels_agree": agree}))
    assert text not in _page(tmp_path, report)


def test_better_and_worse_follow_the_direction_of_the_measure(tmp_path: Path) -> None:
    page = _page(tmp_path, _report())
    marks = re.compile(r'<td class="number (\w*)">')
    assert marks.findall(_row(page, "Agreement when mirrored")) == ["", "worse", "better"]
    assert marks.findall(_row(page, "Flicker")) == ["", "worse", "better"]
    assert marks.findall(_row(page, "Changed pixels")) == ["", "", ""]
    assert "+5.0 ✓" in _row(page, "Agreement when mirrored")
    assert "−5.0 ✓" in _row(page, "Flicker")


def test_what_was_not_measured_is_listed_and_has_no_row(tmp_path: Path) -> None:
    page = _page(tmp_path, _report(judgement={"candidates": {"given": {"confidence": 0.5}}}))
    assert "Not measured here: Estimated mIoU;" in page
    assert "<b>Flicker</b>" not in page


@pytest.mark.parametrize("candidate", [None, {}, {measure.key: None for measure in MEASURES} | {"histogram": None}])
@pytest.mark.parametrize("choice", ["given", "instant", "adapted"])
def test_nothing_anywhere_still_gives_a_page_without_empty_sections(
    candidate: Mapping[str, Any] | None, choice: str, tmp_path: Path
) -> None:
    empty = _report(
        judgement={"frames": None, "candidates": {"given": candidate, "adapted": candidate}},
        verdict={"choice": choice, "reasons": None, "refusals": None},
        selection={},
        selection_picture=None,
        changed=[],
        notes=[],
        stages=[],
        settings={},
        command="",
    )
    page = _page(tmp_path, empty)
    sections = re.split(r"<h2>", page)[1:]
    assert len(sections) == 11
    for section in sections:
        assert re.search(r"<p>\w|<td>\w", section.split("</h2>")[1]), section
    assert "None" not in page
    assert "nan" not in page


def test_f11_hostile_text_is_escaped_everywhere(tmp_path: Path) -> None:
    measures = {**_measures(0), "source_iou": {HOSTILE: 0.5}, "eval_iou": {HOSTILE: 0.5}}
    space = replace(CITYSCAPES19, classes=(HOSTILE, *CITYSCAPES19.classes[1:]))
    labels = {"given": np.zeros(SIZE, np.uint8), HOSTILE: np.full(SIZE, 255, np.uint8)}
    report = AdaptationReport(
        title=HOSTILE,
        command=HOSTILE,
        model=HOSTILE,
        out=HOSTILE,
        judgement={"frames": HOSTILE, "candidates": {"given": measures, HOSTILE: measures}},
        verdict={"choice": HOSTILE, "reasons": [HOSTILE], "refusals": {HOSTILE: [HOSTILE]}},
        selection={"counts": {HOSTILE: HOSTILE}, "frames": 1, "cameras": [HOSTILE], "span_s": 1.0},
        selection_picture=None,
        changed=[ChangedFrame(HOSTILE, np.zeros((*SIZE, 3), np.uint8), labels, 1.0)],
        run=Path(HOSTILE),
        notes=[HOSTILE],
        stages=[(HOSTILE, 1.0)],
        settings={HOSTILE: {HOSTILE: [HOSTILE]}},
        label_space=space,
    )
    page = _page(tmp_path, report)
    assert "<script" not in page
    assert "<img src=http" not in page
    assert page.count("&lt;script&gt;") > 20


def test_the_page_needs_nothing_beside_it_and_its_pictures_decode(tmp_path: Path) -> None:
    page = _page(tmp_path, _report(run=_write_run(tmp_path / "run", panels=9)))
    assert set(re.findall(r"(?:src|href)\s*=\s*(.{6})", page)) == {'"data:'}
    assert not re.search(r"url\(|@import|<link", page)
    pictures = _pictures(page)
    # Camera, two masks and the difference; forgetting; selection; two curves; panels from all over the run.
    assert len(pictures) == 4 + 1 + 1 + 2 + 4
    assert all(picture is not None for picture in pictures)
    assert re.findall(r"What step (\d+) saw", page) == ["0", "3", "5", "8"]


def test_the_pictures_show_masks_in_class_colours_and_only_what_changed(tmp_path: Path) -> None:
    camera, given, adapted, changed = (picture[..., ::-1] for picture in _pictures(_page(tmp_path, _report()))[1:5])
    building, sky = CITYSCAPES19.palette[2], CITYSCAPES19.palette[10]
    assert camera.shape == given.shape == (*SIZE, 3)
    assert (given == building).all()
    assert (adapted[:, :32] == sky).all()
    assert (adapted[:, 32:] == building).all()
    assert (changed[:, :32] == sky).all()
    assert (changed[:, 32:, 0] == changed[:, 32:, 2]).all()


def test_the_legend_has_the_classes_of_the_masks_and_bars_their_colours(tmp_path: Path) -> None:
    page = _page(tmp_path, _report())
    legend = re.search(r'<p class="legend">(.*?)</p>', page, re.DOTALL)
    assert legend
    assert re.findall(r"</i>([^<]+)", legend.group(1)) == ["building", "sky"]
    assert page.count("width: 100.0%; background: rgb(128, 64, 128)") == 1


def test_wide_frames_are_shrunk_and_frames_without_a_pair_left_out(tmp_path: Path) -> None:
    mask = np.zeros((100, 1280), np.uint8)
    wide = ChangedFrame("wide", np.zeros((100, 1280, 3), np.uint8), {"given": mask, "adapted": mask}, 0.0)
    lonely = ChangedFrame("lonely", np.zeros((8, 8, 3), np.uint8), {"given": mask}, 0.0)
    page = _page(tmp_path, _report(changed=[wide, lonely]))
    assert [picture.shape for picture in _pictures(page)[1:5]] == [(50, 640, 3)] * 4
    assert "lonely" not in page


def test_a_run_folder_that_is_gone_or_empty_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not there any more" in _page(tmp_path, _report(run=tmp_path / "gone"))
    assert "No steps are logged." in _page(tmp_path, _report(run=tmp_path / "empty"))
    assert "Nothing was trained." in _page(tmp_path, _report())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_adaptation_report(tmp_path / "file" / "report.html", _report())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_difference_that_rounds_to_nothing_is_none(tmp_path: Path) -> None:
    given = _measures(0)
    near = {**given, "flip_agreement": given["flip_agreement"] + 0.0004, "effective_classes": 0.62}
    page = _page(tmp_path, _report(judgement={"candidates": {"given": given, "adapted": near}}))
    assert 'class="change"' not in page


def test_what_a_person_said_stands_before_the_verdict(tmp_path: Path) -> None:
    said = {
        "a": "hrda_lite", "b": HOSTILE, "sentence": "hrda_lite is more accurate", "disagreement": 0.07, "frames": 8,
        "answers": {"a": 27, "b": 8, "neither": 1, "unsure": 2}, "estimator": "The difference is a share.",
        "classes": [{"name": "road", "difference": -0.0302, "low": -0.05, "high": -0.0001, "asked": 20}],
    }  # fmt: skip
    report = _report("given")
    report = replace(report, verdict={**report.verdict, "chosen_by": "person", "person": said})
    page = write_adaptation_report(tmp_path / "report.html", report).read_text(encoding="utf-8")
    assert "A person judged: the given model is more accurate" in page
    assert page.index("What a person said") < page.index("What the verdict says, without labels")
    assert "was right in 27" in page
    assert re.search(r"road</td><td class=\"number\">-3.0</td><td class=\"number\">-5.0</td>.*\+0.0</td>.*20", page)
    assert HOSTILE not in page


def test_the_first_line_says_how_sure_the_verdict_is(tmp_path: Path) -> None:
    report = _report()
    sure = "Of 26 candidates that it adopted on its bench, 1 were worse by labels"
    page = _page(tmp_path, replace(report, verdict={**report.verdict, "sure": sure}))
    banner = page.split('<div class="banner')[1].split("</div>")[0]
    assert f"</strong>{sure}." in banner
