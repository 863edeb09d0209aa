"""numpy, PyYAML and OpenCV: where they do not import, one sentence says what to run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hrda_core.errors import MissingPackageError
from hrda_core.libraries import check_libraries
from hrda_training.__main__ import main

OF_NUMPY_1 = """
import sys
print("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.2.6\\nAttributeError: _ARRAY_API not found",
      file=sys.stderr)
raise ImportError("numpy.core.multiarray failed to import")
"""
"""What `import cv2` does beside a numpy of the other binary interface; test_robot_setup.py has the real one."""


@pytest.fixture
def opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is imported in place of OpenCV."""
    for name in [name for name in sys.modules if name == "cv2" or name.startswith("cv2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "cv2.py"


def test_libraries_that_import_together_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check_libraries()
    assert capsys.readouterr() == ("", "")


def test_what_a_library_says_while_it_imports_is_passed_on(opencv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opencv.write_text("import sys\nprint('a warning', file=sys.stderr)\n")
    check_libraries()
    assert capsys.readouterr().err == "a warning\n"


def test_an_opencv_for_another_numpy_is_one_sentence(
    opencv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opencv.write_text(OF_NUMPY_1)
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")
    assert main(["models"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        "hrda models: error: OpenCV (cv2) was built for another numpy and does not import beside numpy "
    )
    assert "run tools/robot_setup" in told
    assert told.count("\n") == 1


def test_an_opencv_that_is_broken_otherwise_says_why(opencv: Path) -> None:
    opencv.write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    with pytest.raises(MissingPackageError, match=r"'cv2' is needed and does not import \(libGL.so.1"):
        check_libraries()


def test_without_ros_pip_is_named(opencv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opencv.write_text("raise ImportError('gone')\n")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install -e '\.\[runtime\]'"):
        check_libraries()
