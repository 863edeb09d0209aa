"""The README's tables against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hrda_ros.outputs import OUTPUT_ENCODINGS
from hrda_ros.parameters import PARAMETERS


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_the_parameter_table_is_that_of_the_node(readme: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", readme, re.MULTILINE))
    spelled = {bool: lambda value: str(value).lower(), str: lambda value: value or '""'}
    expected = {spec.name: spelled.get(type(spec.default), str)(spec.default) for spec in PARAMETERS}
    assert rows == expected


def test_the_topic_table_names_every_mask_topic_with_its_encoding(readme: str) -> None:
    for topic, encoding in OUTPUT_ENCODINGS.items():
        row = next(line for line in readme.splitlines() if line.startswith("| ") and f"`~/{topic}`" in line)
        assert encoding in row


def test_every_link_leads_to_a_file(readme: str, repository: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith("http")]
    assert links
    assert not [link for link in links if not (repository / link).exists()]


def test_the_documentation_links_to_files_that_exist(repository: Path) -> None:
    broken = [
        f"{page.name}: {link}"
        for page in (repository / "docs").rglob("*.md")
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert not broken
