"""A finding has advice where it is not well, and only there."""

from __future__ import annotations

import pytest

from hrda_core.errors import BundleError
from hrda_core.findings import Finding, fail, of_error, ok


def test_advice_belongs_to_what_is_not_well_and_only_to_that() -> None:
    for state, advice in (("ok", "do this"), ("warn", ""), ("fail", ""), ("bad", "do this")):
        with pytest.raises(ValueError, match=r"advice|none of"):
            Finding("disk", state, "full", advice)


def test_a_finding_comes_back_as_it_was_from_plain_values() -> None:
    found = fail("disk", "full", "make room")
    assert Finding.from_dict(found.to_dict()) == found
    with pytest.raises(KeyError):
        Finding.from_dict({"subject": "disk"})


def test_of_an_errors_sentence_the_last_part_is_the_advice() -> None:
    found = of_error("model", "fail", BundleError("file 'a' is missing; it is 3 bytes; copy the bundle again, whole"))
    assert (found.text, found.advice) == ("file 'a' is missing; it is 3 bytes", "copy the bundle again, whole")
    assert of_error("model", "warn", "no advice here").text == "no advice here"


def test_a_finding_is_one_line_without_control_characters() -> None:
    assert "\n" not in ok("link", "a\nb\x1b[2J").text
    assert "\x1b" not in ok("link", "a\nb\x1b[2J").text
