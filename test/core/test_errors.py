"""The exception tree."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hrda_core import errors
from hrda_core.errors import HrdaError, reason_of


def test_every_error_is_an_hrda_error_and_stands_in_the_drawing() -> None:
    for name in errors.__all__:
        member = getattr(errors, name)
        if isinstance(member, type):
            assert issubclass(member, errors.HrdaError)
            assert name in (errors.__doc__ or "")


def test_a_missing_package_is_named_as_pip_knows_it_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    with pytest.raises(errors.MissingPackageError, match=r"pip install no_such_package, .* pip install -e '\.\[bag\]'"):
        errors.require("no_such_package.part", "bag")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(errors.MissingPackageError, match=r"'Pillow' is needed here .* with: pip install Pillow, or"):
        errors.require("PIL", "bag")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    with pytest.raises(errors.MissingPackageError, match=r"'Pillow' is needed here .* run tools/robot_setup"):
        errors.require("PIL", "bag")


def test_an_import_that_fails_becomes_the_same_sentence_where_the_package_is_one_of_ours() -> None:
    ours, other = ModuleNotFoundError("no", name="onnx.helper"), ModuleNotFoundError("no", name="somebody_elses")
    assert "pip install onnx, or" in str(errors.missing_package(ours))
    assert errors.missing_package(other) is None


def test_an_import_that_fails_for_want_of_memory_is_no_missing_package() -> None:
    # As Python gives it: of the name of a library its last part.
    found = "libtorch_cpu.so: failed to map segment from shared object"
    library = ImportError(found, name="_C", path="/torch/site-packages/torch/_C.cpython-311-x86_64-linux-gnu.so")
    assert str(errors.missing_package(library)).endswith(
        f"'torch' is needed here and does not import ({found}); no memory is left for it: end other programs, or raise "
        "the limit ('ulimit -v')"
    )
    assert errors.missing_package(ImportError("no", name="_C", path="/torch/hrda_core/own.py")) is None


def test_the_packages_and_their_extras_are_those_of_setup_py(repository: Path) -> None:
    text = (repository / "setup.py").read_text(encoding="utf-8")
    for package, extra in errors.PACKAGES.values():
        block = re.search(rf'^    "{extra}": \[(.*?)\],$', text, re.MULTILINE | re.DOTALL)
        assert block is not None
        assert re.search(rf'"{package}[>=<]', block[1]), f"{package} is not in the extra {extra}"


def test_an_installed_package_is_returned() -> None:
    assert errors.require("json", "train").dumps([1]) == "[1]"


class MuteError(Exception):
    """It fails to say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error", [HrdaError(1_000_000 * "n"), OSError(36, "too long", 1_000_000 * "n"), ValueError("a\x1b[2J"), MuteError()]
)
def test_p8_a_reason_is_one_printable_line_of_bounded_length(error: Exception) -> None:
    assert len(reason_of(error)) < 1100
    assert reason_of(error).isprintable()


def test_p8_want_of_memory_without_a_word_is_said() -> None:
    assert reason_of(MemoryError()) == "no memory is left"
    assert reason_of(MemoryError("3 GiB")) == "MemoryError: 3 GiB"
