"""The `hrda` command: its table of verbs, its exit statuses, and that asking for help loads nothing heavy."""

from __future__ import annotations

import errno
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrda_core import __version__
from hrda_core.errors import DataError
from hrda_training import __main__ as command


@pytest.fixture
def verb(monkeypatch):
    """Puts a verb `probe` in the table; set `.main` to what it does."""
    module = SimpleNamespace(main=lambda argv: 0)
    monkeypatch.setitem(sys.modules, "hrda_training.probe", module)
    monkeypatch.setitem(command.VERBS, "probe", ("hrda_training.probe", "a verb for this test"))
    return module


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["help"]])
def test_help_lists_every_verb(argv, capsys):
    assert command.main(argv) == 0
    shown = capsys.readouterr().out
    for name, (_, text) in command.VERBS.items():
        assert name in shown
        assert text in shown


def test_version_is_that_of_the_package(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"hrda_ros {__version__}"


def test_a_verb_gets_the_rest_of_the_arguments_and_its_status_is_returned(verb):
    seen = []

    def main(argv):
        seen.extend(argv)
        return 7

    verb.main = main
    assert command.main(["probe", "--help", "x"]) == 7
    assert seen == ["--help", "x"]


def test_arguments_come_from_the_command_line_by_default(verb, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hrda", "probe"])
    verb.main = lambda argv: len(argv)
    assert command.main() == 0


def test_an_unknown_verb_proposes_the_nearest(capsys):
    assert command.main(["trian"]) == 2
    assert capsys.readouterr().err == "hrda: error: 'trian' is not a verb; did you mean 'train'?\n"


def test_a_verb_far_from_all_gets_the_whole_list(capsys):
    assert command.main(["qqqqqq"]) == 2
    shown = capsys.readouterr().err
    assert all(name in shown for name in command.VERBS)


def test_a_users_mistake_is_one_sentence(verb, capsys):
    def main(argv):
        raise DataError("the folder 'x' has no images; give a folder with .png or .jpg files")

    verb.main = main
    assert command.main(["probe"]) == 2
    expected = "hrda probe: error: the folder 'x' has no images; give a folder with .png or .jpg files\n"
    assert capsys.readouterr().err == expected


def test_an_interrupt_ends_with_130(verb, capsys):
    def main(argv):
        raise KeyboardInterrupt

    verb.main = main
    assert command.main(["probe"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_c4_a_full_disk_is_one_sentence_wherever_it_shows(verb, capsys):
    def main(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/graph.onnx")

    verb.main = main
    assert command.main(["probe"]) == 2
    assert capsys.readouterr().err.startswith("hrda probe: error: the disk is full ('/tmp/graph.onnx'); make room")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "no more files can be opened (Too many open files); raise"),
        (
            OSError(errno.EFBIG, "File too large", "/tmp/x"),
            "a file would be larger than this process may write ('/tmp/x'",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory", "/bin/x"), "no memory is left; end other programs"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/']"),
            "no folder for temporary files can be written to (No usable temporary directory found in ['/']); make room",
        ),
        (MemoryError(), "no memory is left; end other programs"),
    ],
)
def test_f8_a_limit_of_the_process_is_one_sentence(verb, capsys, error, said):
    def main(argv):
        raise error

    verb.main = main
    assert command.main(["probe"]) == 2
    assert capsys.readouterr().err.startswith(f"hrda probe: error: {said}")


def test_f7_a_path_that_the_system_refuses_is_one_sentence_without_its_control_characters(verb, capsys):
    def main(argv):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/\x1b[31m\n/a.bag")

    verb.main = main
    assert command.main(["probe"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hrda probe: error: '/data/\ufffd[31m\ufffd/a.bag' cannot be used (Permission denied); give")


def test_f7_a_file_name_that_is_no_text_is_one_sentence(verb, capsys):
    def main(argv):
        "# 1 of 2 cannot be used\n  - a\udce9.png\n".encode()

    verb.main = main
    assert command.main(["probe"]) == 2
    assert "the file name '- a\ufffd.png' is no text in UTF-8" in capsys.readouterr().err


def test_f5_a_sentence_that_quotes_a_name_of_megabytes_is_shortened_and_keeps_its_end(verb, capsys):
    def main(argv):
        raise DataError(f"'{'a' * 10_000_000}' is no image; give another")

    verb.main = main
    assert command.main(["probe"]) == 2
    said = capsys.readouterr().err
    assert len(said) < 5000
    assert said.startswith("hrda probe: error: 'aaaa")
    assert said.endswith("aaaa' is no image; give another\n")


def test_f7_a_working_folder_that_was_deleted_is_one_sentence(verb, capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    verb.main = lambda argv: Path("there").absolute() and 0
    assert command.main(["probe"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hrda probe: error: the working folder cannot be used (No such file or directory), it was")
    assert said.endswith("change to another ('cd')\n")


def test_f9_a_link_that_leads_to_itself_is_one_sentence(verb, capsys, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    def main(argv):
        loop.resolve(strict=True)

    verb.main = main
    assert command.main(["probe"]) == 2
    assert "loop" in capsys.readouterr().err


def test_a_package_whose_libraries_do_not_fit_is_one_sentence_and_a_fault_of_ours_is_none(verb, capsys):
    def main(argv):
        raise error

    verb.main = main
    error = ImportError("libcudart.so.12: cannot open shared object file", name="torch._C")
    assert command.main(["probe"]) == 2
    assert "'torch' is needed here and does not import (libcudart.so.12: cannot" in capsys.readouterr().err
    error = ImportError("cannot import name 'x'", name="hrda_core.errors")
    with pytest.raises(ImportError, match="cannot import name"):
        command.main(["probe"])


def test_another_error_of_the_system_keeps_its_traceback(verb):
    def main(argv):
        raise OSError(errno.EIO, "Input/output error")

    verb.main = main
    with pytest.raises(OSError, match="Input/output"):
        command.main(["probe"])


def test_a_fault_of_ours_keeps_its_traceback(verb):
    def main(argv):
        raise ZeroDivisionError

    verb.main = main
    with pytest.raises(ZeroDivisionError):
        command.main(["probe"])


@pytest.mark.parametrize("name", sorted(command.VERBS))
def test_every_verb_answers_help(name, capsys):
    pytest.importorskip("torch")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(command.main([name, "--help"]))
    assert ended.value.code == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(command.VERBS))
def test_every_verb_answers_help_where_python_leaves_docstrings_out(name, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(importlib.import_module(command.VERBS[name][0]), "__doc__", None)  # as `python -OO` does
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(command.main([name, "--help"]))
    assert ended.value.code == 0
    assert capsys.readouterr().out


def test_help_and_mistakes_load_neither_torch_nor_numpy():
    code = (
        "import sys; from hrda_training.__main__ import main; main(['--help']); main(['trian']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'cv2', 'yaml')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
