"""tools/interpreters.py: which Python a new environment gets, and one sentence where none fits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pythons import one_sentence, stand_in, tool_module


@pytest.fixture
def tool():
    """The file as a module."""
    return tool_module("interpreters")


@pytest.fixture
def machine(tool, tmp_path, monkeypatch):
    """A machine without a Python, but for those that a test puts into the folders `usr/bin` and `.pyenv`."""
    monkeypatch.setattr(tool.sys, "executable", str(tmp_path / "none"))
    monkeypatch.setattr(tool.Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/usr/bin")
    monkeypatch.setattr(tool, "PYTHONS", ("3.11", "3.12", "3.10"))
    monkeypatch.delenv("PYTHON", raising=False)
    return tmp_path


def test_the_python_of_a_new_environment_does_not_depend_on_where_it_is_found(tool, machine):
    stand_in(machine / "usr" / "bin" / "python3", "3.10")
    assert tool.find_python().version == "3.10"
    stand_in(machine / ".pyenv" / "versions" / "3.12.1" / "bin" / "python3", "3.12")
    assert tool.find_python().version == "3.12"
    stand_in(machine / "usr" / "bin" / "python3.11", "3.11")
    assert tool.find_python().version == "3.11"


def test_a_python_that_can_make_environments_is_preferred(tool, machine):
    stand_in(machine / "usr" / "bin" / "python3.11", "3.11", venv=False)
    stand_in(machine / "usr" / "bin" / "python3.12", "3.12")
    assert tool.find_python().version == "3.12"


def test_pythons_of_other_versions_are_one_sentence(tool, machine):
    stand_in(machine / "usr" / "bin" / "python3", "3.9")
    with pytest.raises(tool.SetupError, match=r"3\.10, 3\.11 or 3\.12 is needed.*found are: 3\.9; install") as caught:
        tool.find_python()
    assert one_sentence(str(caught.value))


def test_the_named_python_is_taken(tool, machine, monkeypatch):
    monkeypatch.setenv("PYTHON", str(stand_in(machine / "opt" / "bin" / "mine", "3.10")))
    assert str(tool.named_python()) == f"Python 3.10 ({machine}/opt/bin/mine)"


@pytest.mark.parametrize(("version", "sentence"), [("3.9", r"is Python 3\.9, and the wheels"), ("", "is no Python")])
def test_a_named_python_that_does_not_fit_is_one_sentence(tool, machine, monkeypatch, version, sentence):
    monkeypatch.setenv("PYTHON", str(stand_in(machine / "opt" / "bin" / "mine", version)))
    with pytest.raises(tool.SetupError, match=rf"PYTHON=.*{sentence}.*leave PYTHON out") as caught:
        tool.named_python()
    assert one_sentence(str(caught.value))


def test_this_very_python_is_found_as_what_it_is(tool):
    found = tool.ask(sys.executable)
    assert found.version == "{}.{}".format(*sys.version_info)
    assert Path(found.prefix) == Path(sys.base_prefix)


def test_missing_venv_module_is_one_sentence(tool, machine):
    python = stand_in(machine / "usr" / "bin" / "python3.11", "3.11", venv=False)
    with pytest.raises(tool.SetupError, match=r"lacks the module venv.*python3\.11-venv"):
        tool.check_venv_module(tool.ask(str(python)))


def test_the_environment_is_clean_of_a_sourced_distribution(tool, monkeypatch, tmp_path):
    for name in tool.FOREIGN_VARIABLES:
        monkeypatch.setenv(name, "/opt/ros/jazzy")
    monkeypatch.setenv("PATH", "/opt/ros/jazzy/bin:/usr/bin")
    values = tool.clean_environment(tmp_path)
    left = set(tool.FOREIGN_VARIABLES) & set(values)
    assert left == {"VIRTUAL_ENV"}
    assert values["VIRTUAL_ENV"] == str(tmp_path)
    assert values["PATH"] == f"{tmp_path}/bin:/usr/bin"
