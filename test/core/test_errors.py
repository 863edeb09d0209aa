"""The exception tree."""

from __future__ import annotations

import pytest

from hrda_core import errors


def test_every_error_is_an_hrda_error_and_stands_in_the_drawing() -> None:
    for name in errors.__all__:
        member = getattr(errors, name)
        if isinstance(member, type):
            assert issubclass(member, errors.HrdaError)
            assert name in (errors.__doc__ or "")


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(errors.MissingPackageError, match=r"pip install 'hrda_ros\[train\]'"):
        errors.require("no_such_package_anywhere", "train")


def test_an_installed_package_is_returned() -> None:
    assert errors.require("json", "train").dumps([1]) == "[1]"
