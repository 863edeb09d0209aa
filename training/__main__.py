"""The `hrda` command. A verb's module is loaded when the verb is called, so `hrda --help` needs no torch.

    hrda                      list the verbs
    hrda VERB --help          options of one verb
    hrda train --config config/recipes/NAME.yaml

Exit status: 0 success, 1 a fault of ours (with traceback), 2 a user's mistake (one sentence), 130 interrupted, 141 the
reader of its output is gone, 143 ended by SIGTERM.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hrda_core import __version__
from hrda_core.errors import DataError, HrdaError, missing_package, shown
from hrda_core.libraries import check_libraries
from hrda_core.scratch import no_temporary_folder
from hrda_core.standard_streams import INTERRUPTED, is_of_streams, with_streams

__all__ = ["VERBS", "main"]

VERBS: dict[str, tuple[str, str]] = {
    "models": ("hrda_training.models", "list the networks with their size and cost, and the bundles on this machine"),
    "train": ("hrda_training.train", "train a network from a recipe"),
    "adapt": ("hrda_training.adapt", "adapt a model to recordings without labels, judge it, adopt or keep"),
    "night": ("hrda_training.night", "adapt on each finished recording of a folder, and move a link to what is better"),
    "compare": ("hrda_training.compare", "ask a person which of two models is more accurate on a drive"),
    "pack-source": ("hrda_training.pack_source", "make a compact, class-balanced excerpt of a labelled data set"),
    "bag": ("hrda_training.bag", "look into recordings: topics, rates, gaps, light, a contact sheet"),
    "predict": ("hrda_training.predict", "segment recordings, images or a video"),
    "export": ("hrda_training.export", "turn a checkpoint into a model bundle with ONNX graphs"),
    "import": ("hrda_training.import_checkpoint", "load an official checkpoint (HRDA, DAFormer, MIC) into a bundle"),
    "distill": ("hrda_training.distill", "train a slimmer network to give what a larger one gives"),
    "bench": ("hrda_training.bench", "time a bundle on this machine against what the machine could do"),
    "doctor": ("hrda_training.doctor", "look at this machine: what fits hrda_ros, and what to do where it does not"),
    "evaluate": ("hrda_training.evaluate", "score a bundle on labelled images"),
}
"""Verb -> (module with `main(argv) -> int`, help line). A new verb is one file and one row."""

_WITHOUT_LIBRARIES = ("doctor",)
"""Verbs that run where numpy, PyYAML or OpenCV do not import; they say so themselves."""

_LONGEST_SENTENCE = 4000  # characters

_NO_MEMORY = "no memory is left; end other programs, raise the limit ('ulimit -v'), or give less at once"


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    with _left_by_sigterm():
        return with_streams(lambda: _called(arguments))


@contextmanager
def _left_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an error would, so that unfinished files are removed; verbs that train do more."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _called(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"hrda_ros {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        return _fail("hrda", f"'{verb}' is not a verb; {_proposal(verb)}")
    return _run(verb, rest)


def _run(verb: str, arguments: list[str]) -> int:
    """Call the verb's `main`; only mistakes that a user can mend become a sentence, all else keeps its traceback."""
    try:
        if verb not in _WITHOUT_LIBRARIES:
            _check_working_folder()
            check_libraries()
        status: int = importlib.import_module(VERBS[verb][0]).main(arguments)
    except HrdaError as error:
        return _fail(f"hrda {verb}", str(error))
    except ImportError as error:
        if (sentence := missing_package(error)) is None:
            raise
        return _fail(f"hrda {verb}", sentence)
    except OSError as error:
        if is_of_streams(error):  # told where the streams are
            raise
        if (sentence := _refusal(error)) is None:
            raise
        return _fail(f"hrda {verb}", sentence)
    except MemoryError:
        return _fail(f"hrda {verb}", _NO_MEMORY)
    except UnicodeEncodeError as error:
        if (name := _no_text(error.object)) is None:
            raise
        found = f"the file name '{shown(name.strip())}' is no text in UTF-8"
        return _fail(f"hrda {verb}", f"{found}, and lists of names must be; rename the file")
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop from"):  # as `Path.resolve` says it before Python 3.13
            raise
        return _fail(f"hrda {verb}", f"{shown(error)}: that link leads to itself; remove it, or give another path")
    except KeyboardInterrupt:
        print(f"hrda {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _check_working_folder() -> None:
    """Where it was deleted, every relative path fails, and what torch loads ends the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise DataError(
            f"the working folder cannot be used ({error.strerror}), it was deleted or moved; change to another ('cd')"
        ) from error


def _refusal(error: OSError) -> str | None:
    """What the system refused, in a sentence; None = it is nothing that a user can mend."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ('{error.filename}')" if error.filename else ""
        return f"the disk is full{where}; make room, or let TMPDIR name a folder on another disk"
    if error.errno == errno.EFBIG:
        where = f" ('{shown(error.filename)}')" if error.filename else ""
        return f"a file would be larger than this process may write{where}; raise the limit, see 'ulimit -f'"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"no more files can be opened ({error.strerror}); raise the limit, such as by 'ulimit -n 1024'"
    if error.errno == errno.ENOMEM:
        return _NO_MEMORY
    if (sentence := no_temporary_folder(error)) is not None:
        return sentence
    if error.errno and error.filename:  # without a path it is nothing that a user can look at
        found = f"'{shown(error.filename)}' cannot be used ({error.strerror})"
        return f"{found}; give another path, or make it readable and writable for this user"
    return None


def _no_text(text: str) -> str | None:
    """The line of a text that holds a name which is no text, as Python spells its bytes; None = there is no such."""
    return next((line for line in text.splitlines() if any("\udc80" <= letter <= "\udcff" for letter in line)), None)


def _fail(command: str, sentence: str) -> int:
    if len(sentence) > _LONGEST_SENTENCE:  # it quotes a name of megabytes, and what to do stands at its end
        half = _LONGEST_SENTENCE // 2
        sentence = f"{sentence[:half]} \u2026 {sentence[-half:]}"
    print(f"{command}: error: {sentence}", file=sys.stderr)
    return 2


def _usage() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(["usage: hrda VERB [options]", "", *lines, "", "'hrda VERB --help' lists the options of a verb."])


def _proposal(verb: str) -> str:
    nearest = difflib.get_close_matches(verb, VERBS, n=1)
    return f"did you mean '{nearest[0]}'?" if nearest else f"choose one of {', '.join(VERBS)}"


if __name__ == "__main__":
    sys.exit(main())
