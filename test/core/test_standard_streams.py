"""`hrda` where its output is closed, is not read to its end, or has no room: it ends as other programs do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hrda_core.standard_streams import with_streams

COMMAND = [sys.executable, "-m", "hrda_training"]
MAIN = "from hrda_training.__main__ import main; raise SystemExit(main(['--help']))"
FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")


def call(*arguments, stdout, stderr=subprocess.PIPE, unbuffered=""):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run([*COMMAND, *arguments], stdout=stdout, stderr=stderr, text=True, env=environment)


@pytest.fixture
def nobody_reads():
    """The writing end of a pipe whose reader is gone, as behind `| head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["models"]], ids=["help", "a verb"])
def test_where_nobody_reads_any_more_it_ends_without_a_word(nobody_reads, arguments, unbuffered):
    done = call(*arguments, stdout=nobody_reads, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_mistake_that_nobody_reads_is_no_fault_of_ours(nobody_reads):
    assert call("qqq", stdout=nobody_reads, stderr=nobody_reads).returncode == 141


WRITES_AND_SAYS = {
    "a file": "with whole_file(out) as part: print('x', flush=True)",
    "a folder": "with replaced_folder(out, 'result.json') as folder: print('x', flush=True)",
}


@pytest.mark.parametrize("what", WRITES_AND_SAYS)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_where_nobody_reads_any_more_no_file_that_is_being_written_is_blamed(tmp_path, nobody_reads, stream, what):
    block = WRITES_AND_SAYS[what].replace("flush=True", f"flush=True, file=sys.{stream}")
    code = (
        "import pathlib, sys; from hrda_core.standard_streams import with_streams\n"
        "from hrda_core.whole_files import replaced_folder, whole_file\n"
        f"def write(out):\n    {block}\n"
        "sys.exit(with_streams(lambda: write(pathlib.Path(sys.argv[1]))))"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: nobody_reads}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], text=True, **streams)
    assert (done.returncode, done.stderr or "") == (141, "")
    assert list(tmp_path.iterdir()) == []


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["models"]], ids=["help", "a verb"])
def test_c4_output_that_the_disk_has_no_room_for_is_one_sentence(arguments, unbuffered):
    with open(FULL, "w") as full:
        done = call(*arguments, stdout=full, unbuffered=unbuffered)
    assert done.returncode == 2
    assert done.stderr == (
        "hrda: error: what it prints cannot be written (the disk is full); make room, or send its output to another "
        "place\n"
    )


def test_f8_output_beyond_the_largest_size_of_a_file_is_one_sentence(tmp_path):
    run = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); {MAIN}"
    with open(tmp_path / "out", "wb") as out:
        done = subprocess.run([sys.executable, "-c", run], stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "hrda: error: what it prints cannot be written (the largest size of a file is reached"
    )


@needs_full
def test_c4_a_mistake_that_cannot_be_told_keeps_its_exit_code():
    with open(FULL, "w") as full:
        assert call("qqq", stdout=full, stderr=full).returncode == 2


def test_no_file_gets_the_number_of_a_closed_stream_into_which_libraries_print(tmp_path):
    code = (
        "import os, sys; from hrda_core.standard_streams import with_streams;"
        "sys.exit(with_streams(lambda: [print('x'), os.open(sys.argv[1], os.O_CREAT)][1]))"
    )
    shell = f'exec "{sys.executable}" -c "{code}" "{tmp_path / "file"}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell]).returncode > 2


TOOLS = ["tools/mutate.py --list", "tools/reliability_table.py --select"]


@pytest.mark.parametrize("line", TOOLS, ids=lambda line: line.split()[0])
def test_tools_end_as_the_command_does_where_nobody_reads_any_more(nobody_reads, repository, line):
    script, option = line.split()
    command = [sys.executable, str(repository / script), option]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, stdout=nobody_reads, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (141, "")


BENCHMARKS = ["benchmarks/recording_workers.py"]


@pytest.mark.parametrize("script", BENCHMARKS)
def test_a_benchmark_that_is_interrupted_ends_with_one_word(repository, script):
    import_it = f"import runpy, sys; sys.argv = ['{repository / script}', '--help']; import argparse"
    interrupt = "def interrupt(*_): raise KeyboardInterrupt\nargparse.ArgumentParser.parse_args = interrupt"
    run = f"{import_it}\n{interrupt}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    name = script.rpartition("/")[2].removesuffix(".py")
    assert (done.returncode, done.stderr) == (130, f"{name}: interrupted\n")


def test_an_interrupt_that_a_command_leaves_to_others_is_one_word(capsys):
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert with_streams(interrupted, "make_drive") == 130
    assert capsys.readouterr().err == "make_drive: interrupted\n"


def test_a_broken_pipe_that_is_none_of_the_streams_keeps_its_traceback(nobody_reads):
    code = (
        "import os; from hrda_core.standard_streams import with_streams;"
        f"with_streams(lambda: os.write({nobody_reads}, b'x'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, pass_fds=[nobody_reads])
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr
