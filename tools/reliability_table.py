"""Writes the table of docs/robot/reliability.md from the names of the tests and the results of a run.

    .venv/bin/python -m pytest -k "$(.venv/bin/python tools/reliability_table.py --select)" --junitxml report.xml
    .venv/bin/python tools/reliability_table.py --junit report.xml    # the table, with these results
    .venv/bin/python tools/reliability_table.py                       # after a test has come or gone; results stay

A test names what it checks: `test_p1_l1_...` is a test of P1 and L1. What each id stands for, and the reason where it
has no test, are in test/reliability_rows.yaml.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from hrda_core.standard_streams import with_streams

ROOT = Path(__file__).resolve().parents[1]
ROWS = Path("test/reliability_rows.yaml")
PAGE = Path("docs/robot/reliability.md")
BEGIN, END = "<!-- table: tools/reliability_table.py -->", "<!-- end of the table -->"
HEAD = ("| id | what holds, or what is done | command | tests | their last run |", "|---|---|---|---|---|")
_PREFIX = re.compile(r"test_((?:[a-z]\d{1,2}_)+)")
_NOT_RUN = "not run"


@dataclass(frozen=True)
class Rows:
    """The list: `texts` is id to sentence, `untested` is id to the reason why it has no test."""

    texts: Mapping[str, str]
    untested: Mapping[str, str]


def read_rows(root: Path) -> Rows:
    """Return the list of a source tree."""
    content = yaml.safe_load((root / ROWS).read_text(encoding="utf-8"))
    return Rows(content["rows"], content["untested"] or {})


def ids_of(name: str) -> list[str]:
    """Return the ids in the name of a test, as in the list: `test_p1_l1_x` has P1 and L1."""
    match = _PREFIX.match(name)
    return match.group(1).upper().strip("_").split("_") if match else []


def named_tests(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, function) of every test whose name has an id, in order."""
    for file in sorted((root / "test").rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if re.search(r"def test_[a-z]\d+_", text):
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef) and ids_of(node.name):
                    yield file.relative_to(root), node.name


def files_of(root: Path) -> dict[str, list[str]]:
    """Return id to the files that have tests of it."""
    files: dict[str, list[str]] = {}
    for file, name in named_tests(root):
        for row in ids_of(name):
            found = files.setdefault(row, [])
            if file.as_posix() not in found:
                found.append(file.as_posix())
    return files


def results_of(*reports: Path) -> dict[str, str]:
    """Return id to what became of its cases, by the JUnit reports of a run or its parts: `31 passed, 1 skipped`."""
    outcomes: dict[str, Counter[str]] = {}
    for case in (case for report in reports for case in ET.parse(report).iter("testcase")):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        for row in ids_of(case.get("name", "")):
            outcomes.setdefault(row, Counter())[outcome] += 1
    order = ("failed", "passed", "skipped")
    return {row: ", ".join(f"{count[name]} {name}" for name in order if count[name]) for row, count in outcomes.items()}


def table(rows: Rows, files: Mapping[str, list[str]], results: Mapping[str, str]) -> list[str]:
    """Return the lines of the table."""
    lines = list(HEAD)
    for row, text in rows.texts.items():
        where = ", ".join(f"`{file}`" for file in files.get(row, [])) or rows.untested.get(row, "none, and no reason")
        result = results.get(row, _NOT_RUN) if row in files else "no test"
        lines.append(f"| {row} | {text} | `pytest -k {selection([row])}` | {where} | {result} |")
    return lines


def split_page(page: str) -> tuple[str, list[str], str]:
    """Return what stands before the table, its lines, and what stands behind it."""
    before, rest = page.split(BEGIN + "\n")
    lines, after = rest.split(END)
    return before + BEGIN + "\n", lines.strip().splitlines(), END + after


def kept_results(lines: list[str]) -> dict[str, str]:
    """Return id to the result that a table shows."""
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(HEAD)]
    return {cell[1]: cell[-2] for cell in cells if cell[-2] != "no test"}


def selection(rows: list[str]) -> str:
    """Return the expression for pytest's `-k` that selects the tests of these rows."""
    return " or ".join(f"_{row.lower()}_" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    """Write the table, or print the expression; the exit code is 1 if a test of the report has failed."""
    parser = argparse.ArgumentParser(description="The table of docs/robot/reliability.md.")
    parser.add_argument("--junit", type=Path, nargs="+", help="reports of a run, as pytest --junitxml writes them")
    parser.add_argument("--select", nargs="*", metavar="ID", help="print what pytest -k takes for some rows or all")
    options = parser.parse_args(arguments)
    rows = read_rows(ROOT)
    if options.select is not None:
        print(selection(options.select or list(rows.texts)))
        return 0
    before, lines, after = split_page((ROOT / PAGE).read_text(encoding="utf-8"))
    results = {**kept_results(lines), **(results_of(*options.junit) if options.junit else {})}
    written = "\n".join(table(rows, files_of(ROOT), results)) + "\n"
    (ROOT / PAGE).write_text(before + written + after, encoding="utf-8")
    return int(any("failed" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(with_streams(main, "reliability_table"))
