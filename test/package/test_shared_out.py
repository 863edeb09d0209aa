"""How several processes share the tests: those of a file stay together, and test/conftest.py names real tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def conftest(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("xdist")
    return next(found for found in request.config.pluginmanager.get_plugins() if hasattr(found, "SharedOut"))


def test_tests_of_a_file_or_of_a_graph_go_to_one_process_and_long_ones_that_stand_alone_to_any(conftest: Any) -> None:
    scope = conftest.SharedOut._split_scope
    assert scope(None, "test/core/test_labels.py::test_a") == scope(None, "test/core/test_labels.py::test_b[x-y::z]")
    assert scope(None, "test/ros/masks/test_codec.py::test_a") == scope(None, "test/ros/space/test_tally.py::test_b")
    assert scope(None, "test/core/test_labels.py::test_a") != scope(None, "test/core/test_memory.py::test_a")
    for apart in conftest.APART:
        assert scope(None, f"{apart}::test_a") != scope(None, f"{apart}::test_b")


def test_pytest_xdist_asks_it_for_the_scheduler(conftest: Any, request: pytest.FixtureRequest) -> None:
    hooks = request.config.pluginmanager.hook.pytest_xdist_make_scheduler.get_hookimpls()
    assert conftest in [found.plugin for found in hooks]


def test_each_name_is_of_a_folder_a_file_or_a_test(conftest: Any, repository: Path) -> None:
    for name in (*conftest.TOGETHER, *conftest.APART, *conftest.LONGEST):
        place, _, function = name.partition("::")
        assert (repository / place).exists(), name
        assert f"def {function}" in ((repository / place).read_text("utf-8") if function else "def "), name
