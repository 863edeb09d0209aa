"""The figures of the bench belong to the rules that are shipped, and say how sure the verdict is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hrda_core.adaptation.verdict import track_record
from hrda_core.adaptation.verdict.track_record import read_track_record, rules_hash, write_track_record


def test_the_figures_were_measured_with_these_rules() -> None:
    assert read_track_record().rules == rules_hash(), (
        "the verdict's rules changed: run benchmarks/verdict.py again, which writes the figures anew"
    )


def test_another_threshold_is_another_rule_and_another_comment_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = track_record.PATH.parent
    for name in track_record._RULES:
        (tmp_path / name).write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(track_record, "PATH", tmp_path / "track_record.json")
    before, rules = rules_hash(), tmp_path / "verdict.py"
    text = rules.read_text(encoding="utf-8")
    rules.write_text(f"# a comment\n{text}", encoding="utf-8")
    assert rules_hash() == before
    changed = re.sub(r"gain: float = [0-9.]+", "gain: float = 0.5", text)
    rules.write_text(changed, encoding="utf-8")
    assert rules_hash() != before


def test_the_sentence_says_how_often_it_was_wrong_or_what_decides_instead(tmp_path: Path) -> None:
    record = replace(
        read_track_record(), adopted_better=30, adopted_equal=9, adopted_worse=1, kept_better=12, cases=100
    )
    write_track_record(record, tmp_path / "record.json")
    assert "Of 40 candidates that it adopted on its bench, 1 were worse by labels" in record.sentence("instant")
    assert "missed 12 of 42 better candidates" in record.sentence("given")
    assert "--ask" in record.sentence("given")
