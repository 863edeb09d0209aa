"""docs/robot/reliability.md against the tests: each row of its list has a test or a reason, and the page shows them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tool(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability_table", repository / "tools" / "reliability_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_row_has_a_test_or_the_reason_why_not(tool: ModuleType, repository: Path) -> None:
    rows, files = tool.read_rows(repository), tool.files_of(repository)
    without = [row for row in rows.texts if row not in files]
    assert without == list(rows.untested), "a row without a test is listed under `untested`, with the reason"
    assert not sorted(set(files) - set(rows.texts)), "names of tests have ids that the list does not have"
    assert all(text.endswith(".") for text in [*rows.texts.values(), *rows.untested.values()])


def test_the_list_has_every_row_that_was_asked_for(tool: ModuleType, repository: Path) -> None:
    numbers = {"P": range(1, 9), "M": range(1, 12), "L": range(1, 11), "C": range(1, 9), "F": range(1, 13)}
    asked = [f"{kind}{number}" for kind, row in numbers.items() for number in row] + ["R1", "T3", "T9", "T10"]
    assert list(tool.read_rows(repository).texts) == asked


def test_the_page_shows_the_rows_and_tests_of_now(tool: ModuleType, repository: Path) -> None:
    _, lines, _ = tool.split_page((repository / tool.PAGE).read_text(encoding="utf-8"))
    now = tool.table(tool.read_rows(repository), tool.files_of(repository), tool.kept_results(lines))
    assert lines == now, "run .venv/bin/python tools/reliability_table.py"
    assert not {row: result for row, result in tool.kept_results(lines).items() if "failed" in result}


def test_an_id_selects_the_tests_that_name_it_and_no_other(tool: ModuleType, repository: Path) -> None:
    rows = tool.read_rows(repository).texts
    for file in (repository / "test").rglob("test_*.py"):
        for name in re.findall(r"^ *def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE):
            selected = [row for row in rows if tool.selection([row]) in name]
            assert selected == [row for row in rows if row in tool.ids_of(name)], (file, name)


REPORT = """<testsuites><testsuite>
<testcase classname="test.ros.test_x" name="test_m1_p2_it_holds[a]" time="1"/>
<testcase classname="test.ros.test_x" name="test_m1_p2_it_holds[b]" time="1"><skipped message="no ROS"/></testcase>
<testcase classname="test.ros.test_x" name="test_p2_and_this" time="1"><failure message="no">trace</failure></testcase>
<testcase classname="test.ros.test_x" name="test_without_an_id" time="1"/>
</testsuite></testsuites>"""


def test_results_are_counted_by_id_and_kept_until_the_next_run(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    results = tool.results_of(tmp_path / "report.xml")
    assert results == {"M1": "1 passed, 1 skipped", "P2": "1 failed, 1 passed, 1 skipped"}
    (tmp_path / "part.xml").write_text(REPORT.replace("m1_p2", "m1"))
    assert tool.results_of(tmp_path / "report.xml", tmp_path / "part.xml")["M1"] == "2 passed, 2 skipped"
    rows = tool.Rows({"P2": "It holds.", "M1": "It is so.", "M2": "Not yet.", "M3": "New."}, {"M2": "No time."})
    lines = tool.table(rows, {"P2": ["ros/test_x.py"], "M1": ["ros/test_x.py"], "M3": ["ros/test_y.py"]}, results)
    assert tool.kept_results(lines) == {**results, "M3": "not run"}
    assert lines[4] == "| M2 | Not yet. | `pytest -k _m2_` | No time. | no test |"


def test_ids_are_read_from_the_beginning_of_a_name(tool: ModuleType) -> None:
    assert tool.ids_of("test_p1_l10_a_frame_of_m3") == ["P1", "L10"]
    assert tool.ids_of("test_a_frame") == []
    assert tool.ids_of("test_h264_is_read") == [], "a letter and one or two figures"
