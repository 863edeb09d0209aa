"""The README: short, and its topics and parameters are those of the code (on the page of the node)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrda_ros.masks.outputs import OUTPUT_ENCODINGS


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_ninety_lines_and_nine_hundred_words(readme: str) -> None:
    assert len(readme.splitlines()) <= 90
    assert len(readme.split()) <= 900


def test_it_says_what_the_software_cannot_do(readme: str) -> None:
    limits = readme.split("## What it cannot do")[1].split("\n## ")[0]
    for subject in ("Classes", "thin", "GPU", "Training"):
        assert subject in limits


def test_the_topics_that_it_names_are_published(readme: str) -> None:
    for topic in ("labels", "overlay"):
        assert f"`~/{topic}` ({OUTPUT_ENCODINGS[topic]}" in readme


def test_the_page_of_the_node_names_every_mask_topic_with_its_encoding(repository: Path) -> None:
    page = (repository / "docs" / "robot" / "node.md").read_text(encoding="utf-8")
    for topic, encoding in OUTPUT_ENCODINGS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `~/{topic}`"))
        assert encoding in row
