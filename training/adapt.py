"""`hrda adapt --bag DRIVE --model BUNDLE --out BUNDLE2`: a better model from a drive without labels.

    hrda adapt --bag drives/night --model models/hrda_lite --out models/night          # labelled images: packs/streets
    hrda adapt --bag drives/night --model models/hrda_lite --source packs/gta5 --out models/night
    hrda adapt --bag dusk --model models/orchard --source packs/streets --label_space to_orchard.yaml --out models/dusk
    hrda adapt --bag a.mcap b.mcap --topic /camera/front/image_raw --effort normal --mic true ...
    hrda adapt --bag drives/night --model models/hrda_lite --out models/night --effort instant    # trains nothing
    hrda adapt ... --ask                                           # then a person decides, in about two minutes

It selects frames, adapts, judges without labels and puts the best model into --out, with a report: the adapted one, the
instantly adapted one, or the given one if neither is better. The same command continues an interrupted run.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from hrda_core.adaptation.efforts import effort_named
from hrda_core.adaptation.request import Request
from hrda_core.errors import require
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import write_json

from .arguments import model_folder, parse_request
from .progress import ProgressPrinter
from .stop_request import StopRequest

if TYPE_CHECKING:
    from hrda_core.adaptation.adapt import Outcome
    from hrda_core.comparison.session import Session

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, adapt, and report the decision. Return the exit code."""
    read = {"effort": effort_named, "model": model_folder}
    request, json = parse_request(Request, argv, verb="adapt", about=__doc__, read=read)
    require("torch", "train")
    from hrda_core.adaptation.adapt import adapt
    from hrda_core.adaptation.stages.train import StoppedError
    from hrda_core.trainer.loop import Watch

    keep_big_buffers()
    stop = StopRequest()
    try:
        with ProgressPrinter() as printer:
            watch = Watch(progress=stop.seen(printer.step), say=printer.say, should_stop=stop)
            outcome = adapt(request, watch, printer.count, partial(_ask, request, printer))
    except StoppedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    _print(outcome)
    if json:
        write_json(json, outcome.to_dict())
    return 0


def _ask(request: Request, printer: ProgressPrinter, session: Session) -> None:
    from .compare_server import ask

    printer.close()
    try:
        ask(session, printer.say, open_browser=not request.no_open)
    except KeyboardInterrupt:
        printer.say(f"\n{len(session.answers)} answers are kept; the same command goes on: {request.command}")
        raise


_SENTENCES = {
    "given": "the given model stays. A copy of it is in",
    "instant": "the model with BatchNorm statistics of the recording is adopted. It is in",
    "adapted": "the adapted model is adopted. It is in",
}

_OF_A_PERSON = {
    "given": "the given model stays: a person found it more accurate. A copy of it is in",
    "instant": "the model with BatchNorm statistics of the recording is adopted: a person found it better. It is in",
    "adapted": "the adapted model is adopted: a person found it more accurate. It is in",
}


def _print(outcome: Outcome) -> None:
    from hrda_core.adaptation.verdict.track_record import read_track_record

    sentences = _OF_A_PERSON if outcome.chosen_by == "person" else _SENTENCES
    print(f"\n{sentences[outcome.choice]} {outcome.bundle}")
    if outcome.asked is not None:
        print(f"  - {outcome.asked.sentence}")
    if outcome.chosen_by == "verdict":
        print(f"  - {read_track_record().sentence(outcome.verdict.choice)}")
    if outcome.verdict.choice != "given":  # else its reasons are those against the candidates
        for reason in outcome.verdict.reasons:
            print(f"  - {reason}")
    for candidate, refusals in outcome.verdict.refusals.items():
        for refusal in refusals:
            print(f"  - not {candidate}: {refusal}")
    print(f"report: {outcome.report}")
    # A verdict that keeps the model changes nothing for the node; who chooses it may want it back in place of another.
    if outcome.choice != "given" or outcome.chosen_by != "verdict":
        print("on the running node:")
        print(f"  ros2 param set /segment_node model {outcome.bundle.resolve()}")
        print("  ros2 service call /segment_node/reload std_srvs/srv/Trigger")
