"""`hrda compare A B --bag DRIVE`: a person says which of two models is more accurate, in about two minutes.

    hrda compare models/hrda_lite models/night --bag drives/night
    hrda compare hrda_lite models/night --bag street.mp4 --no-open --port 8765      # on a robot, through ssh -L

Only pixels on which the models disagree are asked about. A page on this machine shows one after the other, with both
answers in random order. It ends as soon as the answers decide, or after --questions. The same command goes on with
what was interrupted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from hrda_core.errors import RecipeError
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import write_json

from .arguments import model_folder, parse_request
from .progress import ProgressPrinter

__all__ = ["CompareRequest", "main"]


@dataclass(frozen=True)
class CompareRequest:
    """The two models, and the drive on which they are compared.

    Attributes:
        models: two model bundles, A and B, or their names ('hrda models')
        bag: recordings, videos, folders of images, images
        topic: image topic of recordings; default: the only one
        out: folder of questions, answers and result; default: B.compare, beside B (beside A, or
            in your models' home, where B came with the package)
        frames: largest number of frames on which the models are run, evenly spaced
        questions: number of questions at which it ends at the latest
        port: port of the page on this machine; 0 = any that is free
        no_open: only print the address of the page
        backend: inference back end
        threads: CPU threads; 0 = all cores but one
        command: the command line, to be told how to go on
    """

    models: tuple[str, str]
    bag: tuple[Path, ...]
    topic: str = ""
    out: Path | None = None
    frames: int = 100
    questions: int = 120
    port: int = 0
    no_open: bool = False
    backend: str = "auto"
    threads: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        for name, value, most in (("frames", self.frames, 100_000), ("questions", self.questions, 1000)):
            if not 1 <= value <= most:
                raise RecipeError(f"--{name} is a number from 1 to {most}, not {value}")
        if not 0 <= self.port <= 65535:
            raise RecipeError(f"--port is a number from 0 to 65535, not {self.port}")


def main(argv: list[str]) -> int:
    """Parse, ask, and report which model is more accurate. Return the exit code."""
    request, json_file = parse_request(CompareRequest, argv, verb="compare", about=__doc__, positional="models")
    from hrda_core.comparison.drive import open_drive
    from hrda_core.comparison.session import RESULT_NAME, Settings, check_models, open_session
    from hrda_core.inference import Bundle

    from .compare_server import ask, check_port

    a, b = (Bundle.open(model_folder(word)) for word in request.models)
    check_models(a, b)
    check_port(request.port)
    keep_big_buffers()
    out = request.out or _usual_place(a.path, b.path)
    drive = open_drive(request.bag, request.topic)
    settings = Settings(request.frames, request.questions, request.backend, request.threads)
    with ProgressPrinter() as printer, open_session(out, a, b, drive, settings, printer.counter("frames")) as session:
        printer.close()
        left_out = session.disagreement.unreadable
        if left_out:
            printer.say(
                f"{left_out} of {session.disagreement.frames + left_out} frames cannot be read and are left out"
            )
        try:
            if not session.finished:
                ask(session, printer.say, port=request.port, open_browser=not request.no_open)
        except KeyboardInterrupt:
            print(
                f"\n{len(session.answers)} answers are kept in '{out}'; the same command goes on: {request.command}",
                file=sys.stderr,
            )
            return 130
        result = session.result()
        write_json(out / RESULT_NAME, result)
    print(result["sentence"])
    print(f"result: {out / RESULT_NAME}")
    if json_file:
        write_json(json_file, result)
    return 0


def _usual_place(a: Path, b: Path) -> Path:
    """Beside B, unless it came with the package: nothing is written into an install."""
    from hrda_core.inference.model_folders import is_shipped, models_home

    home = next((model.absolute().parent for model in (b, a) if not is_shipped(model)), models_home()) or Path()
    return home / f"{b.absolute().name}.compare"
